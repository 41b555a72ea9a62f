"""What a model left out of its scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import numpy as np
from msgspec import Meta

if TYPE_CHECKING:
    from limpet.contracts.data import FloatArray

Activation: TypeAlias = Literal["none", "sigmoid", "softmax"]
Temperature = Annotated[float, Meta(ge=0.01, le=100)]
FLOOR = 1e-6
"""Least probability that a temperature applies to: the logarithm of 0 is not finite."""


def probabilities(scores: FloatArray, activation: Activation, axis: int = 0) -> FloatArray:
    """Return probabilities. ``axis`` is that of the classes, for softmax."""
    if activation == "sigmoid":
        # Never overflows, unlike 1 / (1 + exp(-score)).
        return np.asarray(0.5 + 0.5 * np.tanh(scores / 2), np.float32)
    if activation == "softmax":
        powers = np.exp(scores - scores.max(axis=axis, keepdims=True))
        return np.asarray(powers / powers.sum(axis=axis, keepdims=True), np.float32)
    return scores


def logits(scores: FloatArray, activation: Activation, *, exclusive: bool) -> tuple[FloatArray, Activation]:
    """Return scores before their activation, and that activation: what a temperature divides.

    With ``none``, ``scores`` are probabilities, of classes that exclude each other or of each class alone. NaN
    stays NaN.
    """
    if activation != "none":
        return scores, activation
    if exclusive:
        return np.log(np.clip(scores, FLOOR, 1)), "softmax"
    share = np.clip(scores, FLOOR, 1 - FLOOR)
    return np.log(share) - np.log1p(-share), "sigmoid"


def calibrated(
    scores: FloatArray, activation: Activation, temperature: float, *, exclusive: bool = True, axis: int = 0
) -> FloatArray:
    """Return probabilities at a temperature. At 1 it is ``probabilities``. Above 1 they are less sure.

    ``exclusive``: whether the classes exclude each other. ``axis`` is that of the classes.
    """
    if temperature == 1.0:
        return probabilities(scores, activation, axis)
    raw, then = logits(scores, activation, exclusive=exclusive)
    return probabilities(raw / temperature, then, axis)
