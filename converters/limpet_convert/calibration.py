"""Whether a model is as sure as it is right: its temperature, and the error that is left. Pure functions."""

from __future__ import annotations

from math import exp, log
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from limpet.decoders._activation import calibrated, logits

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from limpet.contracts.data import Array, FloatArray
    from limpet.decoders._activation import Activation

BINS = 10
LOWEST, HIGHEST = 0.05, 20.0
"""Temperatures that are tried."""
_STEPS = 30
_GOLDEN = (5**0.5 - 1) / 2


class CalibrationError(NamedTuple):
    """``error``: the expected calibration error. ``bias``: what it would be for a model that is as sure as right.

    ``bias`` is not 0, as each bin has finitely many windows.
    """

    error: float
    bias: float


def temperature(scores: FloatArray, targets: Array, activation: Activation) -> float:
    """Return the temperature at which the true classes are most probable, from ``LOWEST`` to ``HIGHEST``.

    ``scores`` ``(n, classes)`` as the model gives them, ``targets`` ``(n,)`` class indices. Targets count as
    slightly unsure, as Platt (1999) has it, so that a model without an error gets a finite temperature. Source:
    Guo and others, On calibration of modern neural networks (2017).
    """
    raw, _ = logits(np.asarray(scores, np.float64), activation, exclusive=True)
    n, classes = raw.shape
    doubt = 1 / (n + 2)
    weights = np.full(raw.shape, doubt / max(classes - 1, 1))
    weights[np.arange(n), targets.astype(int)] = 1 - doubt

    def loss(log_temperature: float) -> float:
        scaled = raw / exp(log_temperature)
        peak = scaled.max(axis=1, keepdims=True)
        whole = np.log(np.exp(scaled - peak).sum(axis=1)) + peak[:, 0]
        return float((whole - (weights * scaled).sum(axis=1)).mean())

    low, high = log(LOWEST), log(HIGHEST)
    for _ in range(_STEPS):
        first, second = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if loss(first) < loss(second):
            high = second
        else:
            low = first
    return float(f"{exp((low + high) / 2):.4g}")


def probabilities(scores: FloatArray, activation: Activation, temperature: float) -> FloatArray:
    """Return what the decoders make of scores ``(n, classes)`` at a temperature."""
    return calibrated(np.asarray(scores, np.float32), activation, temperature, axis=1)


def error(chances: FloatArray, targets: Array, draws: int = 200) -> CalibrationError:
    """Return the expected calibration error over ``BINS`` bins with as many windows each, and its bias.

    ``chances`` ``(n, classes)``. ``draws``: simulations of a model that is as sure as it is right. With bins of
    equal width most would be nearly empty. Source: Nixon and others, Measuring calibration in deep learning
    (2019).
    """
    sure = chances.max(axis=1).astype(np.float64)
    right = chances.argmax(axis=1) == targets
    order = sure.argsort(kind="stable")
    sure, right = sure[order], right[order]
    random = np.random.default_rng(0)
    ideal = [_gap(sure, random.random(len(sure)) < sure) for _ in range(draws)]
    return CalibrationError(_gap(sure, right), float(np.mean(ideal)))


def _gap(sure: NDArray[np.float64], right: Array) -> float:
    """Return the mean distance of how sure and how often right, over bins of windows in rising order."""
    bins = zip(np.array_split(sure, BINS), np.array_split(right, BINS), strict=True)
    return float(sum(abs(s.mean() - r.mean()) * len(s) for s, r in bins if len(s)) / max(len(sure), 1))
