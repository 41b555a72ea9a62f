"""The rows of a damaged SQLite file, page by page: https://sqlite.org/fileformat2.html.

Each page of a table gives its rows, even if the pages above it are damaged. Rows have their own checksums, so
the file's structure need not be trusted. Free pages hold deleted messages. They are left out unless a table leads
to them.
"""

from __future__ import annotations

import errno
import os
import struct
from collections import defaultdict
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from limpet.delivery.outbox import CLASSES
from limpet.delivery.outbox.schema import LARGEST_PAYLOAD, PAGE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.delivery.outbox.sqlite_wal import CommittedFrames

_LEAF, _INTERIOR = 13, 5
_FIRST = 100
"""Bytes before the header of page 1."""
_OVERFLOW = PAGE - 4
_MOST_LOCAL = PAGE - 35
_LEAST_LOCAL = (PAGE - 12) * 32 // 255 - 23
_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
_MOST = 1 << 22
"""Pages that are looked at: 16 GiB."""
_CELLS = 400
"""More rows than fit on a page. A stranger's page may have rows that overlap."""
_COLUMNS = 20
"""More than any table has."""

Values = tuple[Any, ...]
"""A row as it is in the file, of whatever types."""


class Cell(NamedTuple):
    """A row of a table: its number, its record's length, what of it is on the page, where it goes on."""

    rowid: int
    length: int
    local: bytes
    more: int


