"""Text files that people write, as editors on every system save them.

A file may begin with a byte order mark, may be UTF-16, and may end its lines with LF, CR LF or CR alone.
"""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def encoding(start: bytes) -> str:
    """Return the encoding of a text that begins with ``start``: what its mark says, else UTF-8.

    UTF-16 without a mark is known by its zero bytes, which no other text has.
    """
    for mark, name in _MARKS:
        if start.startswith(mark):
            return name
    sample = start[: len(start) // 2 * 2]
    if sample and sample[1::2].count(0) * 2 > len(sample[1::2]) and 0 not in sample[::2]:
        return "utf-16-le"
    if sample and sample[::2].count(0) * 2 > len(sample[::2]) and 0 not in sample[1::2]:
        return "utf-16-be"
    return "utf-8"


def decode(data: bytes) -> str:
    r"""Return the text without its mark, each line end as ``\n``. ``UnicodeDecodeError`` where it is no text."""
    text = data.decode(encoding(data[:256]))
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read(path: Path) -> str:
    """Return what ``decode`` makes of a file. ``OSError``, ``UnicodeDecodeError``."""
    return decode(path.read_bytes())


def lines(data: bytes) -> list[str]:
    """Return the lines of a list, such as labels, without the white space at their ends.

    Blank lines at the end are left out. One between two lines has a place, and stays.
    """
    found = [line.strip() for line in decode(data).split("\n")]
    while found and not found[-1]:
        del found[-1]
    return found


def secret(path: Path) -> str:
    """Return a password or token, the first line of its file. White space inside it is part of it.

    ``OSError``, ``UnicodeDecodeError``.
    """
    return read(path).rstrip("\n")
