"""The effective sample size: how many independent windows a series of windows is worth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MOST = 1 << 15
"""Windows that are looked at: the first ones of more."""
_TOGETHER = 16
"""Columns that are looked at together, so that it takes little memory."""
_WINDOWING = 5
"""Sokal's constant: the sum over lags ends where a lag is so many times the sum."""


def autocorrelation_times(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return how many windows are worth one independent window, at least 1, of each column of ``(n, columns)``.

    It is 1 plus twice the sum of the autocorrelations, with the window of Sokal (1997). Where numbers are not
    finite, the column's mean stands for them. A column that never changes has 1.
    """
    values = values[:_MOST]
    columns = [_times(values[:, at : at + _TOGETHER]) for at in range(0, values.shape[1], _TOGETHER)]
    return np.concatenate(columns) if columns else np.ones(0)


def _times(values: NDArray[Any]) -> NDArray[np.float64]:
    numbers = np.asarray(values, np.float64)
    finite = np.isfinite(numbers)
    numbers = np.where(finite, numbers, 0.0)
    n = len(numbers)
    if n < 2:
        return np.ones(numbers.shape[1])
    means = numbers.sum(axis=0) / np.maximum(finite.sum(axis=0), 1)
    numbers = np.where(finite, numbers - means, 0.0)
    spectrum = np.fft.rfft(numbers, 1 << (2 * n - 1).bit_length(), axis=0)
    covariance = np.fft.irfft(np.abs(spectrum) ** 2, axis=0)[:n]
    variance = covariance[0]
    varies = variance > 1e-20 * n * np.maximum(means**2, 1e-280)
    times = 2 * np.cumsum(covariance / np.where(varies, variance, 1), axis=0) - 1
    enough = np.arange(n)[:, None] >= _WINDOWING * times
    last = np.where(enough.any(axis=0), enough.argmax(axis=0), n - 1)
    found = np.maximum(times[last, np.arange(times.shape[1])], 1.0)
    return np.where(varies, np.minimum(found, n), 1.0)


def cautious_times(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return autocorrelation times with two standard errors added, as few windows say little about them.

    The error is that of Madras and Sokal (1988). Thresholds that are to hold use these.
    """
    times = autocorrelation_times(values)
    n = max(len(values), 1)
    errors = np.sqrt(2 * (2 * _WINDOWING * times + 1) / min(n, _MOST))
    cautious: NDArray[np.float64] = np.minimum(times * (1 + 2 * errors), n)
    return cautious
