"""Faults of a sensor, by name, so that they are not taken for drift of the data.

* ``stuck``: a channel never changes, in more windows one after the other than chance explains.
* ``drop_out``: it is 0 throughout, or many windows are missing.
* ``saturated``: many samples of a window are at one end, which is the same in each window.
* ``unit``: its numbers are multiplied as by another unit, such as g and m/s².
* ``rate``: windows come at another rate than the reference's, by at least 20 %.
* ``clock``: they come at another rate than at first, by at least 1 %, or time steps back.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta

from limpet.contracts.drift import MOST_FEATURES, MOST_MOVED, Fault, Moved
from limpet.contracts.monitor import Alarm
from limpet.monitors._limits import END, check_length, read_thresholds
from limpet.monitors._runs import Chances, Runs, chances
from limpet.monitors._timing import P_VALUE, Intervals, Timing
from limpet.monitors._units import Level, conversion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.data import Array, FloatArray
    from limpet.contracts.monitor import Observed
    from limpet.contracts.reference import FeatureReference, Reference

_LEAST_AT_LIMITS = 0.2
"""Share of a window's samples at its ends that is saturation, if the reference has never so many."""
_MARGIN = 0.05
_RUNS: tuple[Fault, ...] = ("drop_out", "stuck", "saturated")
_CENTRES = ("mean", "offset")
_ENDS = ("largest", "least", "peak")
_OUTSIDE = 0.5
"""Share of windows outside of the reference's range from which a unit may have changed."""
_LONGEST = 1 << 16

_Chance = Annotated[float, Meta(gt=0, le=1)]
_PerChannel = Annotated[list[_Chance], Meta(max_length=MOST_FEATURES)]


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Options of the monitor ``sensor``. It has none."""


class _Thresholds(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """``starts`` and ``stays``: of ``drop_out``, ``stuck`` and ``saturated``, of each channel.

    They are the chances that a window of the reference shows it, and that it does after one that does.
    ``chance``: of a false alarm of each. ``unit_windows``: after how many windows a change of unit is looked for.
    """

    starts: Annotated[list[_PerChannel], Meta(min_length=3, max_length=3)]
    stays: Annotated[list[_PerChannel], Meta(min_length=3, max_length=3)]
    chance: Annotated[float, Meta(ge=1e-300, le=0.5)]
    unit_windows: Annotated[int, Meta(ge=1, le=_LONGEST)]


def calibrate(config: Config, observed: Observed, reference: Reference, allowed: float) -> dict[str, Any]:
    """Return how often the reference's windows show a fault. ``ValueError`` if it has no features."""
    del config
    channels = _channels(reference)
    if len(observed) < 2:
        raise ValueError("the reference has fewer than 2 windows")
    chance = max(allowed / (len(_RUNS) + 1) / len(channels), 1e-300)
    shown = _Faults(channels).shown(observed.features[1:], observed.features[:-1])
    known = [chances(shown[fault]) for fault in _RUNS]
    return {
        "starts": [one.starts for one in known],
        "stays": [one.stays for one in known],
        "chance": chance,
        "unit_windows": _unit_windows(reference, chance),
    }


def open(config: Config, reference: Reference, thresholds: dict[str, Any]) -> Sensor:
    """Prepare to watch. ``ValueError`` if the reference has no features, or for wrong thresholds."""
    del config
    channels = _channels(reference)
    read = read_thresholds("sensor", _Thresholds, thresholds)
    for rows in (read.starts, read.stays):
        for row in rows:
            check_length("sensor", "starts and stays", len(row), len(channels))
    return Sensor(channels, read, reference.rate)


class _Channel(NamedTuple):
    """The features of one channel by what they are, such as ``mean``, with their columns."""

    name: str
    columns: dict[str, int]
    features: dict[str, FeatureReference]

    def column(self, kinds: Sequence[str]) -> int | None:
        """Return the column of the first of these kinds that there is."""
        return next((self.columns[kind] for kind in kinds if kind in self.columns), None)


def _channels(reference: Reference) -> list[_Channel]:
    found: dict[str, _Channel] = {}
    for column, feature in enumerate(reference.features):
        channel = found.setdefault(feature.channel, _Channel(feature.channel, {}, {}))
        kind = feature.name.rpartition(".")[2]
        channel.columns[kind] = column
        channel.features[kind] = feature
    if not found:
        raise ValueError("the reference has no features")
    return list(found.values())


def _unit_windows(reference: Reference, chance: float) -> int:
    """Return after how many windows half of them outside of the reference's range are no chance."""
    effective = min(feature.effective for feature in reference.features)
    outside = min(6 / effective, 0.4)
    divergence = -math.log(2) - 0.5 * math.log(outside * (1 - outside))
    independent = math.log(1 / chance) / divergence
    return min(max(64, math.ceil(independent * reference.windows / effective)), _LONGEST)


