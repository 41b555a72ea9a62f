"""What a child process requests of the kernel, and how its parent kills it and says how it ended.

Systems without ``prctl`` get no request.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_libc = ctypes.CDLL(None)
_OOM_SCORE = Path("/proc/self/oom_score_adj")
_OOM_WORST = 1000


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, and end now if that already happened.

    ``parent`` is the process id that the caller believes its parent to have.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def set_name(name: str) -> None:
    """Set the name that ``ps`` and ``top`` show, cut to 15 bytes."""
    _prctl(_PR_SET_NAME, ctypes.create_string_buffer(name.encode()[:15]))


def die_before_parent() -> None:
    """Have the kernel, when memory runs out, kill this process rather than its parent, see proc(5)."""
    with contextlib.suppress(OSError):
        _OOM_SCORE.write_text(str(min(int(_OOM_SCORE.read_text()) + 500, _OOM_WORST)), encoding="ascii")


def kill(pid: int) -> None:
    """Kill a process. One that is gone already is no error."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def describe(status: int) -> str:
    """Say in words how a process ended; ``status`` is negative for a signal."""
    if status >= 0:
        return f"ended with exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"


def _prctl(option: int, argument: object) -> None:
    if sys.platform == "linux":
        _libc.prctl(option, argument, 0, 0, 0)
