"""The disk's part of the outbox, as far as it can be had.

Opens the database, repairs it, and goes on without it while the disk is full, read-only, damaged or gone.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from limpet.delivery.outbox.database import Change, Database
from limpet.delivery.outbox.disk_errors import DiskDamagedError, DiskError, DiskFullError, DiskGoneError
from limpet.delivery.outbox.disk_space import DiskSpace
from limpet.delivery.outbox.salvage import salvage, set_aside_unreadable

if TYPE_CHECKING:
    from pathlib import Path

    from limpet.delivery.outbox import Class, StoredEntry
    from limpet.delivery.outbox.database import RowHead

log = logging.getLogger(__name__)

RETRY = 5.0
"""Seconds between two attempts to use a disk that has failed."""

REPAIR_RETRY = 60.0
"""Seconds more after a repair that failed, such as on a full disk: it reads and writes all of the file."""

CHECK_SPACE = 1.0
"""Seconds between two checks of the free space."""

COMPACT_FROM = 8 * 1024 * 1024
"""Bytes that an empty file may keep."""


class DiskStore:
    """A database that may be away. ``usable`` says whether messages can be added now.

    ``lost`` counts the messages of damaged files that could not be read. ``unknown`` counts the files that may
    have lost any number of messages. ``notices`` has each change with its reason: ``outbox_degraded`` or
    ``outbox_recovered``.
    """

    def __init__(self, directory: Path, min_free: int) -> None:
        self._path = directory / "outbox.db"
        self._space = DiskSpace(directory, min_free)
        self.notices: list[tuple[str, str]] = []
        self._disk: Database | None = None
        self._full = False
        self._trouble = ""
        self._retry_at = 0.0
        self._check_at = 0.0
        self.lost = 0
        self.unknown = 0

    @property
    def usable(self) -> bool:
        """Whether messages can be added."""
        return self._disk is not None and not self._full

    def tend(self, now: float) -> bool:
        """Open the database if it is due, and check the disk; return whether the database was opened."""
        opened = self._disk is None and now >= self._retry_at and self._open(now)
        if self._disk and now >= self._check_at:
            self._check_at = now + CHECK_SPACE
            self._check()
        return opened

    def _open(self, now: float) -> bool:
        self._retry_at = now + RETRY
        try:
            self._disk = self._open_or_salvage()
        except DiskError as error:
            self._degrade(str(error))
            return False
        self._full = False
        self._check_at = now + CHECK_SPACE
        self._check()
        if not self._full:
            self._space.take_ballast()
            self._recover()
        return True

    def _open_or_salvage(self) -> Database:
        try:
            return Database(self._path)
        except DiskDamagedError as error:
            self._salvage(error)
            return Database(self._path)

    def _salvage(self, error: DiskError) -> None:
        self._space.drop_ballast()
        try:
            saved, lost = salvage(self._path)
        except DiskDamagedError:
            log.exception("%s cannot be repaired", self._path)
            set_aside_unreadable(self._path)
            saved, lost = 0, None
        except DiskError:
            self._retry_at += REPAIR_RETRY
            raise
        self.lost += lost or 0
        self.unknown += lost is None
        kept = f"the file was kept as {self._path.name}.damaged"
        could_not = "an unknown number" if lost is None else lost
        self._degrade(f"{error}; {saved} messages could be read, {could_not} could not; {kept}")

    def _check(self) -> None:
        if self._disk and not self._disk.present():
            self._fail(DiskGoneError(f"{self._path} was deleted"))
        elif not self._full and self._space.is_short():
            self._full = True
            self._degrade(f"little space is left on the disk of {self._path}")
        elif self._full and self._space.is_plenty():
            self._full = False
            self._space.take_ballast()
            self._recover()

    def write(self, change: Change) -> bool:
        """Make a change durably; return whether it was."""
        if self._disk is None or (self._full and change.added):
            return False
        try:
            self._disk.write(change)
        except DiskError as error:
            self._fail(error)
            return False
        if not any(self._disk.messages.values()):
            self._compact(self._disk)
        return True

    def _compact(self, disk: Database) -> None:
        try:
            if disk.length() > COMPACT_FROM:
                disk.compact()
        except DiskError as error:
            self._fail(error)

    def read(self, kind: Class, after: int, upto: int, rows: int, size: int) -> list[StoredEntry] | None:
        """Read messages, see ``Database.read``; ``None`` if they cannot be read now."""
        try:
            return self._disk.read(kind, after, upto, rows, size) if self._disk else None
        except DiskError as error:
            self._fail(error)
            return None

    def heads(self, kind: Class, after: int, rows: int) -> list[RowHead]:
        """Read what the bounds need to know of messages; nothing if they cannot be read now."""
        try:
            return self._disk.heads(kind, after, rows) if self._disk else []
        except DiskError as error:
            self._fail(error)
            return []

    def sizes(self, kind: Class) -> dict[str, int]:
        """Return how many bytes of each pipeline it holds; nothing if that cannot be read now."""
        try:
            return self._disk.sizes(kind) if self._disk else {}
        except DiskError as error:
            self._fail(error)
            return {}

    def mistrust(self) -> None:
        """Treat the disk as damaged: it holds less than its totals say."""
        self._fail(DiskDamagedError(f"{self._path}: messages are missing"))

    def last(self, kind: Class) -> int:
        """Return the highest sequence number on the disk."""
        return self._disk.last[kind] if self._disk else 0

    def messages(self, kind: Class) -> int:
        """Return how many messages it holds."""
        return self._disk.messages[kind] if self._disk else 0

    def bytes(self, kind: Class) -> int:
        """Return how many bytes they are."""
        return self._disk.bytes[kind] if self._disk else 0

    def shed(self) -> dict[str, int]:
        """Return what was shed by cause, as it was last written."""
        return dict(self._disk.shed) if self._disk else {}

    def close(self) -> None:
        """Close the file."""
        if self._disk:
            self._disk.close()
            self._disk = None

    def _fail(self, error: DiskError) -> None:
        """React to a failure. What is on the disk may be read again once the database is opened again."""
        if isinstance(error, DiskFullError):
            self._full = True
            self._space.drop_ballast()
            self._degrade(str(error))
            return
        if isinstance(error, DiskGoneError):
            self._restore()
        self.close()
        if isinstance(error, DiskDamagedError):
            with suppress(DiskError):
                self._salvage(error)
        else:
            self._degrade(str(error))
        if isinstance(error, DiskGoneError | DiskDamagedError):
            self._retry_at = 0.0

    def _restore(self) -> None:
        """Copy a file that has lost its name, as long as it is open."""
        assert self._disk
        try:
            self._disk.copy_to(self._path)
        except DiskError as error:
            log.warning("%s: what it held is lost: %s", self._path, error)

    def _degrade(self, reason: str) -> None:
        if reason != self._trouble:
            self._trouble = reason
            self.notices.append(("outbox_degraded", reason))

    def _recover(self) -> None:
        if self._trouble:
            self._trouble = ""
            self.notices.append(("outbox_recovered", str(self._path)))
