"""The mean or the straight line of each channel taken out of a window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np
from msgspec.structs import replace

if TYPE_CHECKING:
    from limpet.contracts.data import Window
    from limpet.contracts.stage import Spec


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What is subtracted from each channel of a window."""

    type: Literal["linear", "constant"] = "linear"
    """`"linear"`: the straight line with the least squared distance to the samples. `"constant"`: their mean."""


def open(config: Config, spec: Spec) -> Detrend:
    """Prepare for arrays ``(samples, channels)`` or ``(samples,)``. ``ValueError`` for others."""
    if len(spec.shape) not in (1, 2):
        raise ValueError(f"detrend takes arrays (samples, channels), not {list(spec.shape)}")
    if spec.shape[0] == 1:
        raise ValueError("detrend needs windows of 2 samples or more; of a single one it leaves 0")
    return Detrend(spec, linear=config.type == "linear")


class Detrend:
    """Real arrays ``(samples, channels)`` to float32 of the same shape, as ``scipy.signal.detrend``."""

    def __init__(self, spec: Spec, *, linear: bool) -> None:
        self.spec = replace(spec, dtype=np.dtype(np.float32))
        self._linear = linear
        self._out = None if -1 in spec.shape else np.empty(spec.shape, np.float32)

    def __call__(self, window: Window) -> Window:
        """Return the window without its trend. A NaN in a channel makes all of it NaN."""
        values = window.values
        out = np.empty(values.shape, np.float32) if self._out is None else self._out
        left = values.astype(np.float64)
        left -= left.mean(axis=0)
        count = len(left)
        if self._linear and count > 1:
            at = np.arange(count) - (count - 1) / 2
            slope = np.tensordot(at, left, 1) / np.dot(at, at)
            left -= np.multiply.outer(at, slope)
        out[...] = left
        window.values = out
        return window

    def reset(self) -> None:
        """Do nothing: nothing is remembered."""
