"""An exponential moving average over windows: a transform of a third party, with a memory, in one file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np
from msgspec import Meta
from msgspec.structs import replace

if TYPE_CHECKING:
    from limpet.contracts.data import FloatArray, Window
    from limpet.contracts.stage import Spec


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """``weight``: share of the newest window in the average."""

    weight: Annotated[float, Meta(gt=0, le=1)] = 0.5


def open(config: Config, spec: Spec) -> Smoothed:  # noqa: A001
    """Prepare for windows of one size. ``ValueError`` for others."""
    if -1 in spec.shape:
        raise ValueError("smoothed takes windows of one size; set the window's size")
    return Smoothed(config.weight, replace(spec, dtype=np.dtype(np.float32)))


class Smoothed:
    """Keeps the average of all windows since the last gap."""

    def __init__(self, weight: float, spec: Spec) -> None:
        self.spec = spec
        self._weight = weight
        self._average: FloatArray = np.zeros(spec.shape, np.float32)
        self._empty = True

    def __call__(self, window: Window) -> Window:
        """Return the window with the average in place of its values."""
        if self._empty:
            self._average[...] = window.values
            self._empty = False
        else:
            self._average += self._weight * (window.values - self._average)
        window.values = self._average
        return window

    def reset(self) -> None:
        """Begin with the next window."""
        self._empty = True
