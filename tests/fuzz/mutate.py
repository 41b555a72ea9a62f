"""Damaged inputs made of sound ones. The same seed makes the same inputs."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

LARGEST = 1 << 18
"""Bytes of an input."""
_NUMBERS = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, (1 << 63) - 1, (1 << 64) - 1]
_WORDS = [
    b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\r\n", b"nan", b"inf", b"-1", b"1e999", b"9" * 20, b"null",
    b"[" * 2000, b"{" * 500, b"\x91" * 2000, b"../", b"a/#", b"\xed\xa0\x80", b"\xc7\x04\x2aevil",
    b"\xdf\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff", b'{"type":', b"true", b"''", b'""', b"1_0", b"0x10", b"%s%n", b"\x80" * 10,
]  # fmt: skip


def mutated(corpus: Sequence[bytes], chance: random.Random) -> bytes:
    """Return one of these inputs with one to eight damages."""
    data = bytearray(chance.choice(corpus))
    for _ in range(chance.choice((1, 1, 2, 4, 8))):
        _damage(data, corpus, chance)
    return bytes(data[:LARGEST])


def _damage(data: bytearray, corpus: Sequence[bytes], chance: random.Random) -> None:
    at = chance.randrange(len(data) + 1)
    length = chance.choice((1, 2, 4, 16, 256))
    kind = chance.randrange(9)
    if kind == 0:
        del data[at:]
    elif kind == 1:
        del data[at : at + length]
    elif kind == 2:
        data[at:at] = data[at : at + length] * chance.choice((1, 2, 50))
    elif kind == 3:
        data[at:at] = chance.choice(_WORDS)
    elif kind == 4:
        word = chance.choice(_WORDS)
        data[at : at + len(word)] = word
    elif kind == 5:
        width, letter = chance.choice(((1, "B"), (2, "H"), (4, "I"), (8, "Q")))
        number = chance.choice(_NUMBERS) & ((1 << 8 * width) - 1)
        data[at : at + width] = struct.pack(chance.choice("<>") + letter, number)
    elif kind == 6:
        other = chance.choice(corpus)
        begin = chance.randrange(len(other) + 1)
        data[at : at + length] = other[begin : begin + length]
    else:
        for _ in range(chance.choice((1, 1, 8))):
            if data:
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
