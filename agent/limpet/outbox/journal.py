"""A journal of what has been accepted, so that it outlives the process at no cost to the medium.

Files are appended to without being synced: what was written survives the death of the process, not a power cut.
They live a few seconds, in a directory in memory where systemd gives one (``$RUNTIME_DIRECTORY``), until all they
hold is acknowledged or on the disk.
"""

from __future__ import annotations

import logging
import os
import struct
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from limpet.outbox import Class, Entry
from limpet.outbox.disk import boot_id

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

log = logging.getLogger(__name__)

SEGMENT = 1024 * 1024
"""Bytes after which another file is begun."""

LIMIT = 32
"""Files that may be there; beyond, the oldest is deleted, though only memory holds what is in it."""

RETRY = 5.0
"""Seconds until a directory that could not be written to is tried again."""

FORMAT = 1
_MARK = b"limpetj"
"""A file begins with this and a byte that says its format."""

_HEAD = struct.Struct("<II")
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class Item(NamedTuple):
    """One result or event."""

    kind: Class
    pipeline: str
    payload: bytes


class _Record(msgspec.Struct, array_like=True):
    """What came at one time. All that came before ``safe`` needs the journal no more."""

    boot: str
    born: float
    safe: float
    items: list[Item]


class Journal:
    """The journal in ``directory``; ``read`` before ``append``. It never raises: a second line of defence."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._boot = boot_id()
        self._encoder = msgspec.msgpack.Encoder()
        found = sorted(path for path in directory.glob("journal/*.log") if path.stem.isdigit())
        self._old = [path for path in found if not _later(path)]
        self._number = int(found[-1].stem) + 1 if found else 1
        self._closed: list[tuple[Path, float]] = []
        self._fd = -1
        self._size = 0
        self._path = directory
        self._safe = 0.0
        self._noted_at = 0.0
        self._retry_at = 0.0
        self._trouble = ""

    def read(self, now: float) -> list[Entry]:
        """Return what the process before had accepted and may not have sent, oldest first."""
        records = [record for path in self._old for record in _records(path)]
        safe: dict[str, float] = {}
        for record in records:
            safe[record.boot] = max(safe.get(record.boot, 0.0), record.safe)
        self._closed = [(path, now) for path in self._old]
        return [
            self._entry(item, record, now)
            for record in records
            if record.born >= safe[record.boot]
            for item in record.items
        ]

    def _entry(self, item: Item, record: _Record, now: float) -> Entry:
        """Make an entry; another boot's clock says nothing here."""
        here = record.boot == self._boot
        return Entry(item.kind, item.pipeline, item.payload, 1, record.born if here else now, here)

    def append(self, items: list[Item], born: float, safe: float) -> None:
        """Note what was accepted; what came before ``safe`` is acknowledged or on the disk."""
        if born < self._retry_at:
            return
        self._safe, self._noted_at = safe, born
        body = self._encoder.encode(_Record(self._boot, born, safe, items))
        try:
            if self._fd < 0:
                self._begin()
            self._write(_HEAD.pack(len(body), zlib.crc32(body)) + body)
        except OSError as error:
            self._end(born)
            self._retry_at = born + RETRY
            self._say(f"{self._directory}: {error.strerror}")
        else:
            self._say("")
            if self._size >= SEGMENT:
                self._end(born)

    def note(self, now: float, safe: float) -> None:
        """Note once a second how far all is acknowledged or on the disk, though nothing new has come."""
        if self._fd >= 0 and safe > self._safe and now - self._noted_at >= 1.0:
            self.append([], now, safe)
        self.release(safe)

    def release(self, safe: float) -> None:
        """Delete the files all of which came before ``safe``."""
        while self._closed and (self._closed[0][1] < safe or len(self._closed) > LIMIT):
            _unlink(self._closed.pop(0)[0])

    def close(self, now: float, safe: float) -> None:
        """Close it; delete the files if all of them came before ``safe``."""
        self._end(now)
        self.release(safe)

    def _begin(self) -> None:
        self._path = self._directory / "journal" / f"{self._number:08d}.log"
        self._path.parent.mkdir(0o700, parents=True, exist_ok=True)
        self._fd = os.open(self._path, _FLAGS, 0o600)
        self._number += 1
        self._size = 0
        self._write(_MARK + bytes([FORMAT]))

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

    def _say(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            log.warning("outbox journal: %s; a crash would now lose the last seconds", trouble)
        self._trouble = trouble


def _later(path: Path) -> bool:
    """Whether a later version has written a file, which is then left to it."""
    try:
        with path.open("rb") as file:
            head = file.read(len(_MARK) + 1)
    except OSError:
        return False
    later = head.startswith(_MARK) and head[len(_MARK) :] > bytes([FORMAT])
    if later:
        log.warning(
            "outbox journal: %s: a later Limpet wrote it; install that again to have it sent, or delete it",
            path,
        )
    return later


def _records(path: Path) -> Iterator[_Record]:
    """Yield a file's records up to the first that is damaged, such as one cut short by the end of the process."""
    try:
        data = path.read_bytes()
    except OSError as error:
        log.warning("outbox journal: %s: %s", path, error.strerror)
        return
    at = len(_MARK) + 1 if data.startswith(_MARK) else len(data)
    while at + _HEAD.size <= len(data):
        length, check = _HEAD.unpack_from(data, at)
        body = data[at + _HEAD.size : at + _HEAD.size + length]
        at += _HEAD.size + length
        if len(body) < length or zlib.crc32(body) != check:
            return
        try:
            yield msgspec.msgpack.decode(body, type=_Record)
        except msgspec.DecodeError:
            return


def _unlink(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
