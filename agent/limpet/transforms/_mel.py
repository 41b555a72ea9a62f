"""Triangular filters on the mel scale as libraries have them, float32 ``(bins, bands)``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Callable

    from limpet.contracts.data import FloatArray

Doubles: TypeAlias = NDArray[np.float64]
Mel: TypeAlias = Literal["slaney", "htk"]

_LINEAR_TO = 1000.0
"""Hz below which Slaney's scale is linear, with 3 mel for 200 Hz."""
_LOG_STEP = np.log(6.4) / 27.0


class Bands(NamedTuple):
    """``number`` bands from ``low`` to ``high`` Hz, of spectra of ``fft`` samples at ``rate`` a second."""

    rate: float
    fft: int
    number: int
    low: float
    high: float

    @property
    def bins(self) -> Doubles:
        """The frequencies of a spectrum in Hz."""
        return np.asarray(np.arange(self.fft // 2 + 1) * self.rate / self.fft, np.float64)

    def corners(self, scale: Callable[[Doubles], Doubles]) -> Doubles:
        """Return the corners of the triangles, evenly on a scale."""
        first, last = scale(np.array([self.low, self.high]))
        return np.linspace(float(first), float(last), self.number + 2, dtype=np.float64)


def librosa_filters(bands: Bands, mel: Mel, *, by_area: bool) -> FloatArray:
    """Return the filters of ``librosa.filters.mel``: triangles in Hz. ``by_area``: each has the same area.

    Source: M. Slaney, Auditory Toolbox, Technical Report 1998-010, Interval Research.
    """
    points = _slaney_hz(bands.corners(_slaney_mel))
    if mel == "htk":
        points = _htk_hz(bands.corners(_htk_mel))
    found = _triangles(bands.bins, points)
    if by_area:
        found *= 2 / (points[2:] - points[:-2])
    return found.astype(np.float32)


def tensorflow_filters(bands: Bands) -> FloatArray:
    """Return ``tf.signal.linear_to_mel_weight_matrix``: triangles in mel; nothing of 0 Hz."""
    mels = _htk_mel(bands.bins)
    found = _triangles(mels, bands.corners(_htk_mel))
    found[0] = 0
    return found.astype(np.float32)


def kaldi_filters(bands: Bands) -> FloatArray:
    """Return the filters of Kaldi's fbank: triangles in mel; nothing of half the rate."""
    mels = _htk_mel(bands.bins)
    found = _triangles(mels, bands.corners(_htk_mel))
    found[-1] = 0
    return found.astype(np.float32)


def speech_features_filters(bands: Bands) -> FloatArray:
    """Return ``python_speech_features.get_filterbanks``: triangles whose corners are whole bins."""
    points = _htk_hz(bands.corners(_htk_mel))
    corners = np.floor((bands.fft + 1) * points / bands.rate)
    bins = np.arange(bands.fft // 2 + 1, dtype=np.float64)
    found = np.zeros((len(bins), bands.number))
    for band, (left, centre, right) in enumerate(zip(corners, corners[1:], corners[2:], strict=False)):
        up, down = (bins >= left) & (bins < centre), (bins >= centre) & (bins < right)
        found[up, band] = (bins[up] - left) / (centre - left)
        found[down, band] = (right - bins[down]) / (right - centre)
    return found.astype(np.float32)


def cosines(bands: int, coefficients: int, *, orthonormal: bool) -> Doubles:
    """Return the discrete cosine transform, type 2, as ``(bands, coefficients)``.

    All are scaled alike. ``orthonormal``: the first one by the root of a half more.
    """
    order = np.arange(coefficients)
    found = np.cos(np.pi * np.outer(np.arange(bands) + 0.5, order) / bands) * np.sqrt(2 / bands)
    if orthonormal:
        found[:, 0] /= np.sqrt(2)
    return np.asarray(found)


def _triangles(bins: Doubles, points: Doubles) -> Doubles:
    """Return triangles between each three points, ``(bins, bands)``."""
    left, centre, right = points[:-2], points[1:-1], points[2:]
    up = (bins[:, None] - left) / (centre - left)
    down = (right - bins[:, None]) / (right - centre)
    return np.maximum(0.0, np.minimum(up, down))


def _htk_mel(hertz: Doubles) -> Doubles:
    return np.asarray(1127.0 * np.log1p(hertz / 700.0))


def _htk_hz(mel: Doubles) -> Doubles:
    return np.asarray(700.0 * np.expm1(mel / 1127.0))


def _slaney_mel(hertz: Doubles) -> Doubles:
    linear = 3 * hertz / 200
    return np.where(
        hertz < _LINEAR_TO, linear, 15 + np.log(np.maximum(hertz, _LINEAR_TO) / _LINEAR_TO) / _LOG_STEP
    )


def _slaney_hz(mel: Doubles) -> Doubles:
    return np.where(mel < 15, 200 * mel / 3, _LINEAR_TO * np.exp(_LOG_STEP * (np.maximum(mel, 15) - 15)))
