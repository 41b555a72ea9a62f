"""A few numbers that describe each channel over a window, as used for vibration and slow sensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, get_args

import msgspec
import numpy as np
from msgspec import Meta
from msgspec.structs import replace

from limpet.transforms._features import FEATURES, Feature, Features

if TYPE_CHECKING:
    from limpet.contracts.data import Window
    from limpet.contracts.stage import Spec


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Which features, in the order in which the model sees them; all by default.

    ``mean``, ``std`` (of the population), ``min``, ``max`` and ``rms`` (root mean square) are in the source's
    unit. ``crest`` is the largest absolute value over the rms. ``kurtosis`` is the mean fourth power of the
    deviation over the squared variance: 3 for a normal distribution, 1.5 for a sine. Both are 0 for a channel at
    rest.
    """

    features: Annotated[list[Feature], Meta(min_length=1)] = msgspec.field(
        default_factory=lambda: list(get_args(Feature))
    )
    """Features of each channel, in the order in which the model sees them. Example: `["mean", "std"]`."""

    def __post_init__(self) -> None:
        if len(set(self.features)) < len(self.features):
            raise ValueError(f"features has one twice: {self.features}")


def open(config: Config, spec: Spec) -> Statistics:
    """Prepare for arrays ``(samples, channels)`` or ``(samples,)``. ``ValueError`` for others."""
    if len(spec.shape) not in (1, 2):
        raise ValueError(f"statistics takes arrays (samples, channels), not {list(spec.shape)}")
    return Statistics(config.features, spec)


class Statistics:
    """Real arrays ``(samples, channels)`` to float32 ``(features, channels)``; one buffer serves all calls."""

    def __init__(self, features: list[Feature], spec: Spec) -> None:
        shape = (len(features), *spec.shape[1:])
        self.spec = replace(spec, shape=shape, dtype=np.dtype(np.float32), rate=None, hop=None)
        self._features = [FEATURES[feature] for feature in features]
        self._out = np.empty(shape, np.float32)

    def __call__(self, window: Window) -> Window:
        """Return the window with its features. A NaN in a channel makes all its features NaN."""
        # Channel by channel in memory: numpy reduces along the last axis up to ten times as fast.
        channels = Features(np.ascontiguousarray(window.values.T, np.float64))
        for row, feature in enumerate(self._features):
            self._out[row] = feature(channels)
        window.values = self._out
        return window

    def reset(self) -> None:
        """Do nothing: nothing is remembered."""
