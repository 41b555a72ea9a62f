"""How the columns of a table are separated, how many there are, and which decimal character they have."""

from __future__ import annotations

import csv
from collections import Counter
from typing import TYPE_CHECKING

from limpet.sources import _numbers
from limpet.sources.tables import times

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.sources._numbers import Decimal

_DELIMITERS = (",", ";", "\t", "|", " ")


def split(text: str, delimiter: str) -> list[list[str]]:
    """Return the cells of each row of a text; none if quotes in it do not end."""
    if delimiter == " ":
        return [words_of(text)]
    try:
        return [[cell.strip() for cell in cells] for cells in csv.reader([text], delimiter=delimiter)]
    except csv.Error:
        return []


def words_of(line: str) -> list[str]:
    """Split at white space, but not in quotes."""
    if '"' not in line:
        return line.split()
    return [cell for cell in next(csv.reader([" ".join(line.split())], delimiter=" ")) if cell]


def delimiter_of(texts: Sequence[str]) -> str:
    """Return what parts the columns: what makes most lines alike and most of their cells numbers."""
    best, best_score = ",", 0.0
    for delimiter in _DELIMITERS:
        rows = [row for text in texts for row in split(text, delimiter)]
        width = width_of(rows)
        if width < 2:
            continue
        alike = [row for row in rows if len(row) >= width]
        cells = [cell for row in alike for cell in row if cell]
        decimals: Sequence[Decimal] = (".",) if delimiter == "," else (".", ",")
        numbers = max(sum(is_data(cell, decimal) for cell in cells) for decimal in decimals)
        score = (0.05 + numbers / max(len(cells), 1)) * len(alike) / len(rows)
        if score > best_score * 1.001:
            best, best_score = delimiter, score
    return best


def is_data(cell: str, decimal: Decimal) -> bool:
    """Whether a cell holds a number, stands for a missing one, or is a time."""
    return not cell or _numbers.is_number(cell, decimal) or times.is_time(cell)


def width_of(rows: Sequence[Sequence[str]]) -> int:
    """Return how many cells most rows have, without columns at the end that are empty in all of them."""
    widths = Counter(map(len, rows))
    width = widths.most_common(1)[0][0] if widths else 0
    alike = [row for row in rows if len(row) == width]
    while width > 1 and not any(row[width - 1] for row in alike):
        width -= 1
    return width


def decimal_of(rows: Sequence[Sequence[str]]) -> Decimal:
    """Return the decimal character of the numbers of a table. ``ValueError`` where they may have either."""
    words = [cell for row in rows for cell in row if _numbers.is_number(cell) or _numbers.is_number(cell, ",")]
    found = _numbers.decimal_of(words)
    if found is None:
        example = next(word for word in words if "," in word)
        raise ValueError(f'{example!r} may mean two numbers; set decimal = "." or decimal = ","')
    return found
