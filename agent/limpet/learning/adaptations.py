"""What a device has changed about itself, by number; and how a change is undone. No I/O.

The signed model stays as it is. The newest adaptation of each kind that is not undone is in force, while the
pipeline runs the model that it was made for. ``limpet.learning.changes`` decides which adaptations are made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from limpet.contracts.adaptation import (
    LARGEST_NUMBER,
    MOST_CHANNELS,
    MOST_LABELS,
    AdaptationKind,
    AdaptationsHealth,
    AdaptOptions,
    Correction,
    Label,
    Number,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

MOST = 100
"""Adaptations of a pipeline that are remembered. Of the older ones only those in force are."""

_Number = Annotated[int, Meta(ge=0, le=LARGEST_NUMBER)]
_Time = Annotated[float, Meta(ge=0, le=1e11)]
_Text = Annotated[str, Meta(max_length=500)]
_Model = Annotated[str, Meta(max_length=64)]


class Adaptation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One change, made at ``time`` in seconds since 1970. ``undone``: when it was undone, 0 if it was not.

    One of these has the value: ``threshold``, ``weights``, ``offsets`` and ``aim`` as in ``Correction``, or
    ``label``. That is the one that was enrolled or forgotten. ``reason``: a sentence.
    """

    number: _Number
    kind: AdaptationKind
    time: _Time
    model: _Model
    version: _Number
    reason: _Text
    threshold: Number | None = None
    weights: Annotated[dict[Label, Annotated[float, Meta(gt=0, le=1e6)]], Meta(max_length=MOST_LABELS)] = {}
    offsets: Annotated[list[Number], Meta(max_length=MOST_CHANNELS)] = []
    aim: Annotated[float, Meta(gt=0, lt=1)] | None = None
    label: Annotated[str, Meta(max_length=64)] = ""
    undone: _Time = 0.0
    undone_because: _Text = ""


class Adaptations(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All adaptations of a pipeline, oldest first. ``last``: the highest number so far.

    ``held``: kinds that are not adapted again, as one of them was undone.
    """

    made: Annotated[tuple[Adaptation, ...], Meta(max_length=2 * MOST)] = ()
    last: _Number = 0
    held: Annotated[tuple[AdaptationKind, ...], Meta(max_length=5)] = ()


NONE = Adaptations()


def in_force(known: Adaptations, model: str, version: int) -> dict[AdaptationKind, Adaptation]:
    """Return the adaptations that a model runs with, by kind."""
    return newest(known.made, model, version)


def newest(made: Sequence[Adaptation], model: str, version: int) -> dict[AdaptationKind, Adaptation]:
    """Return the newest of each kind that is not undone, of those that were made for a model."""
    return {one.kind: one for one in made if not one.undone and (one.model, one.version) == (model, version)}


def correction(known: Adaptations, model: str, version: int, allowed: AdaptOptions | None) -> Correction | None:
    """Return how a model is run, ``None`` if nothing is changed about it.

    What the configuration does not allow any more is left out: the file that the adaptations come from may be old.
    """
    if allowed is None:
        return None
    forces = in_force(known, model, version)
    threshold, priors, offsets = forces.get("threshold"), forces.get("priors"), forces.get("offsets")
    value = None if threshold is None else threshold.threshold
    limits = allowed.threshold
    if limits is None or value is None or not limits.least <= value <= limits.most:
        threshold, value = None, None
    most = 0.0 if allowed.priors is None else allowed.priors.most * 1.0001
    if priors is None or not most or not all(1 / most <= one <= most for one in priors.weights.values()):
        priors = None
    if allowed.offsets is None:
        offsets = None
    coverage, reach = forces.get("coverage"), allowed.coverage
    aim = None if coverage is None else coverage.aim
    if reach is None or aim is None or not reach.least <= aim <= reach.most:
        coverage, aim = None, None
    used = [one.number for one in (threshold, priors, offsets, coverage) if one is not None]
    if not used:
        return None
    return Correction(
        number=max(used),
        threshold=value,
        weights=priors.weights if priors is not None else {},
        offsets=offsets.offsets if offsets is not None else [],
        aim=aim,
    )


def add(known: Adaptations, made: Adaptation) -> Adaptations:
    """Return the adaptations with another one. Its number is the next one, whatever it was."""
    numbered = replace(made, number=known.last + 1)
    return replace(known, made=_kept((*known.made, numbered)), last=numbered.number)


def _kept(made: Sequence[Adaptation]) -> tuple[Adaptation, ...]:
    """Return the newest ones, and the newest of each kind that is not undone."""
    newest = {one.kind: one.number for one in made if not one.undone}
    old = [one for one in made[:-MOST] if newest.get(one.kind) == one.number]
    return (*old, *made[-MOST:])


def undo(known: Adaptations, number: int | None, now: float, because: str) -> tuple[Adaptations, list[Adaptation]]:
    """Undo an adaptation and all later ones, by default the newest. Return what is left, and what was undone.

    ``ValueError`` if there is no such adaptation, or if it is undone already. What was undone is not made again by
    itself, until the model changes.
    """
    left = [one for one in known.made if not one.undone]
    if not left:
        raise ValueError("no adaptation is in force")
    first = left[-1].number if number is None else number
    chosen = [one for one in left if one.number >= first]
    if not any(one.number == first for one in left):
        numbers = ", ".join(str(one.number) for one in left[-10:])
        raise ValueError(f"adaptation {first} is not in force; there are {numbers}")
    time = max(now, 1.0)
    undone = {one.number: replace(one, undone=time, undone_because=because[:500]) for one in chosen}
    held = dict.fromkeys((*known.held, *(one.kind for one in chosen if one.kind != "prototype")))
    made = tuple(undone.get(one.number, one) for one in known.made)
    return replace(known, made=made, held=tuple(held)), list(undone.values())


def released(known: Adaptations, kinds: Collection[str] | None = None) -> Adaptations:
    """Return the adaptations with kinds that may be adapted again; by default all."""
    held = () if kinds is None else tuple(one for one in known.held if one not in kinds)
    return known if held == known.held else replace(known, held=held)


def health(known: Adaptations, model: str, version: int) -> AdaptationsHealth | None:
    """Return what health reports, ``None`` if there was never an adaptation."""
    if not known.last:
        return None
    forces = in_force(known, model, version)
    return AdaptationsHealth(
        in_force={kind: one.number for kind, one in forces.items()}, last=known.last, held=list(known.held)
    )
