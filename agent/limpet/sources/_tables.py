"""Tables as loggers, spreadsheets and programs write them, to numbers.

What is read is right, or ``ValueError`` says in which line it could not be read. No I/O: lines are handed in.
"""

from __future__ import annotations

import csv
import math
import re
from array import array
from collections import Counter
from itertools import chain, islice, pairwise
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from msgspec import structs

from limpet.sources import _numbers, _times
from limpet.sources._times import TIME, Clock
from limpet.wording import suggest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from limpet.sources._numbers import Decimal
    from limpet.sources._table_form import Form

SAMPLE = 50
"""Lines that the form of a table is detected from."""
_DELIMITERS = (",", ";", "\t", "|", " ")
_COMMENTS = ("#", "//", "%", '"#', "'#")
_ERRORS = tuple(word for word in _numbers.MISSING if word[0] == "#")
"""What a spreadsheet writes in place of a number. It looks like a comment."""
_LONGEST_NAME = 60
_PAIR = re.compile(r"([A-Za-z_]\w*)\s*[:=]\s*([-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?)(?![\w.])", re.ASCII)
_PAIRS = re.compile(rf"(?:{_PAIR.pattern}[,;\s]*)+", re.ASCII)
_SURE = 5
"""Rows with as many decimals, after which fewer of them mean that the last line is cut."""
_STAMP = re.compile(
    r"\[?((?:\d{4}-\d{2}-\d{2}[ T])?\d{1,2}:\d{2}:\d{2}(?:[.,]\d{1,9})?)(?:\]|\s*->|\s*>)[ \t]*(.*)", re.DOTALL
)
"""What a serial monitor writes before each line that it shows: ``12:00:00.123 -> ``."""
_UNNAMED = re.compile(r"Unnamed: \d+")
"""How pandas calls a column without a name."""
_INDEX = {"index", "idx", "row", "no", "no.", "nr", "nr.", "sample", "sample number", "record"}
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
_TYPES = {"float", "double", "int", "integer", "number", "real", "string", "datetime", "float32", "float64"}


class Table(msgspec.Struct):
    """``values``: row after row; ``seconds``: a time for each row, or none.

    ``gaps``: rows that do not follow the one before. ``notes``: what was passed over, each in a sentence.
    """

    channels: tuple[str, ...]
    values: array[float]
    seconds: array[float]
    gaps: list[int]
    notes: list[str]


class _Row(NamedTuple):
    """The cells of one line, and its number. ``whole``: a line end follows."""

    cells: list[str]
    number: int
    whole: bool


class _Lines:
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

    def rows(self, first: Sequence[tuple[str, int, bool]]) -> Iterator[_Row]:
        """Split the lines ``first`` and all that follow."""
        lines = self._again(first)
        if self.delimiter == " ":
            split: Iterable[list[str]] = map(_words, lines)
        else:
            split = csv.reader(lines, delimiter=self.delimiter, skipinitialspace=True)
        for cells in split:
            yield _Row([cell.strip() for cell in cells], self._number, self._whole)

    def _again(self, first: Sequence[tuple[str, int, bool]]) -> Iterator[str]:
        after = self._number, self._whole
        for line, self._number, self._whole in first:
            self.at = self._number
            yield line
        self._number, self._whole = after
        yield from self


def read(lines: Iterable[str], form: Form) -> Table:
    """Read a table. ``ValueError`` begins with the number of the line."""
    lines = iter(lines)
    first = list(islice(lines, SAMPLE))
    whole = [line for line in first if line.strip()]
    stamped = bool(whole) and all(_STAMP.match(line) for line in whole)
    lines = chain(first, lines)
    named = () if stamped else _names_of(whole)
    if named:
        lines = _without_names(lines, named)
        form = structs.replace(form, delimiter=";")
    numbered = _Lines(_with_column(lines, whole, form.delimiter) if stamped else lines)
    try:
        return _read(numbered, form, named, stamped=stamped)
    except (ValueError, OverflowError, csv.Error) as error:
        raise ValueError(f"line {numbered.at}: {error}") from error


def _names_of(lines: Sequence[str]) -> tuple[str, ...]:
    """Return the names that each line gives with its numbers, as for the Serial Plotter; none if one does not."""
    names = {tuple(match[1] for match in _PAIR.finditer(line)) for line in lines if _PAIRS.fullmatch(line.strip())}
    return names.pop() if len(names) == 1 and all(_PAIRS.fullmatch(line.strip()) for line in lines) else ()


