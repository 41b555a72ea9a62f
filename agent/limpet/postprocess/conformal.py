"""Conformal prediction: sets of classes and intervals of quantities that hold the truth with a stated coverage.

``limpet-convert`` computes the quantiles on windows that the model has not seen (split conformal prediction, Vovk
and others, 2005). Coverage holds on average over windows that are alike. After drift it does not; ``aim`` is then
adapted (adaptive conformal inference, Gibbs and Candès, 2021).
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import msgspec
import numpy as np
from msgspec import Meta
from msgspec.structs import replace

from limpet.contracts.outputs import Classification, Regression
from limpet.contracts.postprocess import Abilities
from limpet.errors import ModelError
from limpet.wording import listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from limpet.contracts.data import Window
    from limpet.contracts.stage import Spec

ABILITIES = Abilities(takes=(Classification, Regression), wants=("scores",), outlives_gaps=True, calibrated=True)

DIGITS = 5
MOST_LEVELS = 65

Method: TypeAlias = Literal["lac", "aps"]
Coverage = Annotated[float, Meta(gt=0, lt=1)]
Quantile = Annotated[float, Meta(ge=0, le=1e300)]
MOST_QUANTITIES = 256
"""Quantities that can have intervals."""
Quantiles: TypeAlias = Quantile | Annotated[list[Quantile], Meta(min_length=1, max_length=MOST_LEVELS)]


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Which share of the truth the sets or intervals hold, and how far they reach for that.

    ``quantile`` is for classes, ``quantiles`` for quantities: exactly one of them is there.
    """

    coverage: Coverage = 0.9
    """Share of the windows whose set or interval holds the truth."""
    method: Method = "lac"
    """`"lac"`: all classes that are probable enough; such sets are the smallest on average. `"aps"`: the most
    probable classes until they add up to enough; its coverage differs less from class to class."""
    quantile: Quantiles | None = None
    """Highest nonconformity of a class in the set, as `limpet-convert` found it. Of several, one for each of
    `levels`. Example: `0.62`."""
    quantiles: Annotated[dict[str, Quantiles], Meta(max_length=MOST_QUANTITIES)] = {}
    """How far the interval of each quantity reaches to both sides, in its unit. Example: `{ speed = 1.4 }`."""
    levels: Annotated[list[Coverage], Meta(max_length=MOST_LEVELS)] = []
    """Coverages that the quantiles are for, in rising order. Default: `coverage` alone. Example: `[0.8, 0.9,
    0.95]`."""
    aim: Coverage | None = None
    """Coverage to aim at to reach `coverage` after drift. It needs `levels`. Default: `coverage`. Example:
    `0.93`."""
    random: bool = False
    """Whether `"aps"` leaves out the last class by chance, so that coverage is exact and not more. Chance depends
    on the window alone."""
    empty: bool = False
    """Whether a set may be empty, of a window that is like none before. Otherwise the best class is in it."""
    most: Annotated[int, Meta(ge=1, le=1000)] | None = None
    """Most classes in a set that still has a label. A larger set, or an empty one, abstains. Default: the set
    changes no label. Example: `1`."""

    def __post_init__(self) -> None:
        if (self.quantile is None) == (not self.quantiles):
            raise ValueError("set quantile, for classes, or quantiles, for quantities")
        if sorted(set(self.levels)) != self.levels:
            raise ValueError("levels must rise")
        count = len(self.levels) or 1
        for given in [self.quantile] if self.quantile is not None else self.quantiles.values():
            found = len(given) if isinstance(given, list) else 1
            if found != count:
                raise ValueError(f"there are {found} quantiles for {count} levels")
        if self.levels and not self.levels[0] <= (self.aim or self.coverage) <= self.levels[-1]:
            raise ValueError("coverage and aim must be within levels")
        if self.aim is not None and not self.levels:
            raise ValueError("aim needs levels")
        if self.random and self.method != "aps":
            raise ValueError('random goes with method = "aps"')


def open(config: Config, spec: Spec) -> Sets | Intervals:
    """Prepare. ``ValueError`` if a quantity has a name that the decoder does not give."""
    if config.quantile is not None:
        return Sets(config, spec)
    unknown = [name for name in config.quantiles if spec.labels and name not in spec.labels]
    if unknown:
        raise ValueError(f"quantiles has {unknown[0]!r}; the model gives {listed(spec.labels)}")
    return Intervals(config, spec)


