"""Runs of windows that show a fault, such as 20 windows one after the other in which a channel never changes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from limpet.contracts.data import Array

_UNSEEN = 3
"""The rule of three: what was never seen in n windows has a chance of at most 3/n, with 95 % confidence."""
_LEAST_STAY = 0.5
_MOST_STAY = 0.99
"""A fault that stays longer by chance is no fault."""
_SHORTEST = 4


class Chances(NamedTuple):
    """Of each channel: that a window shows the fault, and that it does if the one before does."""

    starts: list[float]
    stays: list[float]


def chances(shown: Array) -> Chances:
    """Return the chances from windows of the reference, bool ``(n, channels)``.

    A run that starts by chance is taken to go on with a chance of at least one half.
    """
    n = len(shown)
    counts = shown.sum(axis=0)
    again = (shown[1:] & shown[:-1]).sum(axis=0)
    starts = np.minimum((counts + _UNSEEN) / (n + _UNSEEN), 1)
    stays = np.where(counts > 0, (again + _UNSEEN) / (counts + _UNSEEN), _LEAST_STAY)
    return Chances(np.round(starts, 6).tolist(), np.round(np.clip(stays, _LEAST_STAY, 1), 6).tolist())


def lengths(known: Chances, chance: float) -> Array:
    """Return from how many windows on a run is an alarm, infinite where chance makes long ones."""
    starts, stays = np.array(known.starts), np.array(known.stays)
    needed = 1 + np.ceil(
        np.maximum(np.log(np.maximum(starts, 1e-9) / chance), 0) / -np.log(np.minimum(stays, 0.999))
    )
    return np.where(stays <= _MOST_STAY, np.maximum(needed, _SHORTEST), np.inf)


class Runs:
    """Runs of one fault in all channels. An alarm ends after a run as long without the fault."""

    def __init__(self, known: Chances, chance: float) -> None:
        self._known = known
        self._lengths = lengths(known, chance)
        self.reset()

    def reset(self) -> None:
        """Forget all windows."""
        count = len(self._lengths)
        self._run = np.zeros(count, np.int64)
        self._clean = np.zeros(count, np.int64)
        self._began_ns = np.zeros(count, np.int64)
        self.since_ns = np.zeros(count, np.int64)
        self.alarmed = np.zeros(count, bool)
        self._any = False

    @property
    def level(self) -> float:
        """The longest run, in shares of the length that is an alarm."""
        if not self._any:
            return 0.0
        return float((self._run / self._lengths).max(initial=0.0))

    def add(self, shown: Array, times_ns: Array) -> None:
        """Add windows, at least one: bool ``(n, channels)``."""
        if not self._any and not shown.any():
            self._clean += len(shown)
            return
        runs, began = _run_lengths(shown, self._run)
        clean, _ = _run_lengths(~shown, self._clean)
        starts_ns = np.where(began > 0, times_ns[np.minimum(began, len(times_ns) - 1)], self._began_ns)
        starts_ns = np.where((began == 0) & (self._run == 0), times_ns[0], starts_ns)
        raised, ended = _last(runs >= self._lengths), _last(clean >= self._lengths)
        new = (raised > ended) & ~self.alarmed
        places = np.where(new, raised, 0)
        channels = np.arange(len(places))
        self.since_ns = np.where(new, starts_ns[places, channels], self.since_ns)
        self.alarmed = np.where(raised == ended, self.alarmed, raised > ended)
        self._run, self._clean, self._began_ns = runs[-1], clean[-1], starts_ns[-1]
        self._any = bool(self._run.any() or self.alarmed.any())

    def p_value(self, channel: int) -> float:
        """Return how probable so long a run is."""
        longest = max(int(self._run[channel]), int(self._lengths[channel]))
        chance = math.log(self._known.starts[channel]) + (longest - 1) * math.log(self._known.stays[channel])
        return math.exp(max(chance, -700.0))


def _run_lengths(shown: Array, before: Array) -> tuple[Array, Array]:
    """Return how long the run is at each window, 0 where there is none, and the place of its first window.

    ``before``: how long it was before the first window. The place is 0 too if the run began before.
    """
    place = np.arange(1, len(shown) + 1)[:, None]
    last_clean = np.maximum.accumulate(np.where(shown, 0, place), axis=0)
    return place - last_clean + np.where(last_clean == 0, before, 0), last_clean


def _last(events: Array) -> Array:
    """Return the place of the last event of each channel, -1 for none."""
    n = len(events)
    found = n - 1 - events[::-1].argmax(axis=0)
    return np.where(events.any(axis=0), found, -1)