def _without_names(lines: Iterable[str], names: Sequence[str]) -> Iterator[str]:
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


def _with_column(lines: Iterable[str], first: Sequence[str], delimiter: str) -> Iterator[str]:
    """Make a column of the time that a serial monitor wrote before each line."""
    matches = [match for line in first if (match := _STAMP.match(line))]
    delimiter = delimiter or _delimiter([match[2] for match in matches])
    for line in lines:
        match = _STAMP.match(line)
        stamp = match[1].replace(",", ".").replace(" ", "T") if match else ""
        yield f"{stamp}{delimiter}{match[2]}" if match else line


def _read(lines: _Lines, form: Form, named: Sequence[str], *, stamped: bool) -> Table:
    first = lines.sample(SAMPLE)
    texts = [line for line, _, _ in first]
    lines.delimiter = form.delimiter or lines.separator or _delimiter(texts)
    comment = lines.comment
    rows = lines.rows(first)
    top = list(islice(rows, SAMPLE))
    if not top:
        raise ValueError("no column names; the file holds no table")
    lines.at = top[0].number
    width = _width([row.cells for row in top])
    decimal = form.decimal or _decimal([row.cells for row in top if len(row.cells) >= width])
    head = _Head(width, decimal, form)
    below = head.read(top)
    if not head.names:
        head.names = list(named) or _of_comment(comment, width, lines.delimiter, form) or list(form.channels)
        head.names[:0] = [TIME] if stamped and head.names else []
    elif stamped:
        head.names[0] = TIME
    if not head.names:
        raise ValueError("no column names; give them in the first line or as channels")
    body = _Body(head, form, decimal, [row.cells for row in below])
    for row in chain(below, rows):
        lines.at = row.number
        body.add(row)
    table = body.finished()
    table.notes += lines.notes
    return table


def _split(text: str, delimiter: str) -> list[list[str]]:
    if delimiter == " ":
        return [_words(text)]
    try:
        return [[cell.strip() for cell in cells] for cells in csv.reader([text], delimiter=delimiter)]
    except csv.Error:
        return []


def _words(line: str) -> list[str]:
    """Split at white space, but not in quotes."""
    if '"' not in line:
        return line.split()
    return [cell for cell in next(csv.reader([" ".join(line.split())], delimiter=" ")) if cell]


def _delimiter(texts: Sequence[str]) -> str:
    """Return what parts the columns: what makes most lines alike and most of their cells numbers."""
    best, best_score = ",", 0.0
    for delimiter in _DELIMITERS:
        rows = [row for text in texts for row in _split(text, delimiter)]
        width = _width(rows)
        if width < 2:
            continue
        alike = [row for row in rows if len(row) >= width]
        cells = [cell for row in alike for cell in row if cell]
        decimals: Sequence[Decimal] = (".",) if delimiter == "," else (".", ",")
        numbers = max(sum(_is_data(cell, decimal) for cell in cells) for decimal in decimals)
        score = (0.05 + numbers / max(len(cells), 1)) * len(alike) / len(rows)
        if score > best_score * 1.001:
            best, best_score = delimiter, score
    return best


def _is_data(cell: str, decimal: Decimal) -> bool:
    """Whether a cell holds a number, stands for a missing one, or is a time."""
    return not cell or _numbers.is_number(cell, decimal) or _times.is_time(cell)


def _width(rows: Sequence[Sequence[str]]) -> int:
    """Return how many cells most rows have, without columns at the end that are empty in all of them."""
    widths = Counter(map(len, rows))
    width = widths.most_common(1)[0][0] if widths else 0
    alike = [row for row in rows if len(row) == width]
    while width > 1 and not any(row[width - 1] for row in alike):
        width -= 1
    return width


def _decimal(rows: Sequence[Sequence[str]]) -> Decimal:
    """Return the decimal character of the numbers of a table. ``ValueError`` where it cannot be told."""
    words = [cell for row in rows for cell in row if _numbers.is_number(cell) or _numbers.is_number(cell, ",")]
    found = _numbers.decimal_of(words)
    if found is None:
        example = next(word for word in words if "," in word)
        raise ValueError(f'{example!r} may mean two numbers; set decimal = "." or decimal = ","')
    return found


