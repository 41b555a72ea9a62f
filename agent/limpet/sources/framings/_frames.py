"""What the framings share: cutting a stream at a delimiter, and lines that each hold one sample.

A line ends with LF, CR LF or CR alone. Empty lines and lines that begin with ``#`` or ``//`` are passed over.
"""

from __future__ import annotations

import codecs
import logging
import re
from typing import TYPE_CHECKING, Annotated, NamedTuple, Protocol, TypeAlias

import numpy as np
from msgspec import Meta

from limpet.contracts.data import Rows
from limpet.sources._numbers import UNITS

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Sequence

SEQUENCE = "sequence"
TIME = "time_us"
RESERVED = (SEQUENCE, TIME)
"""Names that no channel may have."""

COUNTER_LIMIT = 1 << 32
"""A sequence number is below it: a larger one is a damaged line, not four thousand million lost samples."""

CLOCK = 1 << 32
"""Node clocks are taken modulo this many µs, 71.6 minutes."""


LONGEST = 1 << 16
"""Bytes of a line, unless configured otherwise."""

MaxLine: TypeAlias = Annotated[int, Meta(ge=64, le=1 << 20)]
LONGER = "raise `max_line` of the framing, or check that the board ends its lines"

log = logging.getLogger(__name__)

_ESCAPES = re.compile(rb"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|[@-Z\\-_])")
"""How a terminal is told to change colour or to clear a line: a shell and a logger do so."""
_NO_COUNTERS = (False, False)
_WORD = re.compile(r"(?<![^\W_])[^\W\d_]{2,}")
_NUMBER_WORDS = {"nan", "inf", "infinity", "ovf", "null", "none", "nil", "undefined", "na"}
_UNIT_WORDS = {word for unit in UNITS for word in _WORD.findall(unit)}


class BadFrameError(Exception):
    """A frame that cannot be read; its argument is the cause to count."""


class NoSampleError(Exception):
    """A whole line that is no sample, such as a log message: nothing is missing."""


class Line(NamedTuple):
    """One sample as its line had it; ``None`` where the line has no such column."""

    values: Sequence[float | None]
    sequence: int | None
    time_us: int | None


class Splitter:
    """Cuts a stream at a delimiter and never keeps more than ``limit`` bytes.

    What comes out does not depend on how the stream was cut into pieces before.
    """

    def __init__(self, delimiter: bytes, limit: int) -> None:
        self._delimiter = delimiter
        self._limit = limit
        self._tail = b""
        self._skipping = False

    def feed(self, data: bytes) -> list[bytes | None]:
        """Return the frames that ended in ``data``, ``None`` in the place of one longer than ``limit``."""
        *ended, tail = (self._tail + data).split(self._delimiter)
        frames = [frame if len(frame) <= self._limit else None for frame in ended]
        if self._skipping and frames:
            del frames[0]
            self._skipping = False
        elif self._skipping:
            tail = b""
        if len(tail) > self._limit:
            frames.append(None)
            self._skipping = True
            tail = b""
        self._tail = tail
        return frames


class LineParser(Protocol):
    """What tells one framing of lines from another.

    ``channels``: how many there are. ``checked`` says that half a line never passes for a whole one; otherwise
    what comes before the first line end is not read, since ``3,4`` may be the end of ``123,4``.
    """

    channels: int
    checked: bool

    def plain(self, raw: bytes) -> Line | None:
        """Return the sample of a line as it came, ``None`` for a line that needs a closer look."""

    def parse(self, text: bytes) -> Line | None:
        """Return a line's sample, or ``None`` for one to be passed over.

        ``BadFrameError`` for a sample that is lost, ``NoSampleError`` for a whole line that is none.
        """

    def comment(self, text: bytes) -> None:
        """Take what a comment says, which may be the names of the columns."""


class LineFraming:
    """A framing of text lines, each of which holds one sample."""

    def __init__(self, parser: LineParser, modulo: int | None, longest: int, dropped: Counter[str]) -> None:
        self.modulo = modulo
        self._parser = parser
        self._dropped = dropped
        self._lines = Splitter(b"\n", longest)
        self._opening = True
        self._broken = False
        self._longest = longest
        self._counters: tuple[bool, bool] | None = None

    def feed(self, data: bytes) -> Rows:
        """Return the rows of the lines that ended in ``data``."""
        lines: list[Line] = []
        gaps: list[bool] = []
        for raw in self._lines.feed(data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")):
            try:
                line = self._read(raw)
            except NoSampleError:
                self._dropped["not_data"] += 1
                continue
            except BadFrameError as bad:
                self._dropped[str(bad)] += 1
                self._broken = True
                continue
            if line is not None:
                lines.append(line)
                gaps.append(self._broken)
                self._broken = False
        return _rows(lines, gaps, self._parser.channels)

    def _read(self, raw: bytes | None) -> Line | None:
        if not self._opening and raw is not None and (line := self._parser.plain(raw)) is not None:
            return self._alike(line)
        opening, self._opening = self._opening, False
        if raw is None:
            if not self._dropped["overlong"]:
                log.warning("a line is longer than %d bytes and is lost; %s", self._longest, LONGER)
            raise BadFrameError("overlong")
        text = raw.removeprefix(codecs.BOM_UTF8).strip(b" \t\0")
        if b"\x1b" in text:
            text = _ESCAPES.sub(b"", text).strip()
        if not text:
            return None
        if text.startswith((b"#", b"//")):
            self._parser.comment(text.lstrip(b"#/ \t"))
            return None
        if opening and not self._parser.checked:
            raise BadFrameError("partial")
        try:
            line = self._parser.parse(text)
            return line if line is None else self._alike(line)
        except (BadFrameError, NoSampleError):
            if opening:
                raise BadFrameError("partial") from None
            raise

    def _alike(self, line: Line) -> Line:
        """Check the counters of a line: in their bounds, and there if they were in the first line."""
        if line.sequence is line.time_us is None and self._counters == _NO_COUNTERS:
            return line
        counters = (line.sequence is not None, line.time_us is not None)
        if counters != (self._counters or counters):
            raise BadFrameError("fields")
        if line.sequence is not None and not 0 <= line.sequence < (self.modulo or COUNTER_LIMIT):
            raise BadFrameError("malformed")
        self._counters = counters
        return line


def _rows(lines: Sequence[Line], gaps: Sequence[bool], channels: int) -> Rows:
    values = np.array([line.values for line in lines], np.float64).reshape(len(lines), channels)
    rows = Rows(values, np.array(gaps, np.bool_))
    if lines and lines[0].sequence is not None:
        rows.sequence = np.array([line.sequence for line in lines], np.int64)
    if lines and lines[0].time_us is not None:
        rows.time_us = np.array([(line.time_us or 0) % CLOCK for line in lines], np.int64)
    return rows


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


def check_names(channels: Sequence[str], fields: Sequence[str]) -> None:
    """Raise ``ValueError`` unless ``fields`` has each channel once and the reserved names at most once."""
    for name in (*channels, *RESERVED):
        count = fields.count(name)
        if count > 1 or (count == 0 and name in channels):
            raise ValueError(f"fields: has {name!r} {count} times, expected once")
