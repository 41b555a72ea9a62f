"""Reads protobuf messages without their schema: the fields by number, and nothing else.

Models of TensorFlow and ONNX are protobuf. Here they are looked at before a library that may run them opens them,
and where no such library is installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from limpet.errors import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Iterator

Value: TypeAlias = "int | memoryview"
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_SIZES = {_FIXED64: 8, _FIXED32: 4}


class ProtobufMessage:
    """A message's fields. ``UnreadableError`` if the bytes are no message."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._fields: dict[int, list[Value]] = {}
        for number, value in _fields(memoryview(data)):
            self._fields.setdefault(number, []).append(value)

    @property
    def present(self) -> set[int]:
        """The numbers of the fields that are there."""
        return set(self._fields)

    def messages(self, number: int) -> list[ProtobufMessage]:
        """Return the messages in a field, in their order."""
        return [ProtobufMessage(value) for value in self.spans(number)]

    def message(self, number: int) -> ProtobufMessage:
        """Return the last message in a field, an empty one if there is none."""
        spans = self.spans(number)
        return ProtobufMessage(spans[-1]) if spans else ProtobufMessage(b"")

    def spans(self, number: int) -> list[memoryview]:
        """Return the bytes of each value of a field."""
        found = self._fields.get(number, [])
        if not all(isinstance(value, memoryview) for value in found):
            raise UnreadableError(f"field {number} holds numbers, not bytes")
        return [value for value in found if isinstance(value, memoryview)]

    def texts(self, number: int) -> list[str]:
        """Return the texts in a field."""
        return [bytes(value).decode("utf-8", "replace") for value in self.spans(number)]

    def text(self, number: int) -> str:
        """Return the last text in a field, an empty one if there is none."""
        return (self.texts(number) or [""])[-1]

    def numbers(self, number: int) -> list[int]:
        """Return the whole numbers in a field, packed or not."""
        found: list[int] = []
        for value in self._fields.get(number, []):
            found += [value] if isinstance(value, int) else _varints(value)
        return [n - (1 << 64) if n >> 63 else n for n in found]

    def number(self, number: int) -> int:
        """Return the last whole number in a field, 0 if there is none."""
        return (self.numbers(number) or [0])[-1]


def _fields(data: memoryview) -> Iterator[tuple[int, Value]]:
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if kind == _BYTES:
            size, at = _varint(data, at)
        elif kind in _SIZES:
            size = _SIZES[kind]
        else:
            raise UnreadableError(f"byte {at}: a field of the unknown kind {kind}")
        if not number or at + size > len(data):
            raise UnreadableError(f"byte {at}: a field of {size} bytes reaches beyond the end")
        part = data[at : at + size]
        yield number, part if kind == _BYTES else int.from_bytes(part, "little")
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (1 << 64) - 1, at
    raise UnreadableError(f"byte {at}: a number without an end")


def _varints(data: memoryview) -> list[int]:
    found, at = [], 0
    while at < len(data):
        value, at = _varint(data, at)
        found.append(value)
    return found
