"""One sample a line, its numbers separated by a delimiter, or each behind its name: what most boards print.

Delimiter and decimal character are detected in the lines, unless configured: ``1.5,2``, ``1,5;2``, ``1.5 2``,
``x:1.5,y:2``, ``x=1.5 y=2``. A unit may follow a number, the same one in each line. A line that is not data, such
as a log message or a header, is counted as ``not_data``; no sample is lost. A damaged sample is ``malformed``, one
with too few or too many columns ``fields``.

A line has no checksum. If a wrong digit matters, use ``cobs``. After opening, the text before the first line end
may be the rest of a line and is counted as ``partial``. If a board begins with an empty line, nothing is lost.

``fields`` names the columns if they are not just the channels. ``sequence`` is a count of the samples, ``time_us``
the node's clock in µs. Other columns that are no channels are ignored.
"""

from __future__ import annotations

import csv
import logging
import math
import re
from operator import itemgetter
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from msgspec import Meta

from limpet.sources import _numbers
from limpet.sources.framings._lines import (
    RESERVED,
    SEQUENCE,
    TIME,
    Line,
    LineFraming,
    LineOptions,
    NoSampleError,
    Units,
    whole,
)
from limpet.sources.framings._splitter import BadFrameError
from limpet.sources.framings._words import has_words, is_garbage, text_of

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Sequence

    from limpet.contracts.framing import Framing
    from limpet.sources._numbers import Decimal


class Config(LineOptions, kw_only=True, forbid_unknown_fields=True):
    """One sample a line."""

    delimiter: Annotated[str, Meta(pattern=r"^[ -~\t]?$", extra={"use": 'one ASCII character, such as ";"'})] = ""
    """One character. A blank stands for any run of blanks and tabs. Default: from the lines. Example: `";"`."""
    decimal: Literal[".", ","] | None = None
    """Decimal character. Default: from the lines. Example: `","`."""


def open(config: Config, channels: Sequence[str], dropped: Counter[str]) -> Framing:
    """Count ``partial``, ``overlong``, ``fields`` (their number), ``malformed`` and ``not_data`` lines."""
    fields = config.columns(channels)
    if config.decimal == "," and config.delimiter == ",":
        raise ValueError('decimal: "," is the delimiter as well')
    return LineFraming(_Columns(fields, channels, config.delimiter, config.decimal), config, dropped)


log = logging.getLogger(__name__)

_DELIMITERS = (",", ";", "\t", "|", " ")
_BRACKETS = re.compile(r"[\[({<](.*)[\])}>][,;]?")
_NAMED = re.compile(r"([:=])")
_NO_SAMPLE = re.compile(
    r"""\d{1,3}(?:\.\d{1,3}){3}      # an address
    |\d{1,2}:\d{2}(?::\d{2})?      # a time of day
    |\d{1,4}[/-]\d{1,2}[/-]\d{1,4}  # a date
    |[-=*_]{3}.*[-=*_]{3}          # a rule""",
    re.VERBOSE | re.ASCII,
)


class _Sample(NamedTuple):
    """The numbers of a line, by their place among the columns, and their units."""

    line: Line
    units: tuple[str, ...]


