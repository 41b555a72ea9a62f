"""What a device may change about itself: within which limits, and what the change is. No numpy here.

An adaptation has a number. The signed model stays as it is: a pipeline runs it with a ``Correction``.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from limpet.contracts.fields import Count, Positive, Share

AdaptationKind: TypeAlias = Literal["threshold", "priors", "offsets", "coverage", "prototype"]
MOST_LABELS = 256
"""Labels whose priors are adapted."""
MOST_CHANNELS = 64
"""Channels whose offset is followed."""
LARGEST_NUMBER = 1 << 53

Number = Annotated[float, Meta(ge=-1e300, le=1e300)]
Label = Annotated[str, Meta(max_length=128)]


class ThresholdLimits(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """``threshold`` of ``adapt``: the decoder's threshold follows feedback."""

    least: float
    """Lowest threshold. Example: `0.5`."""
    most: float
    """Highest threshold. Example: `0.9`."""
    right: Share = 0.95
    """Share of the results above the threshold that are to be right."""
    answers: Count = 50
    """Answers with feedback that are needed for a change."""
    step: Positive = 0.05
    """Largest change at once."""
    hours: Positive = 1.0
    """Hours from one change to the next."""

    def __post_init__(self) -> None:
        if not self.least < self.most:
            raise ValueError(f"least is {self.least:g} and most {self.most:g}; least must be lower")


class PriorLimits(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """``priors`` of ``adapt``: the probability of each class follows how often it is true here."""

    most: Annotated[float, Meta(gt=1, le=1000)] = 4.0
    """How many times as frequent, or as rare, as in the reference a class may become."""
    answers: Count = 100
    """Answers with feedback that are needed for a change. The reference counts as so many, too."""
    hours: Positive = 24.0
    """Hours from one change to the next."""


class OffsetLimits(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """``offsets`` of ``adapt``: the mean of each channel is followed while it moves slowly."""

    most: Positive = 0.5
    """Largest offset, in standard deviations of the channel."""
    step: Positive = 0.1
    """Largest change at once, in standard deviations. A channel that moves more is not followed."""
    windows: Annotated[int, Meta(ge=10, le=1 << 31)] = 1000
    """Windows that are needed for a change. The first so many are what the channels are compared with."""
    hours: Positive = 24.0
    """Hours from one change to the next."""


class CoverageLimits(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """``coverage`` of ``adapt``: the sets and intervals of ``conformal`` grow if they miss the truth too often.

    This is adaptive conformal inference (Gibbs and Candès, 2021), in steps.
    """

    coverage: Annotated[float, Meta(gt=0, lt=1)] = 0.9
    """Share of the sets or intervals that are to hold the truth. Use that of the stage."""
    least: Annotated[float, Meta(gt=0, lt=1)]
    """Lowest coverage to aim at. Example: `0.8`."""
    most: Annotated[float, Meta(gt=0, lt=1)]
    """Highest coverage to aim at. Example: `0.98`."""
    rate: Annotated[float, Meta(gt=0, le=0.2)] = 0.01
    """How far one answer moves what is aimed at: up by this if the truth is missed, down by less if it is held."""
    answers: Count = 30
    """Answers with feedback since the last change that are needed for a change."""
    hours: Positive = 1.0
    """Hours from one change to the next."""

    def __post_init__(self) -> None:
        if not self.least <= self.coverage <= self.most:
            raise ValueError(
                f"coverage is {self.coverage:g}, least {self.least:g} and most {self.most:g}; "
                "coverage must be between least and most"
            )


class AdaptOptions(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """``adapt`` of a pipeline: what the device may change about it, and how far. Default: nothing."""

    threshold: ThresholdLimits | None = None
    """Have the decoder's threshold follow feedback. Example: `{ least = 0.5, most = 0.9 }`."""
    priors: PriorLimits | None = None
    """Have class priors follow feedback. Example: `{ most = 3 }`."""
    offsets: OffsetLimits | None = None
    """Subtract what the mean of each channel moves slowly. Example: `{ most = 0.5 }`."""
    coverage: CoverageLimits | None = None
    """Have the sets and intervals of `conformal` follow feedback. Example: `{ least = 0.8, most = 0.98 }`."""


class Correction(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a pipeline runs its model beside what configuration and manifest say. Part of its assignment.

    ``number`` of the newest adaptation in it. ``threshold``: the decoder's. ``weights``: what the probability of
    each label is multiplied by. ``offsets``: what is subtracted from each channel of the samples. ``aim``: the
    coverage that ``conformal`` aims at.
    """

    number: Annotated[int, Meta(ge=0, le=LARGEST_NUMBER)] = 0
    threshold: Number | None = None
    weights: Annotated[dict[Label, Annotated[float, Meta(gt=0, le=1e6)]], Meta(max_length=MOST_LABELS)] = {}
    offsets: Annotated[list[Number], Meta(max_length=MOST_CHANNELS)] = []
    aim: Annotated[float, Meta(gt=0, lt=1)] | None = None


class AdaptationsHealth(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Adaptations of a pipeline that are in force, by kind: the number of the newest of each.

    ``last``: number of the last adaptation or undo. ``held``: kinds that were undone. They are not adapted again
    until the model changes.
    """

    in_force: dict[str, int]
    last: int
    held: list[str] = []
