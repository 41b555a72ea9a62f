"""A sensor board on the far end of a real pseudo-terminal."""

from __future__ import annotations

import os
import select
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Self


class Board:
    """Plugged in at ``path``, a symbolic link that stays the same over unplugging, as udev's by-id links do.

    What it sends while nobody has the port open is thrown away when the port is opened, as with a real board.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._master: int | None = None
        self.plug()

    def plug(self) -> None:
        """Appear at ``path`` with a fresh pseudo-terminal."""
        self._master, slave = os.openpty()
        link = self.path.with_name(self.path.name + ".new")
        link.symlink_to(os.ttyname(slave))
        link.replace(self.path)
        os.close(slave)

    def unplug(self) -> None:
        """Vanish: whoever has the port open sees it hang up."""
        if self._master is not None:
            os.close(self._master)
            self._master = None
            self.path.unlink()

    def send(self, data: bytes) -> None:
        """Write all of ``data``, waiting where the far end does not keep up."""
        while data:
            data = data[os.write(self.fileno(), data) :]

    def fileno(self) -> int:
        """Return the file descriptor of the board's end."""
        assert self._master is not None, "unplugged"
        return self._master

    def receive(self, size: int) -> bytes:
        """Wait for what the other end sends, and return at most so many bytes of it."""
        return os.read(self.fileno(), size)

    def wait_opened(self, timeout: float = 10.0) -> None:
        """Wait until somebody has the port open and has thrown away what was sent before."""
        poll = select.poll()
        poll.register(self, 0)
        end = time.monotonic() + timeout
        while poll.poll(0):  # POLLHUP: nobody has it open
            assert time.monotonic() < end, f"nobody opened {self.path}"
            time.sleep(0.01)
        time.sleep(0.05)  # opening goes on for some microseconds: settings, then the flush

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.unplug()