class _Faults:
    """Which windows show which fault, from their features and those of the windows before."""

    def __init__(self, channels: Sequence[_Channel]) -> None:
        # The place of a column of NaN, for features that a channel lacks.
        columns = self._lacking = sum(len(channel.columns) for channel in channels)
        self._repeated = self._of(channels, ("repeated",))
        self._counted = self._repeated < columns
        self._centres = self._of(channels, _CENTRES)
        self._limits = self._of(channels, ("limits",))
        ends = [[channel.columns.get(kind, columns) for kind in _ENDS] for channel in channels]
        self._ends = np.array(ends).T
        self._no_ends = (self._ends == columns).all(axis=0)
        self._least = np.array([_least_at_limits(channel) for channel in channels])
        # Where repeated samples are not counted, all of a channel's features must be the same.
        width = max(len(channel.columns) for channel in channels)
        every = [(list(channel.columns.values()) * width)[:width] for channel in channels]
        self._every = np.array(every)[~self._counted]

    def _of(self, channels: Sequence[_Channel], kinds: Sequence[str]) -> Array:
        found = [channel.column(kinds) for channel in channels]
        return np.array([self._lacking if column is None else column for column in found])

    def shown(self, now: FloatArray, before: FloatArray) -> dict[Fault, Array]:
        """Return bool ``(n, channels)`` of each fault. ``before``: the windows before each one."""
        now = np.concatenate([now, np.full((len(now), 1), np.nan, np.float32)], axis=1)
        same = now[:, :-1] == before
        still = now[:, self._repeated] >= 1
        if len(self._every):
            still[:, ~self._counted] = same[:, self._every].all(axis=2)
        zero = still & (now[:, self._centres] == 0)
        full = (now[:, self._limits] >= self._least) & ~still
        if full.any():
            same = np.concatenate([same, np.zeros((len(now), 1), bool)], axis=1)
            full &= same[:, self._ends].any(axis=1) | self._no_ends
        return {"drop_out": zero, "stuck": still & ~zero, "saturated": full}


def _least_at_limits(channel: _Channel) -> float:
    limits = channel.features.get("limits")
    return max(_LEAST_AT_LIMITS, limits.quantiles[-1] + _MARGIN) if limits else math.inf


class _Units:
    """Looks for a change of unit in the channels of sensors."""

    def __init__(self, channels: Sequence[_Channel], windows: int) -> None:
        self._channels = [channel for channel in channels if "mean" in channel.columns]
        self._windows = windows
        means = [channel.features["mean"] for channel in self._channels]
        spreads = [channel.features.get("spread") for channel in self._channels]
        self._before = [
            Level(mean.mean, mean.std, spread.mean if spread else 0.0)
            for mean, spread in zip(means, spreads, strict=True)
        ]
        self._mean_columns = [channel.columns["mean"] for channel in self._channels]
        self._spread_columns = [channel.columns.get("spread", -1) for channel in self._channels]
        self._ranges = np.array([[mean.quantiles[0], mean.quantiles[-1]] for mean in means]).reshape(-1, 2).T
        some = [spread.quantiles if spread else [-math.inf, math.inf] for spread in spreads]
        self._spread_ranges = np.array([[one[0], one[-1]] for one in some]).reshape(-1, 2).T
        self.reset()

    def reset(self) -> None:
        """Forget all windows."""
        self._count = 0
        self._sums = np.zeros((4, len(self._channels)))
        self._began_ns = 0
        self.found: dict[str, tuple[str, int, float]] = {}
        """Of each channel: the conversion, since when, and the mean now."""

    @property
    def room(self) -> int:
        """Return how many windows may be added at once."""
        return self._windows - self._count

    def add(self, features: FloatArray, time_ns: int) -> None:
        """Add windows, at most ``room``."""
        if not self._channels:
            return
        if self._count == 0:
            self._began_ns = time_ns
        means = features[:, self._mean_columns].astype(np.float64)
        spreads = features[:, self._spread_columns].astype(np.float64)
        outside = (means < self._ranges[0]) | (means > self._ranges[1])
        outside |= (spreads < self._spread_ranges[0]) | (spreads > self._spread_ranges[1])
        with np.errstate(all="ignore"):
            self._sums += [means.sum(axis=0), (means**2).sum(axis=0), spreads.sum(axis=0), outside.sum(axis=0)]
        self._count += len(features)
        if self._count == self._windows:
            self._judge()
            self._sums[:] = 0
            self._count = 0

    def _judge(self) -> None:
        means, squares, spreads, outside = np.nan_to_num(self._sums / self._windows)
        for place, channel in enumerate(self._channels):
            now = float(means[place])
            between = math.sqrt(max(float(squares[place]) - now**2, 0.0))
            within = float(spreads[place]) if self._spread_columns[place] >= 0 else 0.0
            name = None
            if outside[place] >= (END * _OUTSIDE if channel.name in self.found else _OUTSIDE):
                name = conversion(self._before[place], Level(now, between, within))
            if name is None:
                self.found.pop(channel.name, None)
            else:
                since_ns = self.found[channel.name][1] if channel.name in self.found else self._began_ns
                self.found[channel.name] = name, since_ns, now


