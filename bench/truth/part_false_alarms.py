"""False alarms of all monitors together, on windows without drift, in the code that a device runs.

Streams have the jitter of real clocks. Each device has a reference of its own, drawn from the same process as its
stream, so that a reference is as wrong as a real one is. Three processes play real recordings in random order. The
fourth is simulated: slow channels with heavy tails, and classes that stay.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import drift_data
import numpy as np
from drift_data import MONTH, Numbers
from scipy import signal, stats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from limpet.contracts.data import Array

DEVICES = 20
"""Of each process."""
WINDOWS = 1_050_000
"""Of each device."""
REFERENCE = 8000
CHUNK = 65_536
JITTER_NS = 5e6
SIMULATED = "simulated"
CHANNELS = 12
CLASSES = 4
MEMORY = 0.9
"""Correlation of a simulated window with the one before."""


@dataclass(frozen=True)
class Found:
    """``alarms``: begun, by monitor. ``nearest``: the largest statistic, in shares of its threshold."""

    process: str
    windows: int
    alarms: dict[str, int]
    nearest: dict[str, float]
    left_out: dict[str, str]


def measure(devices: int = DEVICES, windows: int = WINDOWS) -> tuple[dict[str, Any], str]:
    """Return the figures and the section."""
    processes = [*drift_data.SETS, SIMULATED]
    work = [(process, seed, windows) for process in processes for seed in range(devices)]
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        found = pool.starmap(watch_device, work, chunksize=1)
    total = sum(one.windows for one in found)
    alarms = sum(sum(one.alarms.values()) for one in found)
    bound = float(stats.chi2.ppf(0.95, 2 * (alarms + 1))) / 2 / total * MONTH
    figures = {
        "false_alarms_per_month": round(alarms / total * MONTH, 3),
        "false_alarms_per_month_bound": round(bound, 3),
        "windows_without_drift": total,
    }
    return figures, _section(found, processes, total, alarms, bound)


def watch_device(process: str, seed: int, windows: int) -> Found:
    """Calibrate the monitors of one device, and let it see windows without drift."""
    random = np.random.default_rng([seed, *process.encode()])
    draw, names, channels, labels = _process(process, random)
    device = drift_data.watch(draw(REFERENCE), names, channels, labels)
    alarms: Counter[str] = Counter()
    nearest = dict.fromkeys(device.monitors, 0.0)
    held = dict.fromkeys(device.monitors, False)
    for first in range(0, windows, CHUNK):
        seen = draw(min(CHUNK, windows - first))
        for block in device.blocks(seen, random.normal(0, JITTER_NS, len(seen.scores)), first):
            for kind, monitor in device.monitors.items():
                alarmed = monitor.see(block) is not None
                alarms[kind] += alarmed and not held[kind]
                held[kind] = alarmed
                nearest[kind] = max(nearest[kind], monitor.level)
    return Found(process, windows, dict(alarms), nearest, device.left_out)


def _process(
    name: str, random: np.random.Generator
) -> tuple[Callable[[int], Numbers], list[str], list[str], list[str]]:
    """Return what draws windows of a process, the names of features and channels, and the classes."""
    if name == SIMULATED:
        names = [f"channel {number}" for number in range(CHANNELS)]
        return Simulated(random).draw, [f"{one}.mean" for one in names], names, [*"abcd"]
    made = drift_data.task(name)
    known = drift_data.numbers(made, made.held.windows)
    names, channels = drift_data.names_of(made)
    return lambda count: known[drift_data.order(made, random, count)], names, channels, made.labels


class Simulated:
    """Channels that are autoregressive, with Student's t of 3 degrees of freedom, and classes with a memory."""

    def __init__(self, random: np.random.Generator) -> None:
        self._random = random
        self._state = np.zeros((1, CHANNELS + 1 + CLASSES))
        self._class = 0
        self.draw(1000)

    def draw(self, count: int) -> Numbers:
        """Return the next windows."""
        noise = self._random.normal(size=(count, self._state.shape[1])) * np.sqrt(1 - MEMORY**2)
        slow, self._state = signal.lfilter([1], [1, -MEMORY], noise, axis=0, zi=self._state)
        ranks = stats.norm.cdf(slow)
        heavy = stats.t.ppf(ranks[:, :CHANNELS].clip(1e-12, 1 - 1e-12), 3)
        return Numbers(
            heavy.astype(np.float32),
            ranks[:, CHANNELS].astype(np.float32),
            self._classes(count),
            slow[:, CHANNELS + 1 :].astype(np.float32),
        )

    def _classes(self, count: int) -> Array:
        """Return classes that change every 20 windows in the mean."""
        changes = self._random.random(count) < 1 / 20
        drawn = self._random.choice(CLASSES, count, p=[0.6, 0.2, 0.15, 0.05])
        last = np.maximum.accumulate(np.where(changes, np.arange(count), -1))
        classes = np.where(last >= 0, drawn[last], self._class).astype(np.int32)
        self._class = int(classes[-1])
        return classes


def _section(found: list[Found], processes: list[str], total: int, alarms: int, bound: float) -> str:
    kinds = sorted({kind for one in found for kind in one.nearest})
    rows = []
    for process in processes:
        some = [one for one in found if one.process == process]
        nearest = [max(one.nearest.get(kind, 0.0) for one in some) for kind in kinds]
        count = sum(sum(one.alarms.values()) for one in some)
        cells = " | ".join(f"{one:.2f}" for one in nearest)
        rows.append(f"| {process} | {sum(one.windows for one in some):,} | {count} | {cells} |")
    left_out = sorted({f"{one.process}: {kind}: {why}" for one in found for kind, why in one.left_out.items()})
    return f"""## False alarms

All monitors together raised {alarms} alarms in {total:,} windows without drift. With 95 % confidence, that is at
most {bound:.2f} in a month of {MONTH:,} windows, ten a second.

There are {len(found)} devices. Each has its own reference of {REFERENCE:,} windows, and is calibrated for one
false alarm a month. The windows of `motions`, `vowels` and `digits` are real. Their recordings are played as a
whole, in random order. `simulated` has channels with a correlation of {MEMORY} from window to window, and heavy
tails. Its classes stay for 20 windows in the mean.

The columns of monitors say how near the statistic came to its threshold, which is 1.

| process | windows | alarms | {" | ".join(kinds)} |
| --- | ---: | ---: | {" | ".join("---:" for _ in kinds)} |
{_lines(rows)}
{_lines(f"Left out, as calibration refused it: {one}." for one in left_out)}
"""


def _lines(rows: Iterable[str]) -> str:
    return "".join(f"{row}\n" for row in rows)


if __name__ == "__main__":
    began = time.monotonic()
    print(measure(devices=1, windows=50_000)[1], f"{time.monotonic() - began:.0f} s")
