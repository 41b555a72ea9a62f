"""What a line that holds no sample is: garbage, or a message. No I/O."""

from __future__ import annotations

import re

from limpet.sources._numbers import UNITS

_WORD = re.compile(r"(?<![^\W_])[^\W\d_]{2,}")
_NUMBER_WORDS = {"nan", "inf", "infinity", "ovf", "null", "none", "nil", "undefined", "na"}
_UNIT_WORDS = {word for unit in UNITS for word in _WORD.findall(unit)}


def text_of(raw: bytes) -> str:
    """Return a line as text. Bytes that are no UTF-8 are taken as Latin-1, in which boards send units."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def is_garbage(text: str) -> bool:
    """Whether much of a line is no text: the wrong baud rate, or damage. Samples may have been lost in it."""
    odd = sum(
        not (character.isprintable() or character == "\t") or "\x80" <= character <= "\xff" for character in text
    )
    return 5 * odd > len(text)


def has_words(text: str) -> bool:
    """Whether a line has words in it, other than units and those that stand for numbers."""
    return any(word.lower() not in _NUMBER_WORDS and word not in _UNIT_WORDS for word in _WORD.findall(text))
