"""The write-ahead log of the outbox: what is accepted is appended here first, and so outlives the process.

Files are not synced: what was written survives the end of the process, not a power cut. So it wears out no medium.
A file lives a few seconds, until all that it holds is acknowledged or in the database. If systemd provides a
directory in memory (``$RUNTIME_DIRECTORY``), the files are there.
"""

from __future__ import annotations

import errno
import logging
import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING

from limpet.delivery.outbox import LARGEST, Entry, is_owner
from limpet.delivery.outbox.log_records import (
    FORMAT,
    LARGEST_FILE,
    MARK,
    MOST_MESSAGES,
    SEGMENT,
    START,
    Record,
    encode,
    parse,
    split,
)
from limpet.device import state_files
from limpet.device.clock import boot_id
from limpet.errors import UnreadableError
from limpet.untrusted import open_file, read_file

if TYPE_CHECKING:
    from pathlib import Path

    from limpet.delivery.outbox.log_records import Item

log = logging.getLogger(__name__)

LIMIT = 32
"""Files that there may be. Beyond, the oldest is deleted, though its messages are then in memory only."""

DAMAGED = "damaged"
"""Name of the last file that was damaged. It is kept for a person to look at."""

RETRY = 5.0
"""Seconds until a directory that could not be written to is tried again."""

_PLAUSIBLE = 100
"""No later version of Limpet has a higher format; such a number is damage."""

MOST_BYTES = LIMIT * SEGMENT + LARGEST
"""Bytes that are read of all files."""

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NAME = re.compile(r"[0-9]{8}\.log")
_NUMBERS = 10**8 - 10**6
"""No file of Limpet has a higher number: they begin with 1 whenever all messages are safe."""


