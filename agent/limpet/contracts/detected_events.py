"""Events that decoders and postprocess stages detect: an object, a zone, a line, a keyword.

They cross the border from a worker, so the limits here hold where they are decoded. No numpy here: the supervisor
publishes them.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

LONGEST_LABEL = 128
"""Characters of a label in an event. Longer ones are cut off."""
LARGEST_ID = (1 << 53) - 1
"""Readers of JSON have integers up to here exactly."""
MOST_ZONES = 32
"""Zones of a pipeline, and lines of a pipeline."""

ObjectId = Annotated[int, Meta(ge=1, le=LARGEST_ID)]
Label = Annotated[str, Meta(max_length=LONGEST_LABEL)]
PlaceName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,39}\Z",
        extra={"use": 'letters, digits, blanks, ".", "_" and "-", at most 40 characters'},
    ),
]
"""Name of a zone or a line. It becomes part of topics and ids."""
Fraction = Annotated[float, Meta(ge=0, le=1)]
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
Number = Annotated[int, Meta(ge=0, le=LARGEST_ID)]


class ObjectEvent(msgspec.Struct, kw_only=True, omit_defaults=True, tag_field="event", tag="object"):
    """An object is there (``new``), changed much (``update``), or is gone (``end``). The ``id`` stays the same.

    ``label`` and ``score`` (0 to 1) are the best so far. ``box``: left, top, right and bottom as fractions of the
    width and height of the source's picture. ``zones``: those that it is in. ``age_s``: seconds since it was first
    seen. ``unseen_s``: seconds since it was last seen. ``reason``: why it ended, if it did not just leave.
    """

    type: Literal["new", "update", "end"]
    id: ObjectId
    label: Label
    score: Fraction
    box: tuple[Fraction, Fraction, Fraction, Fraction]
    zones: Annotated[list[PlaceName], Meta(max_length=MOST_ZONES)]
    age_s: Seconds
    unseen_s: Seconds
    reason: Annotated[str, Meta(max_length=200)] = ""


class ZoneEvent(msgspec.Struct, kw_only=True, omit_defaults=True, tag_field="event", tag="zone"):
    """An object entered or left a zone.

    ``occupancy``: how many objects are in the zone now. ``dwell_s``: seconds that the object was in it, of
    ``left``. ``reason``: why it left, if it did not just move out.
    """

    type: Literal["entered", "left"]
    zone: PlaceName
    id: ObjectId
    label: Label
    occupancy: Number
    dwell_s: Seconds | None = None
    reason: Annotated[str, Meta(max_length=200)] = ""


class LineEvent(msgspec.Struct, kw_only=True, omit_defaults=True, tag_field="event", tag="line"):
    """An object crossed a line. ``direction``: ``forward`` is from the left of the line to its right.

    Left and right are those of a person who walks on the picture from the line's first point to its second.
    ``forward`` and ``backward``: how many objects crossed it so far.
    """

    type: Literal["crossed"] = "crossed"
    line: PlaceName
    direction: Literal["forward", "backward"]
    id: ObjectId
    label: Label
    forward: Number
    backward: Number


class KeywordEvent(msgspec.Struct, kw_only=True, omit_defaults=True, tag_field="event", tag="keyword"):
    """A keyword was heard. ``score``: its mean over the last windows, cut to 0 to 1."""

    type: Literal["heard"] = "heard"
    label: Label
    score: Fraction


DetectedEvent: TypeAlias = ObjectEvent | ZoneEvent | LineEvent | KeywordEvent
"""An event in ``Window.events``. The name of its kind is its tag."""
