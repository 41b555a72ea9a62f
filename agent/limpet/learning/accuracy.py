"""How often a model was right, as people said: counts, the last answers, and what health has of them."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, TypeAlias

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from limpet import beta
from limpet.contracts.accuracy import MOST_CLASSES, MOST_GROUPS, MOST_SLICES, AccuracyHealth, RightShare

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from limpet.learning.expected import Expected

MOST_RECENT = 512
"""Answers of a model that are known one by one."""
RECENT = 200
"""Answers in ``AccuracyHealth.recent``."""

Count = Annotated[int, Meta(ge=0, le=1 << 53)]
_Name = Annotated[str, Meta(max_length=128)]


class Counted(msgspec.Struct, array_like=True, frozen=True):
    """Answers, and how many of them were right."""

    answers: Count = 0
    right: Count = 0

    def plus(self, right: bool, times: int = 1) -> Counted:  # noqa: FBT001 - what is counted
        """Return the counts with another answer, or with one less (``times`` = -1)."""
        return Counted(max(self.answers + times, 0), max(self.right + times * right, 0))

    @property
    def share(self) -> RightShare:
        """What health reports."""
        right = min(self.right, self.answers)
        low, high = _interval(right, self.answers)
        return RightShare(answers=self.answers, right=right, low=round(low, 4), high=round(high, 4))


@lru_cache(maxsize=512)
def _interval(right: int, answers: int) -> beta.Interval:
    """Return the interval of a share. An answer changes a few of all that health has."""
    return beta.interval(right, answers) if answers else beta.Interval(0.0, 1.0)


class Judged(msgspec.Struct, array_like=True, frozen=True):
    """One answer. ``id`` of the result. ``truth``: the true label, empty if it is no single label.

    ``right`` is ``None`` if the model had not decided. ``best`` and ``score``: the label that scored best.
    ``chosen``: see ``AccuracyHealth.chosen``. ``held``: whether the set or interval has the truth, ``None`` if
    there is none. ``time`` of the result, in seconds since 1970.
    """

    id: Annotated[str, Meta(max_length=256)]
    right: bool | None
    truth: _Name = ""
    best: _Name = ""
    score: float | None = None
    slices: Annotated[tuple[Annotated[str, Meta(max_length=64)], ...], Meta(max_length=2 * MOST_GROUPS)] = ()
    chosen: bool = False
    held: bool | None = None
    time: Annotated[float, Meta(ge=0, le=1e11)] = 0.0


Counts: TypeAlias = dict[_Name, Counted]


class Accuracy(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one model of a pipeline. ``recent``: oldest first."""

    model: Annotated[str, Meta(max_length=64)]
    version: Count
    all: Counted = Counted()
    chosen: Counted = Counted()
    abstained: Count = 0
    classes: Annotated[Counts, Meta(max_length=MOST_CLASSES)] = {}
    slices: Annotated[Counts, Meta(max_length=MOST_SLICES)] = {}
    recent: Annotated[tuple[Judged, ...], Meta(max_length=MOST_RECENT)] = ()

    @property
    def labels(self) -> int:
        """How many windows have a label from a person."""
        return self.all.answers + self.chosen.answers + self.abstained


def take(known: Accuracy, judged: Judged) -> Accuracy:
    """Count an answer. If the same result had one before, that one counts no more."""
    before = next((one for one in known.recent if one.id == judged.id), None)
    if before is not None:
        known = _count(known, before, -1)
    recent = [one for one in known.recent if one is not before]
    return replace(_count(known, judged, 1), recent=(*recent, judged)[-MOST_RECENT:])


def _count(known: Accuracy, judged: Judged, times: int) -> Accuracy:
    right = judged.right
    if right is None:
        return replace(known, abstained=max(known.abstained + times, 0))
    if judged.chosen:
        return replace(known, chosen=known.chosen.plus(right, times))
    return replace(
        known,
        all=known.all.plus(right, times),
        classes=_counted(known.classes, [judged.truth] if judged.truth else [], right, times, MOST_CLASSES),
        slices=_counted(known.slices, judged.slices, right, times, MOST_SLICES),
    )


def _counted(counts: Counts, names: Iterable[str], right: bool, times: int, most: int) -> Counts:  # noqa: FBT001
    changed = dict(counts)
    for name in names:
        if name in changed or len(changed) < most:
            changed[name] = changed.get(name, Counted()).plus(right, times)
    return {name: one for name, one in changed.items() if one.answers}


def outcomes(known: Accuracy, slice_: str = "") -> list[bool]:
    """Return whether the last answers were right, oldest first, of all windows or of one slice."""
    return [
        one.right
        for one in known.recent
        if one.right is not None and not one.chosen and (not slice_ or slice_ in one.slices)
    ]


def truths(known: Accuracy) -> dict[str, int]:
    """Return how often each label was true, of answers that had not been chosen."""
    return {name: one.answers for name, one in known.classes.items()}


def health(known: Accuracy, expected: Expected | None) -> AccuracyHealth:
    """Return what health reports."""
    last = outcomes(known)[-RECENT:]
    return AccuracyHealth(
        all=known.all.share,
        recent=Counted(len(last), sum(last)).share,
        chosen=known.chosen.share if known.chosen.answers else None,
        abstained=known.abstained,
        classes=_shares(known.classes),
        slices=_shares(known.slices),
        expected=None if expected is None else expected.accuracy,
    )


def _shares(counts: Mapping[str, Counted]) -> dict[str, RightShare]:
    return {name: one.share for name, one in counts.items()}


MARGIN = 0.05
"""Accuracy by which a slice may be lower than what is expected of it."""
LEAST_OTHERS = 50
"""Answers of other slices without which nothing is expected of a slice that the reference does not have."""


def floor_of_slice(known: Accuracy, name: str, expected: Expected | None) -> float | None:
    """Return the accuracy that a slice is to have at least, ``None`` if nothing is expected of it.

    That is ``MARGIN`` below its accuracy in the reference. Of a slice that is not in the reference, it is
    ``MARGIN`` below the lower limit of the other windows' accuracy.
    """
    share = None if expected is None else expected.slices.get(name, expected.slices.get(name.partition("=")[2]))
    if share is not None:
        return share - MARGIN
    own = known.slices.get(name, Counted())
    others, right = known.all.answers - own.answers, known.all.right - own.right
    if others < LEAST_OTHERS:
        return None
    return _interval(min(max(right, 0), others), others).low - MARGIN
