"""Text files that people write, as editors on every system save them.

A file may begin with a byte order mark, may be UTF-16, and may end its lines with LF, CR LF or CR alone.
"""

from __future__ import annotations

import codecs
import errno
import os
import re
from itertools import pairwise
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

_NUMBERED = re.compile(r"(\d{1,6})(?:\s*[:,;]\s*|\s+)(\S.*)")
LARGEST = 16 << 20
"""Bytes of a file: a link to a device without end could be in its place."""
_MOST = 100_000
"""Labels of a file whose labels are numbered."""


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
    text = data.decode(encoding(data[:256])).lstrip("\ufeff")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read(path: Path) -> str:
    """Return what ``decode`` makes of a file. ``OSError``, also if it is too large; ``UnicodeDecodeError``."""
    with path.open("rb") as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return decode(data)


def lines(data: bytes) -> list[str]:
    """Return the lines of a list, such as labels, without the white space at their ends.

    Blank lines at the end are left out. One between two lines has a place, and stays.
    """
    found = [line.strip() for line in decode(data).split("\n")]
    while found and not found[-1]:
        del found[-1]
    return found


def labels(data: bytes) -> list[str]:
    """Return the labels of a file that a person wrote: one a line, or each behind its number.

    Files for detectors often leave numbers out, as in ``12 stop sign``, ``14 bench``: a line's place is not its
    class. Labels are numbered if each line begins with a number, from 0 upwards, and the names differ. A class
    without a label gets its number as its name.
    """
    found = lines(data)
    matches = [_NUMBERED.fullmatch(line) for line in found if line]
    pairs = [(int(match[1]), match[2]) for match in matches if match]
    numbers = [number for number, _ in pairs]
    rising = numbers[:1] == [0] and all(before < after for before, after in pairwise(numbers))
    distinct = len({name for _, name in pairs}) == len(pairs)
    if len(pairs) < 2 or len(pairs) < len(matches) or not rising or not distinct or numbers[-1] >= _MOST:
        return found
    names = dict(pairs)
    return [names.get(number, str(number)) for number in range(numbers[-1] + 1)]


def secret(data: bytes) -> str:
    """Return a password or token, the only line of its file. White space in the line is part of it.

    ``ValueError`` says what is wrong with the file, without its content.
    """
    found = [line for line in decode(data).split("\n") if line]
    if not found:
        raise ValueError("the file is empty")
    if len(found) > 1:
        raise ValueError(f"the file has {len(found)} lines; write the password alone")
    if "\0" in found[0]:
        raise ValueError("the file has bytes of zero in it; write it again")
    return found[0]
