"""Scores of classes to the best of them, or to none if even that is not good enough."""

from __future__ import annotations

from math import exp, isfinite, tanh
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

from limpet.manifest import Count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.types import FloatArray, TensorSpec


READS_INPUTS = False
"""What the model was given does not matter here."""


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How the scores, the model's first output, are read.

    ``labels`` stand in for the model's. ``top_k`` classes are reported, best first. A best score below
    ``threshold`` gives no label. ``activation`` is what the model left out: ``softmax`` makes probabilities that
    add up to 1, ``sigmoid`` makes one of each score alone, ``none`` takes the scores as they are.
    """

    labels: list[str] = []
    top_k: Count = 1
    threshold: float | None = None
    activation: Literal["none", "softmax", "sigmoid"] = "none"


class Scored(msgspec.Struct, gc=False):
    """A class and its score, null where that is not finite."""

    label: str
    score: float | None


class Output(msgspec.Struct, gc=False):
    """The best class and its score; ``top`` has the best few, best first.

    ``abstained``: the score is below the threshold, or the model gave NaN or infinity (then ``score`` is null and
    ``top`` empty). ``label`` is null then.
    """

    label: str | None
    score: float | None
    top: list[Scored]
    abstained: bool


def open(config: Config, outputs: Sequence[TensorSpec], labels: Sequence[str]) -> Classify:
    """Prepare to decode the first output, ``(classes,)`` after dimensions of 1.

    ``ValueError`` where it has another shape, or not as many classes as there are labels.
    """
    shape = outputs[0].shape if outputs else ()
    if not shape or shape[-1] < 1 or any(size not in {1, -1} for size in shape[:-1]):
        raise ValueError(f"classify takes one row of scores, not an output of shape {list(shape)}")
    names = list(config.labels or labels) or [str(index) for index in range(shape[-1])]
    if len(names) != shape[-1]:
        raise ValueError(
            f"there are {len(names)} labels for the {shape[-1]} classes of output {outputs[0].name!r}"
        )
    return Classify(config, names)


class Classify:
    """The scores are float32, NaN or infinite ones too. ``threshold`` may be set between two calls."""

    def __init__(self, config: Config, labels: list[str]) -> None:
        self.threshold = config.threshold
        self._labels = labels
        self._top_k = min(config.top_k, len(labels))
        self._activation = config.activation
        self._powers = np.empty(len(labels), np.float32)
        self._ones = np.ones(len(labels), np.float32)

    def __call__(self, outputs: Sequence[FloatArray], inputs: Sequence[FloatArray]) -> Output:  # noqa: ARG002
        """Return the best class, of equals the first."""
        raw = outputs[0].ravel()
        best = int(raw.argmax())  # a NaN, if there is one
        peak: float = raw.item(best)
        if not isfinite(peak):
            return Output(None, None, [], True)
        whole = self._whole(raw, peak) if self._activation == "softmax" else 1.0
        score = self._activated(peak, peak, whole)
        label = self._labels[best]
        top = [Scored(label, score)] if self._top_k == 1 else self._ranked(raw, peak, whole)
        if self.threshold is not None and score < self.threshold:
            return Output(None, score, top, True)
        return Output(label, score, top, False)

    def _whole(self, raw: FloatArray, peak: float) -> float:
        """Return the sum of the powers of all scores, ``peak`` taken off so that none overflows."""
        np.subtract(raw, peak, self._powers)
        np.exp(self._powers, self._powers)
        return float(self._powers.dot(self._ones))  # a third of the cost of sum()

    def _activated(self, score: float, peak: float, whole: float) -> float:
        if self._activation == "softmax":
            return exp(score - peak) / whole
        if self._activation == "sigmoid":
            return 0.5 + 0.5 * tanh(score / 2)  # never overflows, unlike 1 / (1 + exp(-score))
        return score

    def _ranked(self, raw: FloatArray, peak: float, whole: float) -> list[Scored]:
        """Return the best few, best first, of equals the first."""
        chosen = (-raw).argsort(kind="stable")[: self._top_k]
        scores = [self._activated(value, peak, whole) for value in raw[chosen].tolist()]
        return [
            Scored(self._labels[index], score if isfinite(score) else None)
            for index, score in zip(chosen.tolist(), scores, strict=True)
        ]
