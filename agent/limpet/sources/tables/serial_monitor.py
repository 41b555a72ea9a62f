"""Lines as serial monitors show them and as the Serial Plotter takes them, made rows of a table."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from limpet.sources.tables.layout import delimiter_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_PAIR = re.compile(r"([A-Za-z_]\w*)\s*[:=]\s*([-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?)(?![\w.])", re.ASCII)
_PAIRS = re.compile(rf"(?:{_PAIR.pattern}[,;\s]*)+", re.ASCII)
STAMP = re.compile(
    r"\[?((?:\d{4}-\d{2}-\d{2}[ T])?\d{1,2}:\d{2}:\d{2}(?:[.,]\d{1,9})?)(?:\]|\s*->|\s*>)[ \t]*(.*)", re.DOTALL
)
"""What a serial monitor writes before each line that it shows: ``12:00:00.123 -> ``."""


def names_of(lines: Sequence[str]) -> tuple[str, ...]:
    """Return the names that each line gives with its numbers, as for the Serial Plotter; none if one does not."""
    names = {tuple(match[1] for match in _PAIR.finditer(line)) for line in lines if _PAIRS.fullmatch(line.strip())}
    return names.pop() if len(names) == 1 and all(_PAIRS.fullmatch(line.strip()) for line in lines) else ()


def without_names(lines: Iterable[str], names: Sequence[str]) -> Iterator[str]:
    """Leave the numbers of lines such as ``x:1,y:2``. ``ValueError`` for a line that names others."""
    for line in lines:
        if not _PAIRS.fullmatch(line.strip()):
            yield line
            continue
        pairs = [(match[1], match[2]) for match in _PAIR.finditer(line)]
        found = [name for name, _ in pairs]
        end = line[len(line.rstrip("\r\n")) :]
        if end and found != list(names):
            raise ValueError(f"names {', '.join(found)}; the lines before name {', '.join(names)}")
        yield ";".join(number for _, number in pairs) + end


def with_time_column(lines: Iterable[str], first: Sequence[str], delimiter: str) -> Iterator[str]:
    """Make a column of the time that a serial monitor wrote before each line."""
    matches = [match for line in first if (match := STAMP.match(line))]
    delimiter = delimiter or delimiter_of([match[2] for match in matches])
    for line in lines:
        match = STAMP.match(line)
        stamp = match[1].replace(",", ".").replace(" ", "T") if match else ""
        yield f"{stamp}{delimiter}{match[2]}" if match else line