class _Head:
    """The names of the columns, and what stands above and below them."""

    def __init__(self, width: int, decimal: Decimal, form: Form) -> None:
        self.names: list[str] = []
        self.units: list[str] = []
        self.header: list[str] = []
        self._width = width
        self._decimal: Decimal = decimal
        self._wanted = set(form.channels)

    def read(self, top: Sequence[_Row]) -> list[_Row]:
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
        if words and not all(_is_data(cell, self._decimal) for cell in words[0].cells):
            return self._names_at(top, top.index(words[0]))
        return list(top[at:])

    def _begin(self, top: Sequence[_Row]) -> int:
        """Return where a logger's preamble ends: lines of another width that are not data."""
        for at, row in enumerate(top):
            cells = _trimmed(row.cells)
            if len(cells) == self._width or all(_is_data(cell, self._decimal) for cell in cells):
                return at
        return 0

    def _named(self, texts: Sequence[_Row]) -> _Row:
        """Return which of the rows of words has the names: units stand below, a preamble of pairs above."""
        if self._width > 2:
            return texts[0]
        return next((row for row in reversed(texts) if not _are_units(row.cells)), texts[0])

    def _names_at(self, top: Sequence[_Row], at: int) -> list[_Row]:
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
                _are_units(words) or (self._width > 2 and not any(_is_data(cell, self._decimal) for cell in words))
            )
        )


def _while_text(rows: Sequence[_Row], decimal: Decimal) -> Iterator[_Row]:
    """Yield the first rows that have no number in them."""
    for row in rows:
        words = [cell for cell in row.cells if cell]
        if not words or any(_is_data(cell, decimal) for cell in words):
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


def _of_comment(comment: str, width: int, delimiter: str, form: Form) -> list[str]:
    """Return the names in the last comment above a table without other names, as ``numpy.savetxt`` writes them."""
    text = comment.strip("\"'").lstrip("#/% ").strip()
    for names in _split(text, delimiter) if text else []:
        # The first may be empty: a column of numbers that is called "#".
        sound = all(
            name and len(name) <= _LONGEST_NAME and not _numbers.is_number(name) for name in names[1:] or names
        )
        if len(names) == width and sound and set(form.channels) <= set(names):
            return names
    return []


class _Body:
    """Takes the rows below the head."""

    def __init__(self, head: _Head, form: Form, decimal: Decimal, samples: Sequence[Sequence[str]]) -> None:
        self._header = head.header
        self._names = head.names
        self._decimal: Decimal = decimal
        samples = [row for row in samples if len(row) >= len(head.names) and list(row) != head.header]
        finder = _TimeFinder(head, form, decimal, samples)
        self._clock_at = finder.columns
        self._clock = finder.clock()
        self.channels = tuple(finder.channels())
        self._left_out = finder.notes
        self._columns = [_column(head.names, name) for name in self.channels]
        if not self._columns:
            raise ValueError("no column besides the time")
        self._units: list[str | None] = [None] * len(self._columns)
        self._table = Table(self.channels, array("d"), array("d"), [], [])
        self._rows = self._timeless = self._back = 0
        self._texts: list[int] = []
        self._places: set[int] = set()
        self._shift = 0.0

    def add(self, row: _Row) -> None:
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

    def _cells(self, row: _Row) -> list[str] | None:
        """Return a cell for each name; ``None`` for a row to be passed over."""
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
        if self._rows and not any(_is_data(cell, self._decimal) for cell in cells if cell):
            self._texts.append(row.number)  # such as a message of the logger, or its last line
            return None
        raise ValueError(f"expected {len(names)} columns, found {len(cells)}")

    def _is_cut(self, row: _Row) -> bool:
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
                raise ValueError(f"column {self.channels[n]!r}: {error}{self._way_out(word)}") from None
            self._check_unit(n, number)
            values.append(number.value)
        return values

    def _way_out(self, word: str) -> str:
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


