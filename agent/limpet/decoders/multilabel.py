"""Scores of classes that do not exclude each other: all labels that score enough."""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np
from msgspec import Meta
from msgspec.structs import replace

from limpet.contracts.decoder import Abilities
from limpet.contracts.outputs import Labels, ScoredLabel
from limpet.decoders._activation import Activation, Temperature
from limpet.decoders._scores import activated, names, row_size, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.data import FloatArray, Window
    from limpet.contracts.stage import Spec

ABILITIES = Abilities(output=Labels, reads_inputs=False, threshold=True, scores=True)

DIGITS = 5
MOST = 1000


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Which labels are reported."""

    labels: list[str] = []
    """Names of the classes, in the order of the model's scores. Default: the model's. Example: `["dog",
    "cat"]`."""
    threshold: float = 0.5
    """Lowest score of a label that applies."""
    thresholds: dict[str, float] = {}
    """Thresholds of single labels. Example: `{ dog = 0.8 }`."""
    most: Annotated[int, Meta(ge=1, le=MOST)] = 20
    """How many labels are reported, best first."""
    activation: Activation = "none"
    """What the model left out. `"sigmoid"` makes a probability of each score alone."""
    temperature: Temperature = 1.0
    """Scores are divided by this before the activation: above 1 the model is less sure. Example: `1.7`."""

    def __post_init__(self) -> None:
        if any(map(isnan, (self.threshold, *self.thresholds.values()))):
            raise ValueError("a threshold must be a number")


def open(config: Config, spec: Spec) -> MultiLabel:
    """Prepare to decode. ``ValueError`` if the first output is no row of scores, or has not as many as labels."""
    labels = names("multilabel", config.labels or spec.labels, row_size("multilabel", spec.outputs))
    unknown = sorted(set(config.thresholds) - set(labels))
    if unknown:
        raise ValueError(f"multilabel: thresholds has {unknown[0]!r}, which is no label of the model")
    return MultiLabel(config, labels, spec)


class MultiLabel:
    """Each score counts for itself."""

    def __init__(self, config: Config, labels: list[str], spec: Spec) -> None:
        self.spec = replace(spec, labels=tuple(labels))
        self._labels = labels
        self._own = config.thresholds
        self._most = config.most
        self._activation = config.activation
        self._temperature = config.temperature
        self._wants_scores = False
        self._thresholds = _thresholds(labels, config.threshold, config.thresholds)

    def __call__(self, window: Window) -> Window:
        """Return the window with the labels that apply, of equals the first one first."""
        scores = activated(self._activation, window.outputs[0], self._temperature, exclusive=False)
        if self._wants_scores:
            window.scores = shown(scores)
        finite = np.isfinite(scores)
        places = np.flatnonzero(finite & (scores >= self._thresholds))
        places = places[(-scores[places]).argsort(kind="stable")][: self._most]
        labels = [ScoredLabel(self._labels[at], round(float(scores[at]), DIGITS)) for at in places.tolist()]
        window.result = Labels(labels, not finite.all())
        return window

    def reset(self) -> None:
        """Do nothing: nothing is remembered."""

    def want_scores(self) -> None:
        """Set ``Window.scores`` from now on, ``None`` where one of them is not finite."""
        self._wants_scores = True

    def set_threshold(self, value: float) -> None:
        """Use another threshold for all labels without one of their own, from the next window on."""
        self._thresholds = _thresholds(self._labels, value, self._own)


def _thresholds(labels: Sequence[str], usual: float, own: dict[str, float]) -> FloatArray:
    return np.array([own.get(label, usual) for label in labels], np.float32)
