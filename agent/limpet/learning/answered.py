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
    set: list[str] | None = None
    intervals: dict[str, tuple[float, float]] | None = None


class Short(msgspec.Struct, frozen=True):
    """What a result says. ``best``: the label that scored best, also below the threshold; empty if unknown.

    ``score`` is that label's. ``abstained``: the model had not decided. ``set`` of labels
    that hold the true one, and ``interval`` of the first quantity, if there are any.
    """

    answer: Answer
    best: str = ""
    score: float | None = None
    abstained: bool = False
    set: tuple[str, ...] | None = None
    interval: tuple[float, float] | None = None

    def holds(self, truth: object) -> bool | None:
        """Whether set or interval has the truth; ``None`` if there is none, or it is of another type."""
        if isinstance(truth, str) and self.set is not None:
            return cut_label(truth) in self.set
        if isinstance(truth, int | float) and self.interval is not None:
            return self.interval[0] <= truth <= self.interval[1]
        return None


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
    labels = None if found.set is None else tuple(cut_label(label) for label in found.set)
    first = next(iter(found.values), "") if isinstance(found.values, dict) else ""
    interval = None if found.intervals is None else found.intervals.get(first)
    return Short(Answer(value), cut_label(best), score, found.abstained, labels, interval)


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
