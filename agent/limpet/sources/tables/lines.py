"""The lines of a table with their numbers, without what is no row."""

from __future__ import annotations

import csv
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from limpet.sources import _numbers
from limpet.sources.tables.layout import words_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_COMMENTS = ("#", "//", "%", '"#', "'#")
_ERRORS = tuple(word for word in _numbers.MISSING if word[0] == "#")
"""What a spreadsheet writes in place of a number. It looks like a comment."""


class Row(NamedTuple):
    """The cells of one line, and its number. ``whole``: a line end follows."""

    cells: list[str]
    number: int
    whole: bool


class Lines:
    """The lines of a text with their numbers, without comments and blank lines. ``at``: where an error is."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.at = 0
        self.comment = ""
        self.separator = ""
        self.delimiter = ""
        self.notes: list[str] = []
        self._lines = lines
        self._number = 0
        self._whole = True

    def __iter__(self) -> Iterator[str]:
        """Yield lines that hold data or names."""
        for line in self._lines:
            self._number += 1
            self.at = self._number
            text = line.strip(" \r\n\x1a")
            if not text.strip("\0 \t"):
                continue
            if "\0" in text:
                if line.endswith(("\n", "\r")):
                    raise ValueError("has NUL bytes in it; the file is damaged there")
                self.notes.append(f"line {self._number} is cut short and was left out")
            elif text.lower().startswith("sep=") and len(text) <= 5:
                self.separator = text[4:] or "\t"
            elif self._is_comment(text):
                self.comment = text
            else:
                self._whole = line.endswith(("\n", "\r"))
                yield line

    def _is_comment(self, text: str) -> bool:
        if text[0] == ";":
            return self.delimiter not in {"", ";"}
        if text.startswith('"#"') or text.lower().startswith(_ERRORS):
            return False
        return text.startswith(_COMMENTS)

    def sample(self, count: int) -> list[tuple[str, int, bool]]:
        """Return the next lines, each as ``replay`` takes it."""
        return [(line, self._number, self._whole) for line in islice(iter(self), count)]

    def rows(self, first: Sequence[tuple[str, int, bool]]) -> Iterator[Row]:
        """Split the lines ``first`` and all that follow."""
        lines = self._again(first)
        if self.delimiter == " ":
            split: Iterable[list[str]] = map(words_of, lines)
        else:
            split = csv.reader(lines, delimiter=self.delimiter, skipinitialspace=True)
        for cells in split:
            yield Row([cell.strip() for cell in cells], self._number, self._whole)

    def _again(self, first: Sequence[tuple[str, int, bool]]) -> Iterator[str]:
        after = self._number, self._whole
        for line, self._number, self._whole in first:
            self.at = self._number
            yield line
        self._number, self._whole = after
        yield from self
