"""How many fields a protobuf message has. An empty one has 2 bytes, and takes 500 once it is decoded.

Source: https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet.gateway.errors import RequestError

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor

MOST_FIELDS = 4096
"""Fields of a message and of those in it. Numbers of a tensor are one field."""
_VARINT, _FIXED_64, _LENGTH, _FIXED_32 = 0, 1, 2, 5
_LONGEST_TAG, _LONGEST_VARINT = 5, 10


def check_fields(data: bytes, message: Descriptor) -> None:
    """See that a message of this kind has at most ``MOST_FIELDS``, before it is decoded. ``RequestError``."""
    if len(data) <= 2 * MOST_FIELDS:  # the shortest field has 2 bytes
        return
    parts = [(0, len(data), message)]
    fields = 0
    while parts:
        at, end, kind = parts.pop()
        while at < end:
            fields += 1
            if fields > MOST_FIELDS:
                raise RequestError("invalid", f"the message has more than {MOST_FIELDS} fields")
            tag, at = _varint(data, at, _LONGEST_TAG)
            form = tag & 7
            if form == _LENGTH:
                size, at = _varint(data, at, _LONGEST_VARINT)
                field = kind.fields_by_number.get(tag >> 3)
                if field is not None and field.message_type is not None:
                    parts.append((at, min(at + size, end), field.message_type))
                at += size
            elif form == _VARINT:
                _, at = _varint(data, at, _LONGEST_VARINT)
            elif form in (_FIXED_64, _FIXED_32):
                at += 8 if form == _FIXED_64 else 4
            else:
                raise _damaged()
        if at > end:
            raise _damaged()


def _varint(data: bytes, at: int, longest: int) -> tuple[int, int]:
    """Return a number of variable length, and where the next one begins."""
    value = 0
    for index, byte in enumerate(data[at : at + longest]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at + index + 1
    raise _damaged()


def _damaged() -> RequestError:
    return RequestError("invalid", "the message is damaged")
