"""Features of samples along the last axis, each computed when it is first used, and once."""

from __future__ import annotations

from functools import cached_property
from operator import attrgetter
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Callable

Doubles: TypeAlias = NDArray[np.float64]
Feature: TypeAlias = Literal["mean", "std", "min", "max", "rms", "crest", "kurtosis"]

_REST = 1e-12
"""Share of the rms below which a standard deviation is rounding."""


class Features:
    """The features of float64 samples ``(..., n)``, each of the shape ``(...)``."""

    def __init__(self, samples: Doubles) -> None:
        self._x = samples

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


FEATURES: dict[str, Callable[[Features], Doubles]] = {name: attrgetter(name) for name in get_args(Feature)}


def _mean(x: Doubles) -> Doubles:
    mean: Doubles = np.add.reduce(x, axis=-1) / x.shape[-1]
    return mean


def _ratio(above: Doubles, below: Doubles, at_rest: NDArray[np.bool_]) -> Doubles:
    """Return ``above / below``, 0 for a channel at rest."""
    ratio: Doubles = np.divide(above, below, out=np.zeros_like(above), where=~at_rest)
    return ratio
