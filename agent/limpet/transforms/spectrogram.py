"""The spectrum of each short frame of sound."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from limpet.transforms._frames import refuse_large
from limpet.transforms._spectral import Defaults, SoundKeys, Spectral, framing_of, logarithm_of

if TYPE_CHECKING:
    from limpet.contracts.stage import Spec

_DEFAULTS = {
    "librosa": Defaults(fft=2048, pad="zero", scale="none", least=1e-10, top_db=80, centred=True),
    "tensorflow": Defaults(scale="none"),
    "yamnet": Defaults(400, 160, 512, scale="none"),
}


class Config(SoundKeys, kw_only=True, forbid_unknown_fields=True):
    """``librosa.stft``, ``tf.signal.stft`` or YAMNet's, as magnitude, power or logarithm."""

    like: Literal["librosa", "tensorflow", "yamnet"] = "librosa"
    """Whose numbers the result has, and whose defaults hold."""


def open(config: Config, spec: Spec) -> Spectral:
    """Prepare for arrays ``(samples, channels)`` or ``(samples,)`` at ``spec.rate``.

    ``ValueError`` where the rate is open, windows are too short for a frame, or a key is missing.
    """
    default = _DEFAULTS[config.like]
    framing = framing_of("spectrogram", config, config.like, default, spec)
    refuse_large("spectrogram", framing, spec.shape, framing.fft // 2 + 1)
    logarithm = logarithm_of("spectrogram", config, default, framing.power)
    return Spectral(spec, framing, framing.fft // 2 + 1, logarithm.each, logarithm.all)