class Pages:
    """The pages of an open file, with what its log has of them."""

    def __init__(self, file: BinaryIO | None, wal: BinaryIO | None, log: CommittedFrames) -> None:
        self._file = file.fileno() if file else -1
        self._wal = wal.fileno() if wal else -1
        length = os.fstat(self._file).st_size if file else 0
        self.count = max([log.pages or -(-length // PAGE), *(frame.page for frame in log.frames if frame.whole)])
        # The header says how long the file is, but no more pages are read than there are.
        self.count = min(self.count, -(-length // PAGE) + len(log.frames), _MOST)
        self._budget = 4 * PAGE * self.count
        self._log: defaultdict[int, list[tuple[int, bool]]] = defaultdict(list)
        for frame in log.frames:
            self._log[frame.page].append((frame.at, frame.whole))

    def images(self, number: int) -> Iterator[bytes]:
        """Yield the images of a page, the newest first. Older ones follow only if the newer are damaged."""
        for at, whole in reversed(self._log.get(number, ())):
            yield os.pread(self._wal, PAGE, at).ljust(PAGE, b"\0")
            if whole:
                return
        if self._file >= 0 and (data := os.pread(self._file, PAGE, (number - 1) * PAGE)):
            yield data.ljust(PAGE, b"\0")

    def newest(self, number: int) -> bytes:
        """Return the newest image of a page, zeros if there is none."""
        return next(self.images(number), bytes(PAGE)) if 0 < number <= self.count else bytes(PAGE)

    def rows(self) -> Iterator[Values]:
        """Yield every row that the pages hold. It may be of any table, damaged, or come twice."""
        free, reachable = self._free(), self._reachable()
        for number in self._numbers():
            if reachable[number] or not free[number]:
                for image in self.images(number):
                    yield from self._rows(image, _FIRST if number == 1 else 0)

    def _numbers(self) -> Iterator[int]:
        """Yield the numbers of pages that hold anything: a sparse file may claim to have millions of others."""
        logged = {number for number in self._log if 0 < number <= self.count}
        for number in self._written():
            logged.discard(number)
            yield number
        yield from sorted(logged)

    def _written(self) -> Iterator[int]:
        at, end = 0, self.count * PAGE
        while self._file >= 0 and at < end:
            try:
                start = os.lseek(self._file, at, os.SEEK_DATA)
                stop = os.lseek(self._file, start, os.SEEK_HOLE)
            except OSError as error:
                if error.errno == errno.ENXIO:  # nothing but a hole
                    return
                start, stop = at, end
            last = min(-(-stop // PAGE), self.count)
            yield from range(start // PAGE + 1, last + 1)
            at = max(last, start // PAGE + 1) * PAGE

    def _rows(self, page: bytes, start: int) -> Iterator[Values]:
        # An overflow page begins with zero, as no file has 16 million pages.
        if page[start] == 0:
            return
        for cell in _cells(page, start):
            record = cell.local + self._overflow(cell)
            if len(record) == cell.length and (values := decode(record)):
                yield (cell.rowid, *values[1:]) if values[0] is None else values

    def _overflow(self, cell: Cell) -> bytes:
        """Return the part of a record that is on other pages.

        Many rows that share pages are a trap, so reading has an end.
        """
        parts: list[bytes] = []
        left, number = cell.length - len(cell.local), cell.more
        while left > 0 and 0 < number <= self.count and self._budget > 0:
            self._budget -= PAGE
            page = self.newest(number)
            parts.append(page[4 : 4 + left])
            left -= _OVERFLOW
            (number,) = struct.unpack_from(">I", page)
        return b"".join(parts)

    def _free(self) -> bytearray:
        """Return a 1 for each page on the list of free ones, as far as it can be followed."""
        free = bytearray(self.count + 1)
        (number,) = struct.unpack_from(">I", self.newest(1), 32)
        while 0 < number <= self.count and not free[number]:
            free[number] = 1
            page = self.newest(number)
            number, leaves = struct.unpack_from(">II", page)
            if leaves > PAGE // 4 - 2:
                break
            for leaf in struct.unpack_from(f">{leaves}I", page, 8):
                if leaf <= self.count:
                    free[leaf] = 1
        return free

    def _reachable(self) -> bytearray:
        """Return a 1 for each page that the tables of messages lead to, as far as they can be followed."""
        schema = self._rows(self.newest(1), _FIRST)
        todo = [row[3] for row in schema if len(row) == 5 and row[1] in CLASSES and isinstance(row[3], int)]
        found = bytearray(self.count + 1)
        while todo:
            number = todo.pop()
            if 0 < number <= self.count and not found[number]:
                found[number] = 1
                # A page may name the same child a thousand times: it is looked at once.
                children = {child for child in _children(self.newest(number)) if 0 < child <= self.count}
                todo += [child for child in children if not found[child]]
        return found


def _cells(page: bytes, start: int) -> Iterator[Cell]:
    """Yield the rows of a leaf."""
    (count,) = struct.unpack_from(">H", page, start + 3)
    count = min(count, _CELLS)
    for at in range(start + 8, min(start + 8 + 2 * count, PAGE - 1), 2):
        (place,) = struct.unpack_from(">H", page, at)
        if start + 8 <= place < PAGE:
            length, place = varint(page, place)
            rowid, place = varint(page, place)
            if 0 < length <= LARGEST_PAYLOAD + PAGE and (cell := _cell(page, place, length, rowid)):
                yield cell


def _cell(page: bytes, place: int, length: int, rowid: int) -> Cell | None:
    if length <= _MOST_LOCAL:
        return Cell(rowid, length, page[place : place + length], 0)
    size = _LEAST_LOCAL + (length - _LEAST_LOCAL) % _OVERFLOW
    local = size if size <= _MOST_LOCAL else _LEAST_LOCAL
    if place + local + 4 > PAGE:
        return None
    (more,) = struct.unpack_from(">I", page, place + local)
    return Cell(rowid, length, page[place : place + local], more)


def _children(page: bytes) -> Iterator[int]:
    """Yield the pages below an interior page."""
    if page[0] != _INTERIOR:
        return
    count, last = struct.unpack_from(">H3xI", page, 3)
    yield last
    for at in range(12, min(12 + 2 * count, PAGE - 1), 2):
        (place,) = struct.unpack_from(">H", page, at)
        if place <= PAGE - 4:
            yield struct.unpack_from(">I", page, place)[0]


def decode(record: bytes) -> Values | None:
    """Return the values of a record, ``None`` if it is not one."""
    size, at = varint(record, 0)
    if not at <= size <= len(record):
        return None
    values: list[Any] = []
    place = size
    while at < size and len(values) < _COLUMNS:
        kind, at = varint(record, at)
        length = _length(kind)
        if length is None or place + length > len(record):
            return None
        values.append(_value(kind, record[place : place + length]))
        place += length
    return tuple(values) or None


def _length(kind: int) -> int | None:
    if kind in {0, 8, 9}:
        return 0
    if kind == 7:
        return 8
    return _INTEGERS.get(kind) if kind < 12 else (kind - 12) // 2


def _value(kind: int, data: bytes) -> Any:
    if kind >= 12:
        return data.decode("utf-8", "replace") if kind % 2 else data
    if kind == 7:
        return struct.unpack(">d", data)[0]
    if kind in {0, 8, 9}:
        return None if kind == 0 else kind - 8
    return int.from_bytes(data, "big", signed=True)


def varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a number of up to nine bytes, and where the next thing begins. Beyond the end are zeros."""
    value = 0
    for place in range(at, at + 8):
        byte = data[place] if place < len(data) else 0
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, place + 1
    return value << 8 | (data[at + 8] if at + 8 < len(data) else 0), at + 9