class _Columns:
    """Which column is what, and how columns are separated: ``_delimiter`` is empty while that is unknown."""

    checked = False

    def __init__(
        self, fields: Sequence[str], channels: Sequence[str], delimiter: str, decimal: Decimal | None
    ) -> None:
        self.columns, self.channels = len(fields), len(channels)
        self._fields = list(fields)
        self._wanted = list(channels)
        folded = [name.casefold() for name in fields]
        self._canonical = {name.casefold(): name for name in fields if folded.count(name.casefold()) == 1}
        self._canonical |= {name: name for name in fields}
        self._place()
        self._fixed = delimiter
        self._delimiter = delimiter
        self._decimal: Decimal | None = decimal
        self._units = Units()
        self._other_delimiter = ""
        self._split: bytes | None = None
        self._plain = False
        self._choose(delimiter)

    def quick(self, raw: bytes) -> Line | None:
        """Read a line of plain numbers, all of which are used: no comment and no other text passes for one."""
        return self._numbers_of(raw) if self._plain and self._all_used else None

    def parse(self, text: bytes) -> Line | None:
        """Return the sample of one line."""
        line = self._numbers_of(text) if self._plain else None
        return line or self._slow(text_of(text))

    def comment(self, text: bytes) -> None:
        """Take the order of the columns from a header behind ``#``."""
        self._is_header(text_of(text))

    def _place(self) -> None:
        """Note which column is what."""
        fields = self._fields
        self._channels = [fields.index(name) for name in self._wanted]
        self._sequence = fields.index(SEQUENCE) if SEQUENCE in fields else None
        self._time = fields.index(TIME) if TIME in fields else None
        self._used = [fields.index(name) for name in (*self._wanted, *RESERVED) if name in fields]
        self._all_used = len(self._used) == self.columns
        self._pick: Callable[[list[bytes]], Sequence[bytes]] | None = None
        if self._channels != list(range(self.columns)):
            self._pick = itemgetter(*self._channels, self._channels[0])  # one more, so that it returns a tuple

    def _choose(self, delimiter: str) -> None:
        self._delimiter = delimiter
        self._split = None if delimiter == " " else delimiter.encode() or None
        self._plain = bool(delimiter) and self._decimal != "," and not self._units

    def _numbers_of(self, text: bytes) -> Line | None:
        """Read plain numbers, separated as those before; ``None`` if one is something else."""
        words = text.split(self._split)
        if len(words) != self.columns:
            return None
        try:
            if self._pick is None:
                values, sequence, time_us = list(map(float, words)), None, None
            else:
                values = list(map(float, self._pick(words)[:-1]))
                sequence = None if self._sequence is None else int(words[self._sequence])
                time_us = None if self._time is None else int(words[self._time])
        except ValueError:
            return None
        if b"_" in text and any(b"_" in words[i] for i in self._used):
            return None  # Python would read 1_000 as a number
        return values, sequence, time_us

    def _slow(self, text: str) -> Line | None:
        """Find out what a line is that is not plain numbers, separated as those before."""
        if not text.strip("-=*_ "):
            raise NoSampleError  # a rule between two samples
        if self._is_header(text):
            return None
        if (pairs := self._pairs(text)) is not None:
            return self._of_pairs(pairs)
        if sample := self._sample(text):
            return sample
        raise self._without_sample(text)

    def _is_header(self, text: str) -> bool:
        """Whether a line names the columns. Its order is that of the columns, whatever the configuration says."""
        for delimiter in [self._delimiter] if self._delimiter else _DELIMITERS:
            named = [self._name(cell.strip("\"' ")) for cell in _cells(text, delimiter)]
            if len(named) == self.columns + 1 and not named[-1]:
                del named[-1]
            if len(named) == self.columns and all(named.count(self._fields[i]) == 1 for i in self._used):
                self._reorder(named)
                return True
        return False

    def _name(self, word: str) -> str:
        """Return which column a word names as the configuration writes it, the empty string for none."""
        return self._canonical.get(word, self._canonical.get(word.casefold(), ""))

    def _reorder(self, names: list[str]) -> None:
        before = self._channels, self._sequence, self._time
        self._fields = names
        self._place()
        if (self._channels, self._sequence, self._time) != before:
            log.warning("the board names its columns in another order than the configuration; its order is used")

    def _sample(self, text: str) -> Line | None:
        """Read a line of numbers, separated as those before or, the second time in a row, in another way."""
        match = _BRACKETS.fullmatch(text)
        text = match[1] if match else text
        if text.endswith(";") and text.count(";") == 1:
            text = text[:-1]
        for delimiter in [self._fixed] if self._fixed else [self._delimiter, *_DELIMITERS]:
            cells = _cells(text, delimiter) if delimiter else []
            if len(cells) == self.columns + 1 and not cells[-1].strip():
                del cells[-1]  # a delimiter at the end
            if len(cells) != self.columns:
                continue
            try:
                sample = self._numbers(cells, delimiter)
            except ValueError:
                continue
            if self._delimiter not in {"", delimiter} and self._other_delimiter != delimiter:
                self._other_delimiter = delimiter
                raise BadFrameError("malformed")
            self._other_delimiter = ""
            self._accept(sample, delimiter)
            return sample.line
        return None

    def _numbers(self, cells: Sequence[str], delimiter: str) -> _Sample:
        """Read the columns that are wanted. ``ValueError`` where one is no number."""
        used = [cells[i] for i in self._used]
        decimal = self._decimal
        if decimal is None:
            commas = any("," in cell for cell in used)
            decimal = "," if commas and delimiter != "," and self.columns > 1 else "."
        if decimal == "." and any("," in cell for cell in used):
            raise ValueError("a comma in a number")
        numbers = {i: _number(cells[i], decimal) for i in self._used}
        sequence = None if self._sequence is None else _counter(numbers[self._sequence])
        time_us = None if self._time is None else _counter(numbers[self._time])
        values = [numbers[i] for i in self._channels]
        return _Sample(([n.value for n in values], sequence, time_us), tuple(n.unit for n in values))

    def _accept(self, sample: _Sample, delimiter: str) -> None:
        """Take what this line shows of those to come."""
        self._check_units(sample)
        self._choose(delimiter)

    def _check_units(self, sample: _Sample) -> None:
        """Refuse another unit than before."""
        for channel, (unit, value) in enumerate(zip(sample.units, sample.line[0], strict=True)):
            if value is None or not math.isnan(value):
                self._units.check(channel, unit)

    def _pairs(self, text: str) -> dict[int, str] | None:
        """Return the numbers of a line that names them, by column; ``None`` where it names none of ours."""
        if not (":" in text or "=" in text):
            return None
        # In "x:1,5 y:2,5" the comma separates no columns.
        separated = all(
            _NAMED.search(part) and not part[:1].isdigit() for part in text.split(",")[1:] if part.strip()
        )
        return self._named(re.split(r"[,;|\t]" if separated else r"[;|\t]", text)) or None

    def _named(self, parts: Sequence[str]) -> dict[int, str]:
        found: dict[int, str] = {}
        for part in parts:
            tokens = _NAMED.sub(r" \1 ", part).split()
            marks = [n for n, token in enumerate(tokens) if token in {":", "="}]
            begin = 0
            for at, following in zip(marks, [*marks[1:], len(tokens)], strict=False):
                column = self._column(tokens[begin:at])
                begin = at + (1 if column is None else 2)
                # The unit of a number may stand before the next name.
                end = following if following == len(tokens) else begin
                if column is not None:
                    found[column] = " ".join(tokens[at + 1 : end])
        return found

    def _column(self, words: Sequence[str]) -> int | None:
        """Return the column that the last of these words name."""
        for start in range(max(0, len(words) - 4), len(words)):
            if name := self._name(" ".join(words[start:]).strip("\"'>")):
                return self._fields.index(name)
        return None

    def _of_pairs(self, pairs: dict[int, str]) -> Line:
        if any(column not in pairs for column in self._used):
            raise BadFrameError("fields")
        cells = [pairs.get(column, "") for column in range(self.columns)]
        try:
            sample = self._numbers(cells, " ")
        except ValueError:
            raise BadFrameError("malformed") from None
        self._check_units(sample)
        return sample.line

    def _without_sample(self, text: str) -> Exception:
        """Return what a line is that holds no sample: a damaged sample, or no data."""
        if is_garbage(text):
            return BadFrameError("malformed")
        words = has_words(text)
        for delimiter in [self._delimiter] if self._delimiter else _DELIMITERS:
            cells = _cells(text, delimiter)
            used = [cells[i] for i in self._used] if len(cells) == self.columns else []
            numbers = sum(_is_number(cell) for cell in used)
            if len(used) > 1 and words and delimiter == " " and numbers < len(used):
                return NoSampleError()  # a sentence
            if numbers and (2 * numbers > len(used) or (2 * numbers == len(used) and _is_number(used[0]))):
                return BadFrameError("malformed")
            begins_so = len(cells) > 1 and all(_is_number(cell) for cell in cells[:2])
            if begins_so and self.columns > 1 and (delimiter != " " or not words):
                return BadFrameError("fields")
        if words or not any(character.isdigit() for character in text) or _NO_SAMPLE.fullmatch(text):
            return NoSampleError()
        cells = _cells(text, self._delimiter or ",")
        return BadFrameError("malformed" if len(cells) == self.columns else "fields")


def _cells(text: str, delimiter: str) -> list[str]:
    if delimiter == " ":
        return text.split()
    if '"' in text:
        try:
            return [cell.strip() for cell in next(csv.reader([text], delimiter=delimiter, skipinitialspace=True))]
        except (csv.Error, StopIteration):
            return []
    return text.split(delimiter)


def _number(cell: str, decimal: Decimal) -> _numbers.Number:
    if not cell.strip():
        raise ValueError("an empty column")
    return _numbers.read(cell, decimal)


def _is_number(cell: str) -> bool:
    return bool(cell.strip()) and (_numbers.is_number(cell) or _numbers.is_number(cell, ","))


def _counter(number: _numbers.Number) -> int:
    if number.unit:
        raise ValueError("a counter with a unit")
    return whole(number.value)
