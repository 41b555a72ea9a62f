"""One JSON value a line: an object with a key for each channel, or an array in the order of ``fields``.

In an object, ``sequence`` (a count of the samples) and ``time_us`` (the node's clock in µs) are read too where
they are there, and other keys are ignored. ``null`` stands for a value that the node could not take and is counted
as ``not_finite``. Empty lines and lines that begin with ``#`` are passed over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from limpet.sources.framings._frames import RESERVED, SEQUENCE, TIME, BadFrameError, Line, LineFraming, check_names

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Sequence

    from limpet.plugin import Framing


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """``fields``: what an array's elements are, where not just the channels.

    ``sequence_modulo``: the sequence goes from one below it to 0, as 65536 for a 16-bit counter.
    """

    fields: list[str] = []
    sequence_modulo: Annotated[int, Meta(ge=2, le=1 << 32)] | None = None


def open(config: Config, channels: Sequence[str], dropped: Counter[str]) -> Framing:
    """Count ``partial``, ``overlong``, ``fields`` (too few, too many) and ``malformed`` lines."""
    fields = config.fields or list(channels)
    check_names(channels, fields)
    return LineFraming(_Lines(fields, channels), config.sequence_modulo, dropped)


class _Lines:
    """Reads objects and arrays without building more of them than is asked for."""

    checked = True

    def __init__(self, fields: Sequence[str], channels: Sequence[str]) -> None:
        self.columns, self.channels = len(fields), len(channels)
        self._fields = fields
        self._columns = [fields.index(name) if name in fields else None for name in (*channels, *RESERVED)]
        members: list[tuple[str, Any, Any]] = [
            (f"v{i}", float | None | UnsetType, msgspec.field(name=name, default=UNSET))
            for i, name in enumerate(channels)
        ]
        members += [(name, int | None, None) for name in RESERVED]
        sample = msgspec.defstruct("Sample", members)
        self._names = sample.__struct_fields__[: len(channels)]
        self._decoder = msgspec.json.Decoder(sample | list[float | None])

    def parse(self, text: bytes) -> Line | None:
        """Return the sample of one line."""
        try:
            sample = self._decoder.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise BadFrameError("malformed") from None
        if isinstance(sample, list):
            return self._array(sample)
        values = [getattr(sample, name) for name in self._names]
        if UNSET in values:
            raise BadFrameError("fields")
        return Line(values, getattr(sample, SEQUENCE), getattr(sample, TIME))

    def _array(self, elements: Sequence[float | None]) -> Line:
        if len(elements) != len(self._fields):
            raise BadFrameError("fields")
        *values, sequence, time_us = [None if i is None else elements[i] for i in self._columns]
        return Line(values, _whole(sequence), _whole(time_us))


def _whole(number: float | None) -> int | None:
    """Return a counter out of an array of numbers."""
    if number is None or number.is_integer():
        return None if number is None else int(number)
    raise BadFrameError("malformed")
