"""What the video and the clip of the demo show and say: found by those who made them, before any model had."""

from __future__ import annotations

import msgspec

from limpet.demo.daemon import data

Box = tuple[float, float, float, float]


class Truth(msgspec.Struct):
    """``faces``: where the face is in each frame, as fractions; ``None``: there is none.

    ``words``: when each wake word begins and ends, in seconds.
    """

    faces: list[Box | None]
    words: list[tuple[float, float]]


def truth() -> Truth:
    """Read it."""
    return msgspec.json.decode(data("truth.json").read_bytes(), type=Truth)
