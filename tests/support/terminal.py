"""A program on a real pseudo-terminal, and what it writes there."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import struct
import subprocess
import termios
import threading
from typing import TYPE_CHECKING, Any

from support.broker import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from typing_extensions import Self

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Terminal:
    """Runs a command in a session of its own, whose terminal this is."""

    def __init__(self, command: Sequence[str | Path], rows: int = 24, columns: int = 80, **options: Any) -> None:
        self._master, slave = os.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(slave)
        environment = {**os.environ, "TERM": "xterm-256color"}
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - one system call
            **options,
        )  # fmt: skip
        self._slave = slave
        self._written = bytearray()
        self._found = 0
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
            self.process.kill()
        self.process.wait()
        os.close(self._slave)  # the last one: reading ends
        self._thread.join()
        os.close(self._master)

    @property
    def text(self) -> str:
        """All that was written, without escape sequences."""
        return _ESCAPE.sub("", self.raw)

    @property
    def raw(self) -> str:
        return self._written.decode(errors="replace")

    @property
    def settings(self) -> list[Any]:
        """The settings of the terminal, such as whether it echoes."""
        return termios.tcgetattr(self._slave)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def wait_text(self, text: str, timeout: float = 20.0) -> None:
        """Wait until a text was written."""
        wait_until(lambda: text in self.text, timeout)

    def wait_for(self, text: str, timeout: float = 20.0) -> None:
        """Wait until a text was written after what the last call waited for."""

        def is_there() -> bool:
            at = self.raw.find(text, self._found)
            self._found = self._found if at < 0 else at + len(text)
            return at >= 0

        wait_until(is_there, timeout)

    def wait(self) -> int:
        return self.process.wait(20)

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while data := os.read(self._master, 1 << 16):
                self._written += data
