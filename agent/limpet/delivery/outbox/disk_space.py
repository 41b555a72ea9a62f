"""Free space on the file system: a reserve that is left to others, and ballast that is deleted when it is full."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from limpet.device import state_files

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

BALLAST = 2 * 1024 * 1024
"""Bytes: enough for the write-ahead log of the deletions that free more space."""


class DiskSpace:
    """The free space where ``directory`` is. On a full file system, even deleting from a database needs some."""

    def __init__(self, directory: Path, min_free: int) -> None:
        self._directory = directory
        self._min_free = min_free
        self._ballast = directory / "ballast"

    def is_short(self) -> bool:
        """Whether so little is free that nothing should be added."""
        return self._free() < self._min_free

    def is_plenty(self) -> bool:
        """Whether so much is free that adding can begin again, the ballast taken into account."""
        return self._free() >= self._min_free + self._min_free // 4 + 2 * BALLAST

    def take_ballast(self) -> None:
        """Occupy space that can be freed later. Without it, only the user could free a full disk."""
        try:
            if state_files.is_regular(self._ballast) and self._ballast.lstat().st_size == BALLAST:
                return
            descriptor = state_files.create(self._ballast)
            try:
                os.posix_fallocate(descriptor, 0, BALLAST)
            finally:
                os.close(descriptor)
        except OSError as error:
            log.warning("%s: %s; going on without ballast", self._ballast, error.strerror)
            self.drop_ballast()

    def drop_ballast(self) -> None:
        """Free the space of the ballast."""
        with suppress(OSError):
            self._ballast.unlink(missing_ok=True)

    def _free(self) -> int:
        try:
            status = os.statvfs(self._directory)
        except OSError:
            return 0
        return status.f_bavail * status.f_frsize
