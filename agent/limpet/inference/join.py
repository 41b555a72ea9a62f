"""Several sources to one: their samples side by side, aligned by time.

The first source leads. Each of its samples is joined with the newest sample of every other source that is not
later than it and at most ``tolerance`` earlier. It keeps its own times and its own ordinal. A sample of the first
source without such a partner is left out and counted, which shows as a gap. A gap in another source that is
shorter than the tolerance does not show.

A sample waits until every other source has sent one that is not earlier, for at most ``patience``. Then the first
source is that far ahead. So a silent source delays the others by at most ``patience``.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from limpet.contracts.data import Samples, SampleSpec
from limpet.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.data import Array, TimeArray

MOST = 1 << 16
"""Samples of a source that wait, at most."""


def joined_spec(names: Sequence[str], specs: Sequence[SampleSpec]) -> SampleSpec:
    """Return what joined samples are: the channels of all sources, at the rate of the first.

    A channel that two sources have gets the name of its source in front, as ``left.x``. ``ConfigError`` if a
    source has no named channels or no time.
    """
    for name, spec in zip(names, specs, strict=True):
        if len(spec.shape) != 1 or len(spec.channels) != spec.shape[0]:
            raise ConfigError([f"sources.{name}: only sources whose channels have names can be joined"])
        if not spec.timed:
            raise ConfigError(
                [f"sources.{name}: its samples carry no time, so they cannot be joined; set its rate"]
            )
    every = [channel for spec in specs for channel in spec.channels]
    channels = tuple(
        channel if every.count(channel) == 1 else f"{name}.{channel}"
        for name, spec in zip(names, specs, strict=True)
        for channel in spec.channels
    )
    dtype = np.result_type(*(spec.dtype for spec in specs))
    live = any(spec.live for spec in specs)
    return SampleSpec((len(channels),), dtype, channels, specs[0].rate, live=live, patience=specs[0].patience)


class _Waiting:
    """Samples of one source that wait, in order of their times."""

    def __init__(self, spec: SampleSpec) -> None:
        self.values: Array = np.empty((0, *spec.shape), spec.dtype)
        self.times: TimeArray = np.empty((3, 0), np.int64)  # monotonic, wall, ordinal
        self.gaps: Array = np.empty(0, bool)

    def add(self, samples: Samples) -> int:
        """Keep a copy of samples; return how many are dropped because too many wait."""
        count = len(samples)
        ordinals = np.arange(samples.index, samples.index + count)
        stamps = np.stack([samples.monotonic_ns, samples.wall_ns, ordinals])
        gaps = np.zeros(count, bool)
        gaps[:1] = samples.gap
        self.values = np.concatenate([self.values, samples.values])
        self.times = np.concatenate([self.times, stamps], axis=1)
        self.gaps = np.concatenate([self.gaps, gaps])
        dropped = max(len(self.values) - MOST, 0)
        self.drop(dropped)
        return dropped

    def drop(self, count: int) -> None:
        """Drop the oldest."""
        if count:
            self.values, self.times, self.gaps = self.values[count:], self.times[:, count:], self.gaps[count:]

    @property
    def newest(self) -> int | None:
        """The time of the last one, ``None`` if none waits."""
        return int(self.times[0, -1]) if len(self.values) else None


class Join:
    """Joins the samples of several sources. ``unmatched`` counts samples of the first that found no partner."""

    def __init__(
        self, names: Sequence[str], specs: Sequence[SampleSpec], tolerance: float, patience: float = 1.0
    ) -> None:
        """``tolerance`` and ``patience`` are in seconds. ``ConfigError`` as ``joined_spec``."""
        self.spec = joined_spec(names, specs)
        self.unmatched = 0
        self._numbers = {name: number for number, name in enumerate(names)}
        self._tolerance = round(tolerance * 1e9)
        self._patience = round(patience * 1e9)
        self._lead, *self._others = (_Waiting(spec) for spec in specs)

    def push(self, source: str, samples: Samples) -> list[Samples]:
        """Take samples of a source; return those that are joined now, in runs without a gap."""
        number = self._numbers[source]
        if not len(samples):
            return []
        if number:
            self._others[number - 1].add(samples)
        else:
            self.unmatched += self._lead.add(samples)
        return self._join(self._ready())

    def _ready(self) -> int:
        """Return how many samples of the first source need not wait any longer."""
        lead = self._lead.times[0]
        newest = self._lead.newest
        if newest is None:
            return 0
        reached = [other.newest for other in self._others]
        complete = min((-1 if time is None else time) for time in reached)
        return int(np.searchsorted(lead, max(complete, newest - self._patience), "right"))

    def _join(self, count: int) -> list[Samples]:
        """Join the first ``count`` samples that wait, and drop what no later one can need."""
        lead = self._lead
        times = lead.times[0, :count]
        columns, matched = [lead.values[:count]], np.ones(count, bool)
        for other in self._others:
            place = np.searchsorted(other.times[0], times, "right") - 1
            known = place >= 0
            known[known] = times[known] - other.times[0, place[known]] <= self._tolerance
            matched &= known
            columns.append(other.values[place] if len(other.values) else np.zeros((count, other.values.shape[1])))
            if count:
                other.drop(max(int(place[-1]), 0))
        values = np.concatenate(columns, axis=1, dtype=self.spec.dtype)
        found = self._runs(values, lead.times[:, :count], lead.gaps[:count], matched)
        self.unmatched += int((~matched).sum())
        lead.drop(count)
        return found

    def _runs(self, values: Array, times: TimeArray, gaps: Array, matched: Array) -> list[Samples]:
        """Return joined samples as blocks, each without a gap inside."""
        good = np.flatnonzero(matched)
        if not len(good):
            return []
        breaks = (np.diff(times[2, good]) != 1) | gaps[good[1:]]
        edges = [0, *(np.flatnonzero(breaks) + 1).tolist(), len(good)]
        blocks = []
        for begin, end in pairwise(edges):
            rows = good[begin:end]
            mono, wall, ordinals = times[:, rows]
            blocks.append(Samples(values[rows], mono, wall, int(ordinals[0]), bool(gaps[rows[0]])))
        return blocks
