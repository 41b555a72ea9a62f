"""How strong each mel band of each short frame of sound is, as a logarithm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from limpet.transforms._bands import DEFAULTS, BandKeys, opened
from limpet.transforms._spectral import Spectral, logarithm_of

if TYPE_CHECKING:
    from limpet.contracts.data import FloatArray
    from limpet.contracts.stage import Spec


class Config(BandKeys, kw_only=True, forbid_unknown_fields=True):
    """The log mel spectrogram of librosa, ``tf.signal``, YAMNet or Kaldi."""

    like: Literal["librosa", "tensorflow", "yamnet", "kaldi"] = "librosa"
    """Whose numbers the result has, and whose defaults hold."""


def open(config: Config, spec: Spec) -> Spectral:
    """Prepare for arrays ``(samples, channels)`` or ``(samples,)`` at ``spec.rate``.

    ``ValueError`` where the rate is open, windows are too short for a frame, or keys do not go together.
    """
    framing, filters = opened("log_mel", config, config.like, spec)
    logarithm = logarithm_of("log_mel", config, DEFAULTS[config.like], framing.power)

    def each(spectra: FloatArray) -> FloatArray:
        return logarithm.each(spectra @ filters)

    return Spectral(spec, framing, filters.shape[1], each, logarithm.all)
