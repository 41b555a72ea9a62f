"""What a result says, in short, and whether that is right. No I/O, no numpy."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

LONGEST_LABEL = 64
"""Characters of a label. Longer ones are cut."""
MOST_LABELS = 32
"""Labels in one answer."""

Label = Annotated[str, Meta(max_length=LONGEST_LABEL)]
Labels = Annotated[list[Label], Meta(max_length=MOST_LABELS)]
Agreement = Annotated[float, Meta(ge=0, le=1)]
MOST_PAIRS = 256
"""Windows that two models ran, in one record."""

_Name = Annotated[str, Meta(max_length=64)]
_Version = Annotated[int, Meta(ge=0, le=1 << 53)]
_Count = Annotated[int, Meta(ge=0, le=1 << 40)]
_Int64 = Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
_Microseconds = Annotated[float, Meta(ge=0, le=1e12)]

Truth: TypeAlias = str | float | list[str] | None
"""What is true of a window: a label, a number, or all labels that apply. ``None``: nothing is there."""


class Answer(msgspec.Struct, array_like=True, frozen=True):
    """What a result says: a label, a number, or some labels in alphabetical order; ``None`` if nothing.

    ``score`` is how sure the model is, 0 to 1, ``None`` if that is unknown. ``limpet.inference.agreement`` makes
    these of results.
    """

    value: Label | float | Labels | None
    score: Annotated[float, Meta(ge=0, le=1)] | None = None


class Pair(msgspec.Struct, array_like=True, frozen=True):
    """What two models answered to the same window. The first two fields are those of the pipeline's ``Result``.

    ``ours`` is the answer of the model that the pipeline runs, ``theirs`` that of its shadow. ``agreement`` is 0
    to 1, ``None`` if the outputs cannot be compared. Both times are without waiting.
    """

    sample: _Int64
    monotonic_ns: _Int64
    ours: Answer
    theirs: Answer
    agreement: Agreement | None
    ours_us: _Microseconds
    theirs_us: _Microseconds


class Pairs(msgspec.Struct, tag=True):
    """Windows that ran on a pipeline's model and on its shadow, since the record before.

    ``model`` and ``version`` are those of the pipeline, ``shadow`` and ``shadow_version`` of its shadow.
    ``errors`` counts windows on which the shadow failed. ``skipped`` counts windows that it left out, as it was at
    work, samples waited, or it had used its share of the CPU.
    """

    pipeline: _Name
    model: _Name
    version: _Version
    shadow: _Name
    shadow_version: _Version
    items: Annotated[list[Pair], Meta(max_length=MOST_PAIRS)]
    errors: _Count = 0
    skipped: _Count = 0


def is_right(answer: Answer, truth: Truth, tolerance: float) -> bool | None:
    """Whether an answer is right. ``None`` if such an answer cannot be compared with such a truth.

    A label must be the same. A number may differ by ``tolerance``. Several labels must be the same, each as often
    as in the truth, in any order. A label alone is a list of one, and ``None`` is an empty list.
    """
    value = answer.value
    if isinstance(truth, float):
        if isinstance(value, float):
            return abs(value - truth) <= tolerance
        return False if value is None else None
    if isinstance(value, float):
        return False if truth is None else None
    return cut_labels(_listed(value)) == cut_labels(_listed(truth))


def cut_labels(labels: list[str]) -> list[str]:
    """Return labels as an ``Answer`` has them: cut, in alphabetical order, at most ``MOST_LABELS``."""
    return sorted(map(cut_label, labels))[:MOST_LABELS]


def cut_label(label: str) -> str:
    """Return a label as an ``Answer`` has it: cut, and with spaces in place of what cannot be printed."""
    label = label[:LONGEST_LABEL]
    return label if label.isprintable() else "".join(c if c.isprintable() else " " for c in label)


def _listed(value: str | list[str] | None) -> list[str]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else value
