"""Classes where they are more or less frequent than in the training data: each probability times a weight.

By Bayes' rule the weight of a class is its share here, divided by its share in the training data (Saerens, Latinne
and Decaestecker, 2002). A device that adapts its priors uses this stage, see ``limpet.learning.changes``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta
from msgspec.structs import replace

from limpet.contracts.adaptation import MOST_LABELS
from limpet.contracts.outputs import Classification, ScoredLabel
from limpet.contracts.postprocess import Abilities
from limpet.errors import ModelError

if TYPE_CHECKING:
    from limpet.contracts.data import Window
    from limpet.contracts.stage import Spec

ABILITIES = Abilities(takes=(Classification,), gives=Classification, wants=("scores",), outlives_gaps=True)

Weight = Annotated[float, Meta(gt=0, le=1e6)]


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What the probability of each class is multiplied by. Afterwards, all are scaled to a sum of 1."""

    weights: Annotated[dict[str, Weight], Meta(min_length=1, max_length=MOST_LABELS)]
    """Weights by label. Default of a label: 1. Example: `{ fault = 0.2 }`."""
    threshold: float | None = None
    """Lowest probability of a label. Below it the result abstains. Default: none. Example: `0.6`."""


def open(config: Config, spec: Spec) -> Priors:
    """Prepare to weight. ``ValueError`` if the decoder has no labels, or not those of the weights."""
    if unknown := [label for label in config.weights if label not in spec.labels]:
        raise ValueError(f"weights: the model has no class {unknown[0]!r}")
    return Priors(config, spec)


class Priors:
    """Also changes ``Window.scores``, so that later stages get what follows from the weights."""

    def __init__(self, config: Config, spec: Spec) -> None:
        self.spec = spec
        self._weights = np.array([config.weights.get(label, 1.0) for label in spec.labels])
        self._threshold = config.threshold

    def __call__(self, window: Window) -> Window:
        """Return the window with the class that is most probable by the weights.

        Where the model gave NaN or infinity, the result stays. ``ModelError`` if it has no classes.
        """
        given: Any = window.result
        if not isinstance(given, Classification):
            raise ModelError(f"a result with classes was expected, not {type(given).__name__}")
        if window.scores is None:
            return window
        weighted = window.scores.astype(np.float64) * self._weights
        whole = float(weighted.sum())
        if not whole > 0:
            return window
        scores = weighted / whole
        window.scores = scores.astype(np.float32)
        order = (-scores).argsort(kind="stable")[: max(len(given.top), 1)]
        top = [ScoredLabel(self.spec.labels[at], float(scores[at])) for at in order.tolist()]
        best = top[0]
        abstained = self._threshold is not None and float(scores[order[0]]) < self._threshold
        window.result = replace(
            given, label=None if abstained else best.label, score=best.score, top=top, abstained=abstained
        )
        return window

    def reset(self) -> None:
        """Do nothing: nothing is remembered."""