class _TimeFinder:
    """Finds the columns that say when. ``columns``: one, or a date and a time of day; none if there is no time."""

    def __init__(self, head: _Head, form: Form, decimal: Decimal, samples: Sequence[Sequence[str]]) -> None:
        self.columns: list[int] = []
        self.notes: list[str] = []
        self._names = head.names
        self._units = head.units
        self._form = form
        self._decimal: Decimal = decimal
        self._samples = samples
        self._others: set[int] = set()
        if form.time is None:
            self._find()
        elif form.time:
            self.columns = [_column(head.names, form.time)]

    def _find(self) -> None:
        taken = set(self._form.channels) - {TIME}
        likely = [n for n in self._likely() if self._names[n] not in taken]
        sound = [n for n in likely if self._names[n] == TIME or self._goes_on(n)]
        days = [n for n in likely if self._has_days(n)]
        sound = sorted(sound, key=lambda n: n in days)
        days = [n for n in days if n not in sound[:1]]
        self.columns = sound[:1]
        if sound and self._names.count(self._names[sound[0]]) > 1:
            _column(self._names, self._names[sound[0]])
        if sound and days and self._go_together(days[0], sound[0]):
            self.columns = [days[0], sound[0]]
        self._others = {*sound, *self.columns}
        for name in (self._names[n] for n in self.columns):
            if _times.could_be_a_channel(name):
                self.notes.append(f'column {name!r} is taken for the time; if it is a channel, set time = ""')

    def _likely(self) -> list[int]:
        """Return the columns that may have times: by their names, by the row of units, or as they have dates."""
        likely = _times.likely(self._names)
        likely += [n for n in range(len(self._names)) if n not in likely and self._has_times(n)]
        if 0 not in likely and self._units and _times.is_unit(self._units[0]):
            likely.append(0)
        return likely

    def _has_times(self, column: int) -> bool:
        words = [word for word in self._words([column]) if word]
        return bool(words) and all(_times.is_time(word) for word in words)

    def _has_days(self, column: int) -> bool:
        words = [word for word in self._words([column]) if word]
        named = _times.unit_of(self._names[column])[0] in _times.DATES
        return named or (bool(words) and all(_times.is_day(word) for word in words))

    def _go_together(self, day: int, time: int) -> bool:
        times = self._words([time])
        return all(_times.is_time_of_day(word) for word in times) or _times.are_digits_of(
            self._words([day]), times
        )

    def _is_index(self, column: int) -> bool:
        """Whether one of the first two columns counts rows. A count is no channel unless it is named as one."""
        if column > 1 or _times.unit_of(self._names[column])[0] not in _INDEX:
            return False
        words = self._words([column])
        return (
            len(words) > 1
            and all(word.isdecimal() for word in words)
            and all(int(after) - int(before) == 1 for before, after in pairwise(words))
        )

    def channels(self) -> list[str]:
        """Return the names of the columns with values."""
        times = {self._names[n] for n in self.columns}
        if self._form.channels:
            return [name for name in self._form.channels if name not in times]
        others = self._others | {n for n in range(len(self._names)) if self._is_index(n)}
        if out := [self._names[n] for n in sorted(others) if self._names[n] not in times and self._names[n]]:
            self.notes.append(f"no channels, as they hold times or numbers of rows: {', '.join(out)}")
        return [name for n, name in enumerate(self._names) if name and name not in times and n not in others]

    def clock(self) -> Clock | None:
        """Return what reads the time of a row."""
        return self._clock_of(self.columns) if self.columns else None

    def _words(self, columns: Sequence[int]) -> list[str]:
        return [" ".join(row[n] for n in columns) for row in self._samples]

    def _clock_of(self, columns: Sequence[int]) -> Clock:
        at = columns[-1]
        unit = self._units[at] if len(columns) == 1 and at < len(self._units) else ""
        return Clock(self._names[at], self._words(columns), unit, self._decimal)

    def _goes_on(self, column: int) -> bool:
        """Whether a column reads as times that go forward."""
        clock = self._clock_of([column])
        try:
            moments = [clock(word) for word in self._words([column])]
        except (ValueError, OverflowError):
            return False
        moments = [moment for moment in moments if math.isfinite(moment)]
        steps = [after - before for before, after in pairwise(moments)]
        back = sum(step < 0 for step in steps)
        if _times.is_weak(self._names[column]):
            return bool(steps) and not back and moments[-1] > moments[0]
        return bool(moments) and 4 * back <= len(steps)


def _column(names: Sequence[str], name: str) -> int:
    if names.count(name) > 1:
        raise ValueError(f"two columns are called {name!r}")
    if name not in names:
        raise ValueError(f"no column {name!r}{suggest(name, names)}")
    return names.index(name)
