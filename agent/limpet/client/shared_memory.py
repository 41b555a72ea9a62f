"""Files of shared memory, for tensors that are large. The daemon checks that they are of the program's user."""

from __future__ import annotations

import mmap
import os
import re
import secrets
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_FOLDER = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory is on Linux
_NAMED = re.compile(r"limpet-client-([1-9][0-9]{0,8})-[0-9a-f]{16}\Z")
_MODE = 0o660
"""The owner is this program's user, and the group is the daemon's."""


class Region:
    """A file of shared memory that is mapped. ``name`` is what the daemon calls it, ``key`` its path."""

    def __init__(self, size: int, group: int) -> None:
        """Make one that a group can open, too. ``OSError`` if this machine has no such memory, or not enough."""
        self.size = size
        self.name = f"limpet-client-{os.getpid()}-{secrets.token_hex(8)}"
        self.key = f"/{self.name}"
        descriptor = os.open(_FOLDER / self.name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with suppress(PermissionError):  # not a member: the daemon must be the same user, or root
                os.fchown(descriptor, -1, group)
                os.fchmod(descriptor, _MODE)
            os.posix_fallocate(descriptor, 0, size)
            self._map = mmap.mmap(descriptor, size)
        except BaseException:
            self.unlink()
            raise
        finally:
            os.close(descriptor)
        self.memory = memoryview(self._map)

    def unlink(self) -> None:
        """Remove the name. The memory stays as long as this program or the daemon has it open."""
        (_FOLDER / self.name).unlink(missing_ok=True)

    def close(self) -> None:
        """Give the memory back."""
        self.unlink()
        self.memory.release()
        self._map.close()


def abandoned(names: Iterable[str]) -> list[str]:
    """Return the regions among these whose programs have ended, and did not give them back."""
    found = ((name, _NAMED.match(name)) for name in names)
    return [name for name, match in found if match and not Path("/proc", match[1]).exists()]
