"""The rows below a table's head, to numbers."""

from __future__ import annotations

import math
from array import array
from typing import TYPE_CHECKING

from limpet.sources import _numbers
from limpet.sources.tables.layout import is_data
from limpet.sources.tables.table import Table
from limpet.sources.tables.time_columns import TimeColumns, column_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.sources._numbers import Decimal
    from limpet.sources.tables.form import Form
    from limpet.sources.tables.head import TableHead
    from limpet.sources.tables.lines import Row

_SURE = 5
"""Rows with as many decimals, after which fewer of them mean that the last line is cut."""
_NO_VALUE = {
    "n.a.",
    "n/d",
    "nd",
    "nv",
    "<na>",
    "nat",
    "#nv",
    "#wert!",
    "#zahl!",
    "#bezug!",
    "#name?",
    "#null!",
    "bad",
    "no data",
    "nodata",
    "error",
    "err",
    "over",
    "overflow",
    "ol",
    "i/o timeout",
    "--.-",
}
"""What loggers write in place of a number, besides what boards write."""


class Body:
    """Takes the rows below the head."""

    def __init__(self, head: TableHead, form: Form, decimal: Decimal, samples: Sequence[Sequence[str]]) -> None:
        self._header = head.header
        self._names = head.names
        self._decimal: Decimal = decimal
        samples = [row for row in samples if len(row) >= len(head.names) and list(row) != head.header]
        finder = TimeColumns(head, form, decimal, samples)
        self._clock_at = finder.columns
        self._clock = finder.clock()
        self.channels = tuple(finder.channels())
        self._left_out = finder.notes
        self._columns = [column_of(head.names, name) for name in self.channels]
        if not self._columns:
            raise ValueError("no column besides the time")
        self._units: list[str | None] = [None] * len(self._columns)
        self._table = Table(self.channels, array("d"), array("d"), [], [])
        self._rows = self._timeless = self._back = 0
        self._texts: list[int] = []
        self._places: set[int] = set()
        self._shift = 0.0

    def add(self, row: Row) -> None:
        """Take a row. ``ValueError`` where it cannot be read."""
        cells = self._cells(row)
        if cells is None:
            return
        if self._clock is not None:
            moment = self._clock(" ".join(cells[at] for at in self._clock_at).strip())
            if not math.isfinite(moment):
                self._timeless += 1
                self._gap()
                return
            self._table.seconds.append(self._forward(moment))
        words = [cells[column] for column in self._columns]
        self._table.values.extend(self._fast(words) or self._slow(words))
        self._rows += 1

    def finished(self) -> Table:
        """Return all that was taken."""
        self._table.notes += self._left_out
        if self._texts:
            self._table.notes.append(
                f"{len(self._texts)} lines are no rows and were left out, line {self._texts[0]} first"
            )
        if self._timeless:
            self._table.notes.append(f"{self._timeless} rows without a time were left out")
        if self._back:
            self._table.notes.append(f"its clock goes back {self._back} times; each is a gap")
        return self._table

    def _cells(self, row: Row) -> list[str] | None:
        """Return a cell for each name; ``None`` for a row to be skipped."""
        names, cells = self._names, row.cells
        if cells == self._header:
            self._gap()  # a logger that began again writes its names again
            return None
        if len(cells) == len(names):
            return None if self._is_cut(row) else cells
        if not any(cells):
            return None
        if len(cells) > len(names) and not any(cells[len(names) :]):
            return cells[: len(names)]
        if len(cells) < len(names) and not row.whole:
            self._table.notes.append(f"line {row.number} is cut short and was left out")
            return None
        if self._rows and not any(is_data(cell, self._decimal) for cell in cells if cell):
            self._texts.append(row.number)  # such as a message of the logger, or its last line
            return None
        raise ValueError(f"expected {len(names)} columns, found {len(cells)}")

    def _is_cut(self, row: Row) -> bool:
        """Whether a last line without an end has fewer decimals in its last cell than all lines before."""
        places = len(row.cells[-1].rpartition(self._decimal)[2]) if self._decimal in row.cells[-1] else 0
        if row.whole:
            self._places.add(places)
            return False
        cut = self._rows >= _SURE and len(self._places) == 1 and places < min(self._places)
        if cut:
            self._table.notes.append(f"line {row.number} is cut short and was left out")
        return cut

    def _gap(self) -> None:
        if self._rows and self._rows not in self._table.gaps[-1:]:
            self._table.gaps.append(self._rows)

    def _forward(self, moment: float) -> float:
        """Return the time of a row. Where the clock goes back, time goes on by one step, after a gap."""
        seconds = self._table.seconds
        if seconds and moment + self._shift < seconds[-1]:
            self._back += 1
            self._gap()
            step = seconds[-1] - seconds[-2] if len(seconds) > 1 else 0.0
            self._shift = seconds[-1] + step - moment
        return moment + self._shift

    def _fast(self, words: list[str]) -> list[float] | None:
        """Read plain numbers as fast as Python can; ``None`` where one is something else."""
        together = "".join(words)
        if self._decimal != "." or "_" in together or not together.isascii():
            return None
        try:
            values = list(map(float, words))
        except ValueError:
            return None
        if None in self._units:
            self._units = [unit or "" for unit in self._units]
        return values

    def _slow(self, words: list[str]) -> list[float]:
        values = []
        for n, word in enumerate(words):
            if not word or word.lower() in _NO_VALUE or not word.strip("*"):
                values.append(math.nan)
                continue
            try:
                number = _numbers.read(word, self._decimal)
            except ValueError as error:
                raise ValueError(f"column {self.channels[n]!r}: {error}{self._advice(word)}") from None
            self._check_unit(n, number)
            values.append(number.value)
        return values

    def _advice(self, word: str) -> str:
        """Say how to read on, for a column of words or one that has the other decimal character."""
        if self._decimal == "," and _numbers.is_number(word):
            return ' with a decimal comma, as other cells have; set decimal = "." or ","'
        return "; name the columns with numbers as `channels`" if word[:1].isalpha() else ""

    def _check_unit(self, n: int, number: _numbers.Number) -> None:
        """Refuse a column whose numbers have two units: such values cannot be compared."""
        if math.isnan(number.value) and not number.unit:
            return
        before = self._units[n]
        if before is not None and number.unit != before:
            raise ValueError(f"column {self.channels[n]!r} has values in {number.unit!r} and in {before!r}")
        self._units[n] = number.unit
