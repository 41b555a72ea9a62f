"""A Kalman filter of each quantity of a regression: the estimate of one window is the prior of the next.

The quantity moves at random (``level``), or its slope does (``trend``). These are the local level and the local
linear trend model of Durbin and Koopman (2012). Windows may come at any rate.
"""

from __future__ import annotations

from math import inf, isfinite, sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from limpet.contracts.outputs import Regression
from limpet.contracts.postprocess import Abilities
from limpet.errors import ModelError
from limpet.wording import listed

if TYPE_CHECKING:
    from limpet.contracts.data import Window
    from limpet.contracts.stage import Spec

ABILITIES = Abilities(takes=(Regression,), gives=Regression, outlives_gaps=True)

Deviation = Annotated[float, Meta(gt=0, le=1e100)]
Deviations: TypeAlias = Deviation | Annotated[dict[str, Deviation], Meta(max_length=256)]
_LARGEST = 1e300
_IGNORED = 5
"""Outliers in a row after which the quantity really is elsewhere."""


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How far the model's values are off, and how fast the quantities move. Each is one number, or one by name."""

    noise: Deviations
    """Standard deviation of the model's error, in the unit of the values. Example: `{ temperature = 0.8 }`."""
    drift: Deviations
    """How far the quantity moves in a second, as a standard deviation. With `model = "trend"`, how much its slope
    changes in a second. Example: `{ temperature = 0.05 }`."""
    model: Literal["level", "trend"] = "level"
    """`"level"`: the quantity moves at random. `"trend"`: it goes on in its direction."""
    coverage: Annotated[float, Meta(gt=0, lt=1)] = 0.9
    """Probability that the interval holds the quantity, if its errors have normal distributions."""
    outlier: Annotated[float, Meta(ge=2, le=1e6)] | None = None
    """Standard deviations from what was expected above which a value is ignored, at most 5 in a row. Default: no
    value is. Example: `5`."""
    widest: Deviations | None = None
    """Width of an interval above which the result abstains. Default: it never does. Example: `4.0`."""


def open(config: Config, spec: Spec) -> Kalman:
    """Prepare. ``ValueError`` if a quantity has a name that the decoder does not give."""
    for key, given in (("noise", config.noise), ("drift", config.drift), ("widest", config.widest)):
        names = given if isinstance(given, dict) and spec.labels else {}
        unknown = [name for name in names if name not in spec.labels]
        if unknown:
            raise ValueError(f"{key} has {unknown[0]!r}; the model gives {listed(spec.labels)}")
    noise, drift = config.noise, config.drift
    if isinstance(noise, dict) and isinstance(drift, dict) and set(noise) != set(drift):
        raise ValueError("noise and drift must name the same quantities")
    return Kalman(config, spec)


class Track:
    """The filter of one quantity: value and change a second, and what is known of them."""

    def __init__(self, noise: float, drift: float, *, trend: bool) -> None:
        self._measured = noise * noise
        self._moved = drift * drift
        self._trend = trend
        self.begun = False
        self.value = self._slope = 0.0
        self.variance = self._both = self._slope_variance = 0.0

    def begin(self, value: float) -> None:
        """Go on from one measured value."""
        self.begun = True
        self.value, self._slope = value, 0.0
        self.variance, self._both = self._measured, 0.0
        # A first slope of up to the noise in a second: any is possible until there are two values.
        self._slope_variance = self._measured + self._moved if self._trend else 0.0

    def predict(self, seconds: float) -> None:
        """Go on in time."""
        if not self._trend:
            self.variance = min(self.variance + self._moved * seconds, _LARGEST)
            return
        self.value += self._slope * seconds
        self.variance += seconds * (2 * self._both + seconds * self._slope_variance) + self._moved * seconds**3 / 3
        self._both += seconds * self._slope_variance + self._moved * seconds**2 / 2
        self._slope_variance += self._moved * seconds
        self.variance = min(self.variance, _LARGEST)

    def is_sound(self) -> bool:
        """Whether its numbers are finite: those of a model may be as large as numbers can be."""
        return isfinite(self.value) and isfinite(self._slope) and 0 <= self.variance < inf and isfinite(self._both)

    def surprise(self, value: float) -> float:
        """Return how many standard deviations a value is from what was expected."""
        return abs(value - self.value) / sqrt(self.variance + self._measured)

    def correct(self, value: float) -> None:
        """Take a measured value in."""
        total = self.variance + self._measured
        gain, slope_gain = self.variance / total, self._both / total
        error = value - self.value
        self.value += gain * error
        self._slope += slope_gain * error
        self._slope_variance -= slope_gain * self._both
        self._both *= 1 - gain
        self.variance *= 1 - gain


class Kalman:
    """Keeps an estimate of each quantity. A gap only makes it less sure: time goes on in it."""

    def __init__(self, config: Config, spec: Spec) -> None:
        self.spec = spec
        self._config = config
        self._reach = NormalDist().inv_cdf(0.5 + config.coverage / 2)
        self._tracks: dict[str, Track] = {}
        self._ignored: dict[str, int] = {}
        self._last_ns: int | None = None

    def __call__(self, window: Window) -> Window:
        """Return the window with filtered values and their intervals. ``ModelError`` if it has no quantities.

        A value that is null stays null, and time goes on for it.
        """
        given: Any = window.result
        if not isinstance(given, Regression):
            raise ModelError(f"a result with quantities was expected, not {type(given).__name__}")
        seconds = 0.0 if self._last_ns is None else max(window.taken_ns - self._last_ns, 0) / 1e9
        self._last_ns = window.taken_ns
        values, intervals = dict(given.values), {}
        wide = False
        for name, value in given.values.items():
            track = self._track(name)
            if track is None:
                continue
            if track.begun:
                track.predict(seconds)
            if value is None:
                continue
            self._take(name, track, value)
            values[name] = track.value
            reach = self._reach * sqrt(track.variance)
            intervals[name] = (max(track.value - reach, -_LARGEST), min(track.value + reach, _LARGEST))
            widest = _of(self._config.widest, name)
            wide |= widest is not None and 2 * reach > widest
        window.result = replace(given, values=values, intervals=intervals, abstained=given.abstained or wide)
        return window

    def reset(self) -> None:
        """Forget all windows."""
        self._tracks.clear()
        self._ignored.clear()
        self._last_ns = None

    def _track(self, name: str) -> Track | None:
        """Return the filter of a quantity, ``None`` if it has none."""
        found = self._tracks.get(name)
        if found is not None:
            return found
        noise, drift = _of(self._config.noise, name), _of(self._config.drift, name)
        if noise is None or drift is None:
            return None
        return self._tracks.setdefault(name, Track(noise, drift, trend=self._config.model == "trend"))

    def _take(self, name: str, track: Track, value: float) -> None:
        """Take a value in, unless it is an outlier."""
        if not track.begun or not track.is_sound():
            track.begin(value)
            return
        if self._config.outlier is not None and track.surprise(value) > self._config.outlier:
            self._ignored[name] = self._ignored.get(name, 0) + 1
            if self._ignored[name] > _IGNORED:
                self._ignored[name] = 0
                track.begin(value)
            return
        self._ignored[name] = 0
        track.correct(value)
        if not track.is_sound():
            track.begin(value)


def _of(given: float | dict[str, float] | None, name: str) -> float | None:
    return given.get(name) if isinstance(given, dict) else given