def nonconformity(
    probabilities: NDArray[Any], method: Method, uniform: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return how little each class fits each window, float64 ``(n, classes)`` as the probabilities are.

    ``lac``: 1 less the probability. ``aps``: the sum of the probabilities of the class and of all more probable
    ones. ``uniform`` ``(n,)``, 0 to 1: the part of its probability that counts of the class. Default: all.
    """
    likely = np.asarray(probabilities, np.float64)
    if method == "lac":
        return np.asarray(1 - likely)
    order = (-likely).argsort(axis=1, kind="stable")
    ranked = np.take_along_axis(likely, order, axis=1)
    share = 1.0 if uniform is None else uniform[:, None]
    sums = ranked.cumsum(axis=1) - ranked + share * ranked
    found = np.empty_like(sums)
    np.put_along_axis(found, order, sums, axis=1)
    return found


def quantile(scores: NDArray[Any], coverage: float) -> float:
    """Return the nonconformity that holds ``coverage`` of further windows, by those of n windows' true classes.

    That is the ceil((n + 1) coverage)-th smallest one. ``ValueError`` if there are too few for that.
    """
    place = ceil(round((len(scores) + 1) * coverage, 9))
    if place > len(scores):
        least = ceil(round(coverage / (1 - coverage), 9))
        raise ValueError(
            f"{len(scores)} windows are too few for a coverage of {coverage:g}; at least {least} are needed"
        )
    return float(np.sort(np.asarray(scores, np.float64))[max(place, 1) - 1])


def uniform(ordinal: int) -> float:
    """Return a number from 0 to 1 that looks like chance, always the same for a window (SplitMix64)."""
    state = (ordinal + 1) * 0x9E3779B97F4A7C15 & _WORD
    state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & _WORD
    state = (state ^ state >> 27) * 0x94D049BB133111EB & _WORD
    return ((state ^ state >> 31) >> 11) / (1 << 53)


_WORD = (1 << 64) - 1


def _aimed(config: Config, given: float | Sequence[float]) -> float:
    """Return the quantile of the coverage that is aimed at, between those of two levels on a straight line."""
    if isinstance(given, int | float):
        return float(given)
    return float(np.interp(config.aim or config.coverage, config.levels or [config.coverage], given))


class Sets:
    """Sets of classes. Remembers nothing."""

    def __init__(self, config: Config, spec: Spec) -> None:
        assert config.quantile is not None
        self.spec = spec
        self._quantile = _aimed(config, config.quantile)
        self._method = config.method
        self._random = config.random
        self._empty = config.empty
        self._most = config.most

    def __call__(self, window: Window) -> Window:
        """Return the window with the set, best class first. Where the model gave NaN or infinity there is none.

        ``ModelError`` if the result has no classes.
        """
        given: Any = window.result
        if not isinstance(given, Classification):
            raise ModelError(f"a result with classes was expected, not {type(given).__name__}")
        if window.scores is None:
            window.result = replace(given)
            return window
        chosen = self._chosen(window.scores, window.ordinal)
        if self._most is not None and not 1 <= len(chosen) <= self._most:
            window.result = replace(given, set=chosen, label=None, abstained=True)
        else:
            window.result = replace(given, set=chosen)
        return window

    def reset(self) -> None:
        """Do nothing: nothing is remembered."""

    def _chosen(self, scores: NDArray[np.float32], ordinal: int) -> list[str]:
        share = np.array([uniform(ordinal)]) if self._random else None
        unlike = nonconformity(scores[None], self._method, share)[0]
        order = (-scores).argsort(kind="stable")
        places = [place for place in order.tolist() if unlike[place] <= self._quantile]
        if not places and not self._empty:
            places = [int(order[0])]
        return [self._name(place) for place in places]

    def _name(self, place: int) -> str:
        labels = self.spec.labels
        return labels[place] if place < len(labels) else str(place)


class Intervals:
    """Intervals of quantities. Remembers nothing."""

    def __init__(self, config: Config, spec: Spec) -> None:
        self.spec = spec
        self._reach = {name: _aimed(config, given) for name, given in config.quantiles.items()}

    def __call__(self, window: Window) -> Window:
        """Return the window with the interval of each value that is not null.

        ``ModelError`` if the result has no quantities.
        """
        given: Any = window.result
        if not isinstance(given, Regression):
            raise ModelError(f"a result with quantities was expected, not {type(given).__name__}")
        intervals = {}
        for name, reach in self._reach.items():
            value = given.values.get(name)
            if value is not None:
                intervals[name] = (value - reach, value + reach)
        window.result = replace(given, intervals=intervals)
        return window

    def reset(self) -> None:
        """Do nothing: nothing is remembered."""
