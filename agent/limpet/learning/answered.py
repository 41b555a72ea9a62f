"""What a published result says in short. ``limpet.inference.agreement`` does the same for outputs in a worker."""

from __future__ import annotations

import math

import msgspec
from msgspec import UNSET, UnsetType

from limpet.errors import UnreadableError
from limpet.untrusted import reading
from limpet.updates.answers import Answer, cut_label, cut_labels

LEAST_AREA = 0.01
"""Share of the picture from which on a label of a segmentation is an answer."""


class _Named(msgspec.Struct):
    label: str
    score: float | None = None


class _Output(msgspec.Struct):
    """The fields that say what a result is about, of all decoders. No two decoders have the same."""

    label: str | UnsetType | None = UNSET
    keyword: str | UnsetType | None = UNSET
    labels: list[_Named] | UnsetType = UNSET
    detections: list[_Named] | UnsetType = UNSET
    poses: list[_Named] | UnsetType = UNSET
    shares: dict[str, float] | UnsetType = UNSET
    values: dict[str, float | None] | UnsetType = UNSET
    anomalous: bool | UnsetType = UNSET
    top: list[_Named] = []
    score: float | None = None
    similarity: float | None = None
    abstained: bool = False


class Short(msgspec.Struct, frozen=True):
    """What a result says. ``best``: the label that scored best, also below the threshold; empty if unknown.

    ``score`` is that label's. ``abstained``: the model had not decided.
    """

    answer: Answer
    best: str = ""
    score: float | None = None
    abstained: bool = False


def short(output: bytes) -> Short | None:
    """Return what the JSON of an output says, ``None`` if it is of no decoder that is known here."""
    try:
        with reading("an output"):
            found = msgspec.json.decode(output, type=_Output)
    except UnreadableError:
        return None
    value = _value(found)
    if value is UNSET:
        return None
    score = found.score if found.score is not None else found.similarity
    best = found.top[0].label if found.top else value if isinstance(value, str) else ""
    return Short(Answer(value), cut_label(best), score, found.abstained)


def _value(found: _Output) -> str | float | list[str] | UnsetType | None:
    for label in (found.label, found.keyword):
        if label is not UNSET:
            return None if label is None else cut_label(label)
    for several in (found.labels, found.detections, found.poses):
        if several is not UNSET:
            return cut_labels([one.label for one in several])
    if found.shares is not UNSET:
        return cut_labels([label for label, share in found.shares.items() if share >= LEAST_AREA])
    if found.anomalous is not UNSET:
        return "anomalous" if found.anomalous else "normal"
    if found.values is not UNSET:
        first = next(iter(found.values.values()), None)
        return first if first is not None and math.isfinite(first) else None
    return UNSET
