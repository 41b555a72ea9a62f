"""What the framings of text lines share: each line holds one sample, and may hold counters of the node.

A line ends with LF, CR LF or CR alone. Empty lines and lines that begin with ``#`` or ``//`` are skipped.
"""

from __future__ import annotations

import codecs
import logging
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Protocol, TypeAlias

import msgspec
import numpy as np
from msgspec import Meta

from limpet.contracts.data import Rows
from limpet.sources.framings._splitter import BadFrameError, Splitter

if TYPE_CHECKING:
    from collections import Counter

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

LONGER = "raise `max_line` of the framing, or check that the board ends its lines"

log = logging.getLogger(__name__)

_ESCAPES = re.compile(rb"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|[@-Z\\-_])")
"""Bytes with which a shell or a logger changes the colour of a terminal, or clears a line."""

Line: TypeAlias = tuple[Sequence[float | None], int | None, int | None]
"""One sample: its values, its sequence number and its time in µs. ``None`` where the line has no such column."""


class LineOptions(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What all framings of lines have."""

    fields: list[str] = []
    """All columns in order. `sequence` counts samples, `time_us` is the board's clock, others are ignored.
    Default: the channels. Example: `["sequence", "ax", "ay"]`."""
    max_line: Annotated[int, Meta(ge=64, le=1 << 20)] = LONGEST
    """Bytes of the longest line. Longer ones count as `overlong`."""
    sequence_modulo: Annotated[int, Meta(ge=2, le=1 << 32)] | None = None
    """Where `sequence` begins again at 0. Default: it does not. Example: `65536`."""

    def columns(self, channels: Sequence[str]) -> list[str]:
        """Return the fields. ``ValueError`` unless each channel is there once, the reserved names at most once."""
        fields = self.fields or list(channels)
        for name in (*channels, *RESERVED):
            count = fields.count(name)
            if count > 1 or (count == 0 and name in channels):
                raise ValueError(f"fields: has {name!r} {count} times, expected once")
        return fields


class NoSampleError(Exception):
    """A whole line that is no sample, such as a log message: nothing is missing."""


class LineParser(Protocol):
    """What distinguishes one framing of lines from another.

    ``channels``: how many there are. ``checked``: half a line is never taken for a whole one. Otherwise the text
    before the first line end is not read, since ``3,4`` may be the end of ``123,4``.
    """

    channels: int
    checked: bool

    def quick(self, raw: bytes) -> Line | None:
        """Return the sample of an ordinary line, as it came; ``None`` for any other line. Changes nothing."""

    def parse(self, text: bytes) -> Line | None:
        """Return a line's sample, or ``None`` for one to be skipped.

        ``BadFrameError`` for a sample that is lost, ``NoSampleError`` for a whole line that is none.
        """

    def comment(self, text: bytes) -> None:
        """Take what a comment says, which may be the names of the columns."""


class LineFraming:
    """A framing of text lines, each of which holds one sample."""

    def __init__(self, parser: LineParser, options: LineOptions, dropped: Counter[str]) -> None:
        self.modulo = options.sequence_modulo
        self._parser = parser
        self._dropped = dropped
        self._lines = Splitter(b"\n", options.max_line)
        self._opening = True
        self._broken = False
        self._longest = options.max_line
        self._counters: tuple[bool, bool] | None = None
        self._without_counters = False

    def feed(self, data: bytes) -> Rows:
        """Return the rows of the lines that ended in ``data``."""
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines: list[Line] = []
        gaps: list[int] = []
        quick = self._parser.quick
        for raw in self._lines.feed(data):
            line = None if raw is None or self._opening else quick(raw)
            # An ordinary line is nearly every line, so that little is done about it.
            if line is None or not (self._without_counters and line[1] is None and line[2] is None):
                line = self._sample(raw, line)
                if line is None:
                    continue
            if self._broken:
                gaps.append(len(lines))
                self._broken = False
            lines.append(line)
        return _rows(lines, gaps, self._parser.channels)

    def _sample(self, raw: bytes | None, line: Line | None) -> Line | None:
        """Return the sample of a line, which the parser has read already or not. Count a line that has none."""
        try:
            return self._read(raw) if line is None else self._checked(line)
        except NoSampleError:
            self._dropped["not_data"] += 1
        except BadFrameError as bad:
            self._dropped[str(bad)] += 1
            self._broken = True
        return None

    def _read(self, raw: bytes | None) -> Line | None:
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
            return line if line is None else self._checked(line)
        except (BadFrameError, NoSampleError):
            if opening:
                raise BadFrameError("partial") from None
            raise

    def _checked(self, line: Line) -> Line:
        """Check the counters of a line: in their bounds, and there if they were in the first line."""
        _, sequence, time_us = line
        counters = (sequence is not None, time_us is not None)
        if counters != (self._counters or counters):
            raise BadFrameError("fields")
        if sequence is not None and not 0 <= sequence < (self.modulo or COUNTER_LIMIT):
            raise BadFrameError("malformed")
        self._counters, self._without_counters = counters, not any(counters)
        return line


def _rows(lines: Sequence[Line], gaps: Sequence[int], channels: int) -> Rows:
    gap = np.zeros(len(lines), np.bool_)
    if gaps:
        gap[gaps] = True
    values = np.array([line[0] for line in lines], np.float64).reshape(len(lines), channels)
    rows = Rows(values, gap)
    if lines and lines[0][1] is not None:
        rows.sequence = np.array([line[1] for line in lines], np.int64)
    if lines and lines[0][2] is not None:
        rows.time_us = np.array([(line[2] or 0) % CLOCK for line in lines], np.int64)
    return rows


class Units:
    """The unit of each column, which stays the same: values in two units cannot be compared."""

    def __init__(self) -> None:
        self._units: dict[int | str, str] = {}

    def check(self, column: int | str, unit: str) -> None:
        """Take the unit of a number that is not NaN. ``BadFrameError`` for another one than before."""
        if self._units.setdefault(column, unit) != unit:
            raise BadFrameError("malformed")

    def __bool__(self) -> bool:
        """Whether a column has a unit."""
        return any(self._units.values())


def whole(number: float) -> int:
    """Return a counter out of a column of numbers. ``ValueError`` for a fraction, infinity or NaN."""
    if not float(number).is_integer():
        raise ValueError("no whole number")
    return int(number)
