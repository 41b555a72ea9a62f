"""A program on a pseudo-terminal: what a person types, and what the person sees."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import termios
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from typing_extensions import Self


def _take_terminal() -> None:
    """Make standard input the terminal of this session, so that Ctrl-C is a signal."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Terminal:
    """A program whose standard input and output are a terminal of 80 columns and 24 lines.

    ``text`` is all that it has written so far.
    """

    def __init__(self, command: Sequence[object], folder: Path) -> None:
        self._ours, self._theirs = os.openpty()
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.mode_before = termios.tcgetattr(self._theirs)
        self.text = ""
        self.process = subprocess.Popen(
            [str(part) for part in command],
            cwd=folder,
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"},
            preexec_fn=_take_terminal,  # noqa: PLW1509 - it makes one system call
        )

    def press(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def wait_for(self, wanted: str, timeout: float = 20.0) -> None:
        """Wait until the program writes something that it has not written at the last call."""
        end = time.monotonic() + timeout
        seen = ""
        while wanted not in seen:
            left = end - time.monotonic()
            assert left > 0, f"{wanted!r} never came:\n{self.text[-3000:]}"
            if select.select([self._ours], [], [], left)[0]:
                part = os.read(self._ours, 65536).decode("utf-8", "replace")
                seen += part
                self.text += part

    def wait(self, timeout: float = 20.0) -> int:
        """Wait for the end of the program, and return its exit status."""
        end = time.monotonic() + timeout
        while self.process.poll() is None:
            assert time.monotonic() < end, f"it does not end:\n{self.text[-3000:]}"
            self._drain(0.05)
        self._drain(0.0)
        return self.process.returncode

    def _drain(self, timeout: float) -> None:
        while select.select([self._ours], [], [], timeout)[0]:
            self.text += os.read(self._ours, 65536).decode("utf-8", "replace")

    @property
    def mode(self) -> list[Any]:
        return termios.tcgetattr(self._theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._ours)
        os.close(self._theirs)
