"""A few numbers that describe each channel over a window, as used for vibration and slow sensors."""

from __future__ import annotations

from functools import cached_property
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias, get_args

import msgspec
import numpy as np
from msgspec import Meta
from msgspec.structs import replace
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Callable

    from limpet.contracts.data import Array, Window
    from limpet.contracts.stage import Spec

Doubles: TypeAlias = NDArray[np.float64]
Feature: TypeAlias = Literal["mean", "std", "min", "max", "rms", "crest", "kurtosis"]


_REST = 1e-12
"""Share of the rms below which a standard deviation is rounding."""


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
        self.spec = replace(spec, shape=shape, dtype=np.dtype(np.float32), rate=None)
        self._features = [_FEATURES[feature] for feature in features]
        self._out = np.empty(shape, np.float32)

    def __call__(self, window: Window) -> Window:
        """Return the window with its features. A NaN in a channel makes all its features NaN."""
        channels = _Channels(window.values)
        for row, feature in enumerate(self._features):
            self._out[row] = feature(channels)
        window.values = self._out
        return window

    def reset(self) -> None:
        """Do nothing: nothing is remembered."""


class _Channels:
    """The features of one window, each computed when it is first used, and once."""

    def __init__(self, values: Array) -> None:
        # Channel by channel in memory: numpy reduces along the last axis up to ten times as fast.
        self._x: Doubles = np.ascontiguousarray(values.T, np.float64)

    @cached_property
    def mean(self) -> Doubles:
        return _mean(self._x)

    @cached_property
    def min(self) -> Doubles:
        lowest: Doubles = np.minimum.reduce(self._x, axis=-1)
        return lowest

    @cached_property
    def max(self) -> Doubles:
        highest: Doubles = np.maximum.reduce(self._x, axis=-1)
        return highest

    @cached_property
    def rms(self) -> Doubles:
        return np.sqrt(_mean(np.square(self._x)))

    @cached_property
    def std(self) -> Doubles:
        return np.sqrt(_mean(self._squares))

    @cached_property
    def crest(self) -> Doubles:
        return _ratio(np.maximum(-self.min, self.max), self.rms, self.rms == 0)

    @cached_property
    def kurtosis(self) -> Doubles:
        # What the mean's own rounding leaves of a channel at rest is no deviation.
        return _ratio(_mean(np.square(self._squares)), self.std**4, self.std <= _REST * self.rms)

    @cached_property
    def _squares(self) -> Doubles:
        squares: Doubles = np.square(self._x - self.mean[..., np.newaxis])
        return squares


_FEATURES: dict[str, Callable[[_Channels], Doubles]] = {name: attrgetter(name) for name in get_args(Feature)}


def _mean(x: Doubles) -> Doubles:
    mean: Doubles = np.add.reduce(x, axis=-1) / x.shape[-1]
    return mean


def _ratio(above: Doubles, below: Doubles, at_rest: NDArray[np.bool_]) -> Doubles:
    """Return ``above / below``, 0 for a channel at rest."""
    ratio: Doubles = np.divide(above, below, out=np.zeros_like(above), where=~at_rest)
    return ratio
