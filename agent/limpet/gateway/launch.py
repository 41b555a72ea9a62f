"""Starting the gateway: a new Python, as it needs neither numpy nor a runtime. Imports next to nothing."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

_START = (
    "import sys; parent, fd, *sys.path[:] = sys.argv[1:]; from limpet.gateway.main import main; main(parent, fd)"
)
"""As ``limpet.fork.command``: ``python -m`` would look for modules in the working directory first."""

_FOR_THE_DAEMON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that a terminal sends to all of its processes. The daemon ends the gateway by SIGKILL."""


def spawn(end: socket.socket) -> int:
    """Start the gateway with this end of the socket to it. Return its process id. ``OSError`` if that fails."""
    end.set_inheritable(True)
    return os.posix_spawn(
        sys.executable,
        [sys.executable, "-c", _START, str(os.getpid()), str(end.fileno()), *filter(None, sys.path)],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)],
        setsigmask=_FOR_THE_DAEMON,
    )
