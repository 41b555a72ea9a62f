"""What a model left out of its scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from limpet.contracts.data import FloatArray

Activation: TypeAlias = Literal["none", "sigmoid", "softmax"]


def probabilities(scores: FloatArray, activation: Activation, axis: int = 0) -> FloatArray:
    """Return probabilities. ``axis`` is that of the classes, for softmax."""
    if activation == "sigmoid":
        # Never overflows, unlike 1 / (1 + exp(-score)).
        return np.asarray(0.5 + 0.5 * np.tanh(scores / 2), np.float32)
    if activation == "softmax":
        powers = np.exp(scores - scores.max(axis=axis, keepdims=True))
        return np.asarray(powers / powers.sum(axis=axis, keepdims=True), np.float32)
    return scores
