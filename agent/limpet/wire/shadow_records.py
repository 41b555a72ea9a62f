"""What a worker and a shadow say to each other. The values of a window are in a file in memory.

The file comes along with the first window. The worker alone writes there, and never while a window is at work.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from limpet.contracts.fields import WindowSpec
from limpet.wire.records import LARGEST_OUTPUT, Int64, Text

LARGEST_FROM_SHADOW = LARGEST_OUTPUT + 4096
"""Bytes of a record from a shadow."""
LARGEST_TO_SHADOW = 4096

Nanoseconds = Annotated[int, Meta(ge=0, le=10**14)]
"""A bit more than a day. As µs it is a time that a worker may report, see ``limpet.updates.answers``."""


class RunWindow(msgspec.Struct, tag=True):
    """Run the window whose values are at the beginning of the file, of this dtype and shape.

    The other fields are those of ``limpet.contracts.data.Window``. With ``frames``, the values are pictures: uint8
    of shape (frames, height, width, channels).
    """

    dtype: str
    shape: tuple[int, ...]
    monotonic_ns: int
    wall_ns: int
    ordinal: int
    gap: bool
    recorded_ns: int | None
    frames: bool


class ShadowOpened(msgspec.Struct, tag=True):
    """The model is there. ``columns`` of the source's samples are cut into windows; ``None`` for all."""

    window: WindowSpec
    columns: Annotated[list[Annotated[int, Meta(ge=0, le=65_536)]], Meta(max_length=65_536)] | None


class NotOpened(msgspec.Struct, tag=True):
    """The shadow cannot run, for this reason. It ends."""

    reason: Text


class Ran(msgspec.Struct, tag=True):
    """A window was run. ``error`` says why there is no result.

    ``kind`` is the name of the output's type in ``limpet.contracts.outputs``, empty for a mapping. ``run_ns`` is
    how long it took, ``cpu_ns`` what it took of all CPUs.
    """

    ordinal: Int64
    run_ns: Nanoseconds
    cpu_ns: Nanoseconds
    error: Text = ""
    kind: Annotated[str, Meta(max_length=64)] = ""
    output: msgspec.Raw = msgspec.Raw(b"\xc0")


FromShadow: TypeAlias = ShadowOpened | NotOpened | Ran