class WriteAheadLog:
    """The log in ``directory``. Call ``read`` before ``append``. No call raises: the outbox works without it.

    ``damaged`` counts the places of its files that could not be read. ``refused`` counts the messages in it that
    are of no pipeline. After ``read``, ``problems`` has a sentence for each.
    """

    def __init__(self, directory: Path) -> None:
        self._folder = directory / "write-ahead-log"
        self.damaged = 0
        self.refused = 0
        self.problems: list[str] = []
        self._boot = boot_id()
        found = self._found()
        self._number = int(found[-1].stem) + 1 if found else 1
        self._old = [path for path in found if not _later(path)]
        self._damaged_files: set[Path] = set()
        self._closed: list[tuple[Path, float]] = []
        self._fd = -1
        self._size = 0
        self._path = directory
        self._safe = 0.0
        self._noted_at = 0.0
        self._retry_at = 0.0
        self._trouble = ""

    def _found(self) -> list[Path]:
        """Return the files of earlier runs, oldest first, no more than a run would leave."""
        try:
            self._refuse_links()
            if state_files.is_irregular_folder(self._folder):
                what = state_files.kind(self._folder)
                aside = state_files.set_aside(self._folder)
                self._add_problem(f"{self._folder} is {what}; it was set aside as {aside.name}")
            found = sorted(path for path in self._folder.glob("*.log") if _NAME.fullmatch(path.name))
        except OSError as error:
            log.warning("write-ahead log: %s: %s", self._folder, error.strerror)
            return []
        kept = [path for path in found if int(path.stem) < _NUMBERS][-LIMIT - 1 :]
        for path in sorted({*found}.difference(kept)):
            _unlink(path)
        if surplus := len(found) - len(kept):
            self._add_problem(f"{surplus} files more than Limpet leaves were deleted", surplus)
        return kept

    def read(self, now: float) -> list[Entry]:
        """Return what the process before had accepted and may not have sent, oldest first."""
        records = self._all_records()
        safe: dict[str, float] = {}
        for record in records:
            safe[record.boot] = max(safe.get(record.boot, 0.0), record.safe)
        self._closed = [(path, now) for path in self._old]
        found = [
            self._entry(item, record, now)
            for record in records
            if record.born >= safe[record.boot]
            for item in record.items
        ]
        sound = [entry for entry in found if is_owner(entry.kind, entry.pipeline) and entry.size <= LARGEST]
        self.refused = len(found) - len(sound)
        if self.refused:
            self.problems.append(f"{self._folder}: {self.refused} messages are of no pipeline, and are dropped")
        return sound

    def _all_records(self) -> list[Record]:
        """Return the records of all files, oldest first. If there are too many, return the newest."""
        files: list[list[Record]] = []
        messages, size = MOST_MESSAGES, MOST_BYTES
        for path in reversed(self._old):
            files.append(self._records(path, messages, size))
            messages -= sum(len(record.items) for record in files[-1])
            size -= _length(path)
        return [record for file in reversed(files) for record in file]

    def _records(self, path: Path, most: int, space: int) -> list[Record]:
        """Return the records of a file that can be read; the others are counted."""
        try:
            data = read_file(path, max(0, min(LARGEST_FILE, space)))
        except (OSError, UnreadableError) as error:
            self._add_damaged(path, str(error))
            return []
        records, damaged = parse(data, most)
        if damaged:
            self._add_damaged(path, f"{path}: {damaged} places are damaged; what came there is lost", damaged)
        return records

    def _add_damaged(self, path: Path, reason: str, places: int = 1) -> None:
        self._damaged_files.add(path)
        self._add_problem(f"{reason}; the file is kept as {DAMAGED}", places)

    def _add_problem(self, reason: str, places: int = 1) -> None:
        self.damaged += places
        self.problems.append(f"write-ahead log: {reason}")

    def _entry(self, item: Item, record: Record, now: float) -> Entry:
        """Make an entry. The clock of another boot of the machine means nothing here."""
        same_boot = record.boot == self._boot
        born = min(record.born, now) if same_boot else now
        return Entry(item.kind, item.pipeline, (item.payload,), born, same_boot)

    def append(self, items: list[Item], born: float, safe: float) -> None:
        """Append what was accepted. What came before ``safe`` is acknowledged or in the database."""
        if born < self._retry_at:
            return
        self._safe, self._noted_at = safe, born
        try:
            for part in split(items):
                self._append(encode(Record(self._boot, born, safe, part)), born)
        except OSError as error:
            self._end(born)
            self._retry_at = born + RETRY
            self._log_once(f"{self._folder}: {error.strerror}")
        else:
            self._log_once("")

    def _append(self, record: bytes, born: float) -> None:
        if self._fd < 0:
            self._begin()
        self._write(record)
        if self._size >= SEGMENT:
            self._end(born)

    def advance(self, now: float, safe: float) -> None:
        """Append once a second how far all is safe, though nothing new has come; delete files not needed."""
        if self._fd >= 0 and safe > self._safe and now - self._noted_at >= 1.0:
            self.append([], now, safe)
        self.release(safe)

    def release(self, safe: float) -> None:
        """Delete the files all of which came before ``safe``."""
        while self._closed and (self._closed[0][1] < safe or len(self._closed) > LIMIT):
            path, _ = self._closed.pop(0)
            if path in self._damaged_files:
                self._keep(path)
            else:
                _unlink(path)

    def _keep(self, path: Path) -> None:
        """Keep one damaged file for a person to look at."""
        with suppress(OSError):
            target = self._folder / DAMAGED
            state_files.remove(target)
            path.rename(target)

    def close(self, now: float, safe: float) -> None:
        """Close it; delete the files if all of them came before ``safe``."""
        self._end(now)
        self.release(safe)

    def _refuse_links(self) -> None:
        """Raise ``OSError`` if the reporter's folder, or that of all reporters, is a symbolic link."""
        for folder in (self._folder.parent.parent, self._folder.parent):
            if folder.is_symlink():
                raise OSError(errno.ELOOP, f"{folder} is a symbolic link, which Limpet does not follow")

    def _begin(self) -> None:
        self._refuse_links()
        self._folder.mkdir(0o700, parents=True, exist_ok=True)
        self._path = self._folder / f"{self._number:08d}.log"
        self._number += 1
        self._fd = os.open(self._path, _FLAGS, 0o600)
        self._size = 0
        self._write(START)

    def _write(self, record: bytes) -> None:
        left = memoryview(record)
        while left:
            left = left[os.write(self._fd, left) :]
        self._size += len(record)

    def _end(self, now: float) -> None:
        if self._fd >= 0:
            with suppress(OSError):
                os.close(self._fd)
            self._closed.append((self._path, now))
        self._fd = -1

    def _log_once(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            log.warning("write-ahead log: %s; a crash would now lose the last seconds", trouble)
        self._trouble = trouble


def _later(path: Path) -> bool:
    """Whether a later version has written a file. Then it is not touched."""
    try:
        with open_file(path) as file:
            head = file.read(len(MARK) + 1)
    except (OSError, UnreadableError):
        return False
    later = head.startswith(MARK) and FORMAT < int.from_bytes(head[len(MARK) :], "big") < _PLAUSIBLE
    if later:
        log.warning(
            "write-ahead log: %s: a later Limpet wrote it; install that again to have it sent, or delete it",
            path,
        )
    return later


def _length(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def _unlink(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