class Sensor:
    """Watches the sensor of one pipeline. See ``limpet.contracts.monitor.Monitor``."""

    def __init__(self, channels: Sequence[_Channel], thresholds: _Thresholds, rate: float | None) -> None:
        self._channels = channels
        self._chance = thresholds.chance
        self._faults = _Faults(channels)
        self._runs = {
            fault: Runs(Chances(starts, stays), thresholds.chance)
            for fault, starts, stays in zip(_RUNS, thresholds.starts, thresholds.stays, strict=True)
        }
        self._intervals = Intervals(1 / rate if rate else None)
        self._units = _Units(channels, thresholds.unit_windows)
        self.reset()

    def reset(self) -> None:
        """Forget all windows."""
        for runs in self._runs.values():
            runs.reset()
        self._intervals.reset()
        self._units.reset()
        self._last: FloatArray | None = None

    @property
    def level(self) -> float:
        """The longest run or the largest factor, in shares of its threshold."""
        return max(*(runs.level for runs in self._runs.values()), *self._intervals.levels.values(), 0.0)

    def see(self, observed: Observed) -> Alarm | None:
        """Look at the next windows. Return the alarm of the first fault that holds."""
        if len(observed) == 0:
            return self._alarm()
        self._intervals.add(observed.times_ns, gap=observed.gap)
        start = 0
        while start < len(observed):
            end = min(len(observed), start + self._units.room)
            self._units.add(observed.features[start:end], int(observed.times_ns[start]))
            start = end
        first = self._last is None
        before = np.concatenate(
            [observed.features[:1] if self._last is None else self._last, observed.features[:-1]]
        )
        self._last = observed.features[-1:].copy()
        now, times_ns = (observed.features[first:], observed.times_ns[first:])
        if len(now):
            for fault, shown in self._faults.shown(now, before[first:]).items():
                self._runs[fault].add(shown, times_ns)
        return self._alarm()

    def _alarm(self) -> Alarm | None:
        for fault, runs in self._runs.items():
            places = np.flatnonzero(runs.alarmed)
            if len(places):
                return self._of_run(fault, runs, places.tolist())
        if self._units.found:
            return self._of_unit()
        return self._of_timing()

    def _of_run(self, fault: Fault, runs: Runs, places: list[int]) -> Alarm:
        moved = []
        for place in places[:MOST_MOVED]:
            kinds = ("limits",) if fault == "saturated" else (*_CENTRES, *self._channels[place].columns)
            column = self._channels[place].column(kinds)
            moved.append(self._moved(self._channels[place], column))
        names = ", ".join(self._channels[place].name or "the input" for place in places[:MOST_MOVED])
        return Alarm(
            moved=moved,
            since_ns=int(runs.since_ns[places].min()),
            p_value=max(runs.p_value(place) for place in places),
            fault=fault,
            reason=f"{names}: {_REASONS[fault]}"[:500],
        )

    def _moved(self, channel: _Channel, column: int | None) -> Moved:
        assert column is not None
        feature = next(channel.features[kind] for kind, place in channel.columns.items() if place == column)
        now = 0.0 if self._last is None else float(np.nan_to_num(self._last[0, column], posinf=1e30, neginf=-1e30))
        return Moved(name=feature.name, before=feature.mean, now=now)

    def _of_unit(self) -> Alarm:
        found = self._units.found
        means = {channel.name: channel.features["mean"] for channel in self._channels if channel.name in found}
        moved = [
            Moved(name=means[name].name, before=means[name].mean, now=now) for name, (_, _, now) in found.items()
        ]
        reasons = ", ".join(f"{name or 'the input'}: {change}" for name, (change, _, _) in found.items())
        return Alarm(
            moved=moved[:MOST_MOVED],
            since_ns=min(since_ns for _, since_ns, _ in found.values()),
            p_value=self._chance,
            fault="unit",
            reason=f"its numbers changed as by another unit: {reasons}"[:500],
        )

    def _of_timing(self) -> Alarm | None:
        intervals = self._intervals
        expected = intervals.expected or 0.0
        reasons: dict[Timing, str] = {
            "rate": f"a window comes each {intervals.now:.4g} s; expected: each {expected:.4g} s",
            "clock": f"the time between windows changed to {intervals.now:.4g} s, or time stepped back",
            "drop_out": f"{intervals.missing:.0%} of the windows come late, as if others before them are missing",
        }
        for fault, reason in reasons.items():
            if fault in intervals.found:
                moved = [Moved(name="interval", before=expected, now=intervals.now)]
                return Alarm(
                    moved=moved, since_ns=intervals.found[fault], p_value=P_VALUE, fault=fault, reason=reason
                )
        return None


_REASONS: dict[Fault, str] = {
    "drop_out": "every sample is 0",
    "stuck": "the samples do not change",
    "saturated": "many samples are at the end of the range",
}
