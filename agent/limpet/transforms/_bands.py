"""The mel bands that ``log_mel`` and ``mfcc`` share: their keys, their filters, their defaults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from msgspec import Meta

from limpet.contracts.fields import Positive
from limpet.transforms._frames import refuse_large, taper
from limpet.transforms._mel import (
    Bands,
    Mel,
    kaldi_filters,
    librosa_filters,
    speech_features_filters,
    tensorflow_filters,
)
from limpet.transforms._spectral import Defaults, SoundKeys, framing_of
from limpet.transforms._streaming import sample_rate

if TYPE_CHECKING:
    from limpet.contracts.data import FloatArray
    from limpet.contracts.stage import Spec
    from limpet.transforms._frames import Framing

EPSILON = float(np.finfo(np.float64).eps)

DEFAULTS = {
    "librosa": Defaults(
        fft=2048, pad="zero", power=2, scale="db", least=1e-10, top_db=80, bands=128, centred=True
    ),
    "tensorflow": Defaults(offset=1e-6, bands=20, low=125, high=3800),
    "yamnet": Defaults(400, 160, 512, offset=1e-3, bands=64, low=125, high=7500),
    "kaldi": Defaults(taper="povey", power=2, least=float(np.finfo(np.float32).eps), bands=23, low=20),
    "python_speech_features": Defaults(fft=512, taper="none", pad="end", power=2, scale="ln", bands=26),
}


class BandKeys(SoundKeys, kw_only=True, forbid_unknown_fields=True):
    """The bands. What is missing is as in the library that ``like`` names."""

    bands: Annotated[int, Meta(ge=1, le=512)] | None = None
    """Number of mel bands. Default: that of `like`. Example: `40`."""
    low: Annotated[float, Meta(ge=0, le=1e9)] | None = None
    """Lower edge of the lowest band in Hz. Default: that of `like`. Example: `20`."""
    high: Positive | None = None
    """Upper edge of the highest band in Hz. Default: that of `like`. Example: `7600`."""
    mel: Mel = "slaney"
    """For `like = "librosa"`: the mel scale. The other libraries have HTK's."""
    norm: Literal["slaney", "none"] = "slaney"
    """For `like = "librosa"`: whether all bands have the same area, or the same height."""


def opened(kind: str, keys: BandKeys, like: str, spec: Spec) -> tuple[Framing, FloatArray]:
    """Return the frames and the filters ``(bins, bands)``. ``ValueError`` where they cannot be as wanted."""
    default = DEFAULTS[like]
    if like != "librosa" and (keys.mel, keys.norm) != ("slaney", "slaney"):
        raise ValueError(f'{kind}: mel and norm are for like = "librosa"; "{like}" has its own')
    rate = sample_rate(kind, spec)
    if like == "yamnet" and rate != 16_000:
        raise ValueError(f"{kind}: YAMNet takes 16000 samples a second, not {rate:g}; put resample before it")
    if like in {"kaldi", "python_speech_features"}:
        default = default._replace(frame=max(int(0.025 * rate + 0.5), 1), hop=max(int(0.01 * rate + 0.5), 1))
    framing = framing_of(kind, keys, like, default, spec)
    if like == "kaldi":
        framing = framing._replace(
            taper=taper(keys.taper or default.taper, framing.span, symmetric=True), preemphasis=0.97, alone=True
        )
    elif like == "python_speech_features":
        framing = framing._replace(
            taper=taper(keys.taper or default.taper, framing.span, symmetric=True),
            preemphasis=0.97,
            share=1 / framing.fft,
        )
    bands, low = keys.bands or default.bands, default.low if keys.low is None else keys.low
    high = keys.high or default.high or rate / 2
    if high > rate / 2:
        raise ValueError(f"{kind}: high is {high:g} Hz, above {rate / 2:g} Hz, half the rate; set high")
    if low >= high:
        raise ValueError(f"{kind}: low is {low:g} Hz; it must be below high, {high:g} Hz")
    refuse_large(kind, framing, spec.shape, bands)
    return framing, _filters(like, keys, Bands(rate, framing.fft, bands, low, high))


def _filters(like: str, keys: BandKeys, bands: Bands) -> FloatArray:
    if like == "librosa":
        return librosa_filters(bands, keys.mel, by_area=keys.norm == "slaney")
    if like == "kaldi":
        return kaldi_filters(bands)
    if like == "python_speech_features":
        return speech_features_filters(bands)
    return tensorflow_filters(bands)
