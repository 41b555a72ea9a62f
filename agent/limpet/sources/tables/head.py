"""The names of a table's columns, and what stands above and below them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from limpet.sources import _numbers
from limpet.sources.tables.layout import is_data, split

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from limpet.sources._numbers import Decimal
    from limpet.sources.tables.form import Form
    from limpet.sources.tables.lines import Row

_LONGEST_NAME = 60
_UNNAMED = re.compile(r"Unnamed: \d+")
"""How pandas calls a column without a name."""
_TYPES = {"float", "double", "int", "integer", "number", "real", "string", "datetime", "float32", "float64"}


class TableHead:
    """The names of the columns, and what stands above and below them."""

    def __init__(self, width: int, decimal: Decimal, form: Form) -> None:
        self.names: list[str] = []
        self.units: list[str] = []
        self.header: list[str] = []
        self._width = width
        self._decimal: Decimal = decimal
        self._wanted = set(form.channels)

    def read(self, top: Sequence[Row]) -> list[Row]:
        """Find the names in the first rows; return the rows below them."""
        for at, row in enumerate(top):
            if self._wanted and self._wanted <= set(row.cells):
                return self._names_at(top, at)
        at = self._begin(top)
        words = [row for row in top[at:] if len(_trimmed(row.cells)) == self._width]
        texts = list(_while_text(words, self._decimal))
        if texts:
            named = self._named(texts)
            return self._names_at(top, top.index(named))
        if words and not all(is_data(cell, self._decimal) for cell in words[0].cells):
            return self._names_at(top, top.index(words[0]))
        return list(top[at:])

    def _begin(self, top: Sequence[Row]) -> int:
        """Return where a logger's preamble ends: lines of another width that are not data."""
        for at, row in enumerate(top):
            cells = _trimmed(row.cells)
            if len(cells) == self._width or all(is_data(cell, self._decimal) for cell in cells):
                return at
        return 0

    def _named(self, texts: Sequence[Row]) -> Row:
        """Return which of the rows of words has the names: units stand below, a preamble of pairs above."""
        if self._width > 2:
            return texts[0]
        return next((row for row in reversed(texts) if not _are_units(row.cells)), texts[0])

    def _names_at(self, top: Sequence[Row], at: int) -> list[Row]:
        self.header = top[at].cells
        names = [cell.strip("\"'").lstrip("#").strip() for cell in _trimmed(self.header)]
        self.names = ["" if _UNNAMED.fullmatch(name) else name for name in names]
        below = list(top[at + 1 :])
        while below and self._is_units(below[0].cells):
            self.units = self.units or below[0].cells
            del below[0]
        return below

    def _is_units(self, cells: Sequence[str]) -> bool:
        words = [cell for cell in cells if cell and cell.lower() not in _numbers.MISSING]
        return (
            bool(words)
            and len(_trimmed(cells)) == self._width
            and (
                _are_units(words) or (self._width > 2 and not any(is_data(cell, self._decimal) for cell in words))
            )
        )


def _while_text(rows: Sequence[Row], decimal: Decimal) -> Iterator[Row]:
    """Yield the first rows that have no number in them."""
    for row in rows:
        words = [cell for cell in row.cells if cell]
        if not words or any(is_data(cell, decimal) for cell in words):
            return
        yield row


def _are_units(cells: Sequence[str]) -> bool:
    return all(
        cell.strip("[]() ") in _numbers.UNITS or cell[:1] in "[(" or cell.lower() in _TYPES
        for cell in cells
        if cell
    )


def _trimmed(cells: Sequence[str]) -> Sequence[str]:
    """Leave out empty cells at the end."""
    end = len(cells)
    while end > 1 and not cells[end - 1]:
        end -= 1
    return cells[:end]


def names_in_comment(comment: str, width: int, delimiter: str, form: Form) -> list[str]:
    """Return the names in the last comment above a table without other names, as ``numpy.savetxt`` writes them."""
    text = comment.strip("\"'").lstrip("#/% ").strip()
    for names in split(text, delimiter) if text else []:
        # The first may be empty: a column of numbers that is called "#".
        sound = all(
            name and len(name) <= _LONGEST_NAME and not _numbers.is_number(name) for name in names[1:] or names
        )
        if len(names) == width and sound and set(form.channels) <= set(names):
            return names
    return []
