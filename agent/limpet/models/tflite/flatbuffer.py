"""Reading flatbuffers from untrusted files: every offset is checked before it is followed.

The work is bounded too. In a damaged file, thousands of offsets can lead to one large table, so that reading would
take hours. A sound file holds each of its parts once, so ``root`` limits what is read to a multiple of its size.

The layout is that of https://flatbuffers.dev/internals. A table begins with the distance back to its vtable. The
vtable has, for each slot, the offset of its field in the table, 0 if the field is left out. No numpy here.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import mmap

Buffer: TypeAlias = "bytes | mmap.mmap"

_INT32 = struct.Struct("<i")
_UINT32 = struct.Struct("<I")
_UINT16 = struct.Struct("<H")
_VTABLE = struct.Struct("<HH")


_LARGEST_STRUCTURE = 1 << 24
"""Bytes of tables and numbers, without the weights. 2,000 ops take about 300 kB."""


class DamagedError(ValueError):
    """An offset or a length leads out of the file."""


class _Allowance:
    """How many more bytes may be read. All tables of a file share it."""

    __slots__ = ("left",)

    def __init__(self, size: int) -> None:
        self.left = min(4 * size + 4096, _LARGEST_STRUCTURE)

    def take(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise DamagedError("its parts refer to each other so often that reading them would not end")


class Table:
    """One table. Fields are read by slot. An absent field has its default."""

    __slots__ = ("_allowance", "_at", "_data", "_size", "_slots")

    def __init__(self, data: Buffer, at: int, allowance: _Allowance) -> None:
        self._data = data
        self._allowance = allowance
        self._at = at
        vtable = at - self._read(_INT32, at)
        length, self._size = _VTABLE.unpack_from(data, self._inside(vtable, _VTABLE.size))
        self._inside(vtable, length)
        self._inside(at, self._size)
        allowance.take(4 + length)
        slots = max(length - _VTABLE.size, 0) // _UINT16.size
        self._slots: tuple[int, ...] = struct.unpack_from(f"<{slots}H", data, vtable + _VTABLE.size)
        if length < _VTABLE.size or max(self._slots, default=0) >= self._size:
            raise DamagedError(f"no table at byte {at}")

    def number(self, slot: int, form: str, default: int = 0) -> int:
        """Return an integer field; ``form`` is its letter in ``struct``'s language."""
        at = self._field(slot, struct.calcsize(form))
        return default if at is None else int(struct.unpack_from(f"<{form}", self._data, at)[0])

    def numbers(self, slot: int, form: str) -> tuple[int, ...]:
        """Return a vector of integers, empty where there is none."""
        at, count = self._read_vector(slot, struct.calcsize(form))
        return struct.unpack_from(f"<{count}{form}", self._data, at)

    def floats(self, slot: int) -> tuple[float, ...]:
        """Return a vector of float32."""
        at, count = self._read_vector(slot, 4)
        return struct.unpack_from(f"<{count}f", self._data, at)

    def content(self, slot: int) -> bytes:
        """Return a vector of bytes."""
        at, count = self._read_vector(slot, 1)
        return self._data[at : at + count]

    def span(self, slot: int) -> tuple[int, int]:
        """Return where a vector of bytes begins, and its length, without reading it."""
        return self._vector(slot, 1)

    def text(self, slot: int) -> str:
        """Return a string; what is not UTF-8 in it becomes U+FFFD."""
        return self.content(slot).decode("utf-8", "replace")

    def table(self, slot: int) -> Table | None:
        """Return the table that a field refers to."""
        at = self._field(slot, _UINT32.size)
        return None if at is None else Table(self._data, self._follow(at), self._allowance)

    def tables(self, slot: int) -> list[Table]:
        """Return a vector of tables."""
        at, count = self._read_vector(slot, _UINT32.size)
        return [Table(self._data, self._follow(at + 4 * i), self._allowance) for i in range(count)]

    def _field(self, slot: int, size: int) -> int | None:
        offset = self._slots[slot] if slot < len(self._slots) else 0
        if not offset:
            return None
        if offset + size > self._size:
            raise DamagedError(f"slot {slot} of the table at byte {self._at} is outside it")
        return self._at + offset

    def _vector(self, slot: int, item: int) -> tuple[int, int]:
        at = self._field(slot, _UINT32.size)
        if at is None:
            return 0, 0
        start = self._follow(at)
        count = self._read(_UINT32, start)
        return self._inside(start + _UINT32.size, count * item), count

    def _read_vector(self, slot: int, item: int) -> tuple[int, int]:
        at, count = self._vector(slot, item)
        self._allowance.take(count * item)
        return at, count

    def _follow(self, at: int) -> int:
        return at + self._read(_UINT32, at)

    def _read(self, form: struct.Struct, at: int) -> int:
        return int(form.unpack_from(self._data, self._inside(at, form.size))[0])

    def _inside(self, at: int, size: int) -> int:
        if at < 0 or at + size > len(self._data):
            raise DamagedError(f"an offset leads to bytes {at} to {at + size}, the file has {len(self._data)}")
        return at


def root(data: Buffer, identity: bytes) -> Table:
    """Return the root table of a flatbuffer whose file identifier must be ``identity``."""
    if len(data) < 8:
        raise DamagedError(f"{len(data)} bytes are too few")
    if data[4:8] != identity:
        raise DamagedError(f"bytes 4 to 8 are {data[4:8]!r}, not {identity!r}")
    return Table(data, _UINT32.unpack_from(data)[0], _Allowance(len(data)))
