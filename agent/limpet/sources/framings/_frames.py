"""What the framings share: cutting a stream at a delimiter, and lines that each hold one sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from limpet.types import Rows

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


class BadFrameError(Exception):
    """A frame that cannot be read; its argument is the cause to count."""


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

    ``columns``: how many a line has; ``channels``: how many of them are channels. ``checked`` says that half a
    line never passes for a whole one; otherwise what comes before the first line end is not read, since ``3,4``
    may be the end of ``123,4``.
    """

    columns: int
    channels: int
    checked: bool

    def parse(self, text: bytes) -> Line | None:
        """Return a line's sample, or ``None`` for a line without one, or raise ``BadFrameError``."""


class LineFraming:
    """A framing of text lines, each of which holds one sample."""

    def __init__(self, parser: LineParser, modulo: int | None, dropped: Counter[str]) -> None:
        self.modulo = modulo
        self._parser = parser
        self._dropped = dropped
        self._lines = Splitter(b"\n", 1024 + 64 * parser.columns)
        self._opening = True
        self._broken = False
        self._counters: tuple[bool, bool] | None = None

    def feed(self, data: bytes) -> Rows:
        """Return the rows of the lines that ended in ``data``."""
        lines: list[Line] = []
        gaps: list[bool] = []
        for raw in self._lines.feed(data):
            try:
                line = self._read(raw)
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
        opening, self._opening = self._opening, False
        if raw is None:
            raise BadFrameError("overlong")
        text = raw.strip()
        if not text or text.startswith(b"#"):
            return None
        if opening and not self._parser.checked:
            raise BadFrameError("partial")
        try:
            line = self._parser.parse(text)
            return line if line is None else self._alike(line)
        except BadFrameError:
            if opening:
                raise BadFrameError("partial") from None
            raise

    def _alike(self, line: Line) -> Line:
        """Check the counters of a line: in their bounds, and there if they were in the first line."""
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


def check_names(channels: Sequence[str], fields: Sequence[str]) -> None:
    """Raise ``ValueError`` unless ``fields`` has each channel once and the reserved names at most once."""
    for name in (*channels, *RESERVED):
        count = fields.count(name)
        if count > 1 or (count == 0 and name in channels):
            raise ValueError(f"fields: has {name!r} {count} times, expected once")
