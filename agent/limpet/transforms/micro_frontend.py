"""The features of TensorFlow Lite Micro's audio front end, with which microWakeWord's models are trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
from msgspec.structs import replace
from pymicro_features import MicroFrontend as Frontend

from limpet.transforms._streaming import Latest, NewRows, sample_rate

if TYPE_CHECKING:
    from limpet.contracts.data import Array, Window
    from limpet.contracts.stage import Spec

_RATE = 16_000
_STEP = 160
"""Samples from one row to the next: 10 ms."""
_FRAME = 480
"""Samples that a row is made of: 30 ms."""
_FULL = np.float32(32768)
BANDS = 40
"""Numbers in a row."""


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """There is nothing to set: models are trained with the front end's one setting."""


def open(_: Config, spec: Spec) -> MicroFrontend:
    """Prepare for mono samples at 16 kHz, ``(samples,)`` or ``(samples, 1)``.

    ``ValueError`` for others, and where windows are too short, leave samples out or start off the 10 ms steps.
    """
    new = NewRows("micro_frontend", spec)
    if spec.shape[1:] not in {(), (1,)}:
        raise ValueError(f"micro_frontend takes one channel, not {spec.shape[1]}; choose one with channels")
    if sample_rate("micro_frontend", spec) != _RATE:
        raise ValueError(f"micro_frontend takes 16000 samples a second, not {spec.rate:g}; put resample before it")
    if new.size < _FRAME:
        raise ValueError(f"micro_frontend needs windows of {_FRAME} samples or more, not {new.size}")
    if new.hop % _STEP:
        raise ValueError(
            f"micro_frontend makes a row every {_STEP} samples; the window's hop must be a multiple, not {new.hop}"
        )
    return MicroFrontend(new, spec)


class MicroFrontend:
    """Mono samples to float32 ``(rows, 40)``: a row every 10 ms, each of 30 ms.

    Integers are int16 samples; real numbers are from -1 to 1. Noise reduction, PCAN gain control and the
    logarithm are those of TensorFlow's ``micro_frontend`` with microWakeWord's constants. The estimate of the
    noise goes on from window to window. A window has the newest rows: those of its own samples.

    Source: Y. Wang et al., Trainable frontend for robust and far-field keyword spotting, 2017;
    tensorflow/lite/experimental/microfrontend.
    """

    def __init__(self, new: NewRows, spec: Spec) -> None:
        rows = (new.size - _FRAME) // _STEP + 1
        self.spec = replace(
            spec,
            shape=(rows, BANDS),
            dtype=np.dtype(np.float32),
            rate=_RATE / _STEP,
            channels=(),
            hop=new.hop // _STEP,
        )
        self._new = new
        self._frontend = Frontend()
        self._left = b""
        self._latest = Latest(self.spec.shape)

    def __call__(self, window: Window) -> Window:
        """Return the window with its features. Samples beyond int16 are clipped, a NaN counts as 0."""
        new, fresh = self._new(window.values)
        if fresh:
            self._frontend.reset()
            self._left = b""
        data = self._left + _int16(new).tobytes()
        whole = len(data) - len(data) % (2 * _STEP)
        process = self._frontend.process_samples
        chunks = (data[at : at + 2 * _STEP] for at in range(0, whole, 2 * _STEP))
        rows = [features for chunk in chunks if (features := process(chunk).features)]
        self._left = data[whole:]
        if rows:
            self._latest.push(np.array(rows, np.float32))
        window.values = self._latest.rows
        return window

    def reset(self) -> None:
        """Forget all earlier samples and the noise among them."""
        self._new.reset()


def _int16(samples: Array) -> Array:
    if samples.dtype == np.int16:
        return samples
    if samples.dtype.kind == "f":
        samples = samples * _FULL
        np.rint(samples, samples)
    # A NaN fails both comparisons.
    if not (samples.min() >= -32768 and samples.max() <= 32767):
        samples = np.clip(np.nan_to_num(samples), -32768, 32767)
    return samples.astype(np.int16)
