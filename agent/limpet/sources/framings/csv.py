"""One sample a line, its numbers parted by a delimiter: what most boards print.

A line ends with LF or CR LF. Empty lines, lines that begin with ``#`` and a header (a line of the column names)
are passed over. A line has no checksum: where a wrong digit matters, use ``cobs``. What comes before the first
line end after opening may be the rest of a line and is counted as ``partial``; a board that begins with an empty
line loses nothing.

``fields`` names the columns where they are not just the channels: ``sequence`` is a count of the samples,
``time_us`` the node's clock in µs; others that are no channels are ignored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from limpet.sources.framings._frames import RESERVED, SEQUENCE, TIME, BadFrameError, Line, LineFraming, check_names

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Sequence

    from limpet.plugin import Framing


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """``delimiter``: one character; a blank stands for any run of blanks and tabs.

    ``sequence_modulo``: the sequence goes from one below it to 0, as 65536 for a 16-bit counter.
    """

    delimiter: Annotated[str, Meta(pattern=r"^[ -~\t]$")] = ","
    fields: list[str] = []
    sequence_modulo: Annotated[int, Meta(ge=2, le=1 << 32)] | None = None


def open(config: Config, channels: Sequence[str], dropped: Counter[str]) -> Framing:
    """Count ``partial``, ``overlong``, ``fields`` (their number) and ``malformed`` lines."""
    fields = config.fields or list(channels)
    check_names(channels, fields)
    return LineFraming(_Columns(fields, channels, config.delimiter), config.sequence_modulo, dropped)


class _Columns:
    """Which column is what."""

    checked = False

    def __init__(self, fields: Sequence[str], channels: Sequence[str], delimiter: str) -> None:
        self.columns, self.channels = len(fields), len(channels)
        self._header = [name.encode() for name in fields]
        self._channels = [fields.index(name) for name in channels]
        self._sequence = fields.index(SEQUENCE) if SEQUENCE in fields else None
        self._time = fields.index(TIME) if TIME in fields else None
        self._used = [fields.index(name) for name in (*channels, *RESERVED) if name in fields]
        self._delimiter = None if delimiter == " " else delimiter.encode()

    def parse(self, text: bytes) -> Line | None:
        """Return the sample of one line."""
        words = text.split(self._delimiter)
        if len(words) != len(self._header):
            raise BadFrameError("fields")
        try:
            values = [float(words[i]) for i in self._channels]
            sequence = None if self._sequence is None else int(words[self._sequence])
            time_us = None if self._time is None else int(words[self._time])
        except ValueError:
            if [word.strip() for word in words] == self._header:
                return None
            raise BadFrameError("malformed") from None
        if b"_" in text and any(b"_" in words[i] for i in self._used):
            raise BadFrameError("malformed")  # Python would read 1_000 as a number
        return Line(values, sequence, time_us)
