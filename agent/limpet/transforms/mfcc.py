"""Mel-frequency cepstral coefficients of each short frame of sound."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from msgspec import Meta

from limpet.transforms._bands import DEFAULTS, EPSILON, BandKeys, opened
from limpet.transforms._mel import cosines
from limpet.transforms._spectral import AllRows, EachRow, Spectral, logarithm_of

if TYPE_CHECKING:
    from limpet.contracts.data import FloatArray
    from limpet.contracts.stage import Spec

_COEFFICIENTS = {"librosa": 20, "tensorflow": 13, "python_speech_features": 13}


class Config(BandKeys, kw_only=True, forbid_unknown_fields=True):
    """The coefficients of librosa, ``tf.signal`` or python_speech_features."""

    like: Literal["librosa", "tensorflow", "python_speech_features"] = "librosa"
    """Whose numbers the result has, and whose defaults hold."""
    coefficients: Annotated[int, Meta(ge=1, le=512)] | None = None
    """Number of coefficients. Default: 20 for librosa, else 13."""
    lifter: Annotated[int, Meta(ge=0, le=4096)] | None = None
    """Length of the sine that makes higher coefficients larger; 0 for none. Default: 22 for
    python_speech_features, else 0."""
    energy: bool = True
    """For `like = "python_speech_features"`: the first coefficient is the logarithm of a frame's energy."""


def open(config: Config, spec: Spec) -> Spectral:
    """Prepare for arrays ``(samples, channels)`` or ``(samples,)`` at ``spec.rate``.

    ``ValueError`` where the rate is open, windows are too short for a frame, or keys do not go together.
    """
    framing, filters = opened("mfcc", config, config.like, spec)
    bands, coefficients = filters.shape[1], config.coefficients or _COEFFICIENTS[config.like]
    if coefficients > bands:
        raise ValueError(f"mfcc: {coefficients} coefficients of {bands} bands; use at most one for each band")
    speech = config.like == "python_speech_features"
    lifter = (22 if speech else 0) if config.lifter is None else config.lifter
    turned = cosines(bands, coefficients, orthonormal=config.like != "tensorflow")
    weights = (turned * _lift(lifter, coefficients, first=0 if speech else 1)).astype(np.float32)
    if speech:
        if (config.scale, config.offset, config.least, config.top_db, config.reference) != (None,) * 4 + (1.0,):
            raise ValueError("mfcc: python_speech_features has no scale, offset, least, top_db or reference")
        return Spectral(spec, framing, coefficients, _with_energy(filters, weights, energy=config.energy))
    logarithm = logarithm_of("mfcc", config, DEFAULTS[config.like], framing.power)
    limit = logarithm.all

    def each(spectra: FloatArray) -> FloatArray:
        return logarithm.each(spectra @ filters)

    def limited(rows: FloatArray) -> FloatArray:
        return (rows if limit is None else limit(rows)) @ weights

    every: AllRows = limited
    return Spectral(spec, framing, coefficients, each, every)


def _with_energy(filters: FloatArray, weights: FloatArray, *, energy: bool) -> EachRow:
    """Return what makes python_speech_features' coefficients of spectra."""

    def each(spectra: FloatArray) -> FloatArray:
        found = _log(spectra @ filters) @ weights
        if energy:
            found[:, 0] = _log(spectra.sum(axis=1))
        return found

    return each


def _log(numbers: FloatArray) -> FloatArray:
    """Return the logarithm, and for 0 that of the smallest step of float64 at 1."""
    logarithm: FloatArray = np.log(np.where(numbers == 0, np.float32(EPSILON), numbers))
    return logarithm


def _lift(length: int, coefficients: int, first: int) -> FloatArray:
    if not length:
        return np.ones(coefficients, np.float32)
    at = np.arange(first, coefficients + first)
    return (1 + length / 2 * np.sin(np.pi * at / length)).astype(np.float32)
