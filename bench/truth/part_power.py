"""Which changes the monitors find, how soon, and how soon they see that it is over, beside river's detectors.

Each change is made in the samples of real windows, before features and model. ``drift_data`` has the three sets.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import drift_check
import drift_data
import numpy as np
from drift_data import INTERVAL_NS
from river import drift

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from drift_check import Compared
    from drift_data import Numbers, Task, Watch

    from limpet.contracts.data import Array
    from limpet.contracts.monitor import Observed

DEVICES = 3
REFERENCE = 8000
BEFORE, DURING, AFTER = 6400, 25_600, 25_600
"""Windows without, with and again without the change."""
VARIATIONS = 4
"""Of noise, for each window."""
JITTER_NS = 5e6
SPAN = 1000
"""Windows that river's false alarms are counted in."""


class Change(NamedTuple):
    """``kind``: as in the figures. ``strength``: as in the table. ``spoil``: changes the samples of windows."""

    kind: str
    strength: str
    spoil: Callable[[Array, np.random.Generator], Array] | None = None
    unknown: float = 0.0
    first: float = 0.0


def mean_shift(share: float) -> Callable[[Array, np.random.Generator], Array]:
    """Return what adds so many standard deviations to the first channel."""

    def spoil(windows: Array, random: np.random.Generator) -> Array:
        del random
        made = windows.copy()
        made[..., 0] += np.float32(share * windows[..., 0].std())
        return made

    return spoil


def gain(factor: float) -> Callable[[Array, np.random.Generator], Array]:
    """Return what multiplies the first channel."""

    def spoil(windows: Array, random: np.random.Generator) -> Array:
        del random
        made = windows.copy()
        made[..., 0] *= np.float32(factor)
        return made

    return spoil


def noise(share: float) -> Callable[[Array, np.random.Generator], Array]:
    """Return what adds noise to all channels, in their standard deviations."""

    def spoil(windows: Array, random: np.random.Generator) -> Array:
        spread = windows.reshape(-1, windows.shape[-1]).std(axis=0) * share
        return windows + (random.normal(size=windows.shape) * spread).astype(np.float32)

    return spoil


def stuck(windows: Array, random: np.random.Generator) -> Array:
    """Return windows whose first channel has one value. A picture is one of a camera that sends one frame."""
    del random
    made = windows.copy()
    if windows.ndim == 4:
        made[:] = windows[:1]
    else:
        made[..., 0] = windows[0, 0, 0]
    return made


CHANGES = [
    Change("mean_shift", "0.5 standard deviations", mean_shift(0.5)),
    Change("mean_shift", "1 standard deviation", mean_shift(1.0)),
    Change("gain", "x 1.25", gain(1.25)),
    Change("gain", "x 2", gain(2.0)),
    Change("noise", "0.5 standard deviations", noise(0.5)),
    Change("noise", "1 standard deviation", noise(1.0)),
    Change("stuck", "one channel", stuck),
    Change("new_class", "10 % of the recordings", unknown=0.1),
    Change("new_class", "30 % of the recordings", unknown=0.3),
    Change("prior_shift", "one class at 50 %", first=0.5),
    Change("prior_shift", "one class at 80 %", first=0.8),
]


@dataclass
class Seen:
    """What was found of one change on one device. Numbers are of windows since it began, or was over."""

    delays: dict[str, int]
    early: set[str]
    faults: Counter[str]
    cleared: int | None
    river: dict[str, int]
    river_early: dict[str, int]


def measure(devices: int = DEVICES) -> tuple[dict[str, Any], str]:
    """Return the figures and the section."""
    compared = drift_check.compare()
    cases = [(name, place) for name in drift_data.SETS for place in range(len(CHANGES))]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        work = [(name, place, seed) for name, place in cases for seed in range(devices)]
        seen = pool.starmap(watch_change, work, chunksize=1)
    found = {case: seen[at * devices : (at + 1) * devices] for at, case in enumerate(cases)}
    return {"drift": _figures(found)}, _section(found, devices, compared)


def watch_change(name: str, place: int, seed: int) -> Seen:
    """Calibrate the monitors of one device, and let it see a change, and its end."""
    change = CHANGES[place]
    made = drift_data.task(name)
    random = np.random.default_rng([seed, *name.encode(), *change.kind.encode()])
    known = drift_data.numbers(made, made.held.windows)
    device = drift_data.watch(
        known[drift_data.order(made, random, REFERENCE)], *drift_data.names_of(made), made.labels
    )
    before = known[drift_data.order(made, random, BEFORE)]
    during = _during(made, change, known, random)
    after = known[drift_data.order(made, random, AFTER)]
    seen = Seen({}, set(), Counter(), None, {}, {})
    first = 0
    for part, some in enumerate((before, during, after)):
        jitter = random.normal(0, JITTER_NS, len(some.scores))
        for block in device.blocks(some, jitter, first):
            _look(device, block, part, round(int(block.times_ns[-1]) / INTERVAL_NS) - first + 1, seen)
        first += len(some.scores)
    _watch_with_river([before.scores, during.scores], seen)
    return seen


def _during(made: Task, change: Change, known: Numbers, random: np.random.Generator) -> Numbers:
    weights = np.bincount(made.held.classes, minlength=len(made.labels) + 1).astype(float)
    priors = weights / weights[:-1].sum()
    priors[-1] = 0
    if change.unknown:
        priors = priors * (1 - change.unknown)
        priors[-1] = change.unknown
    if change.first:
        priors = priors / priors[1:].sum() * (1 - change.first)
        priors[0] = change.first
    places = drift_data.order(made, random, DURING, priors)
    if change.spoil is None:
        return known[places]
    windows = made.held.windows
    varied = [change.spoil(windows, random) for _ in range(VARIATIONS if change.kind == "noise" else 1)]
    spoiled = drift_data.numbers(made, np.concatenate(varied))
    return spoiled[places + random.integers(len(varied), size=len(places)) * len(windows)]


def _look(device: Watch, block: Observed, part: int, windows: int, seen: Seen) -> None:
    """Let the monitors see windows before (0), during (1) or after (2) the change: the last of so many."""
    holds = False
    for kind, monitor in device.monitors.items():
        alarm = monitor.see(block)
        if alarm is None:
            continue
        holds = True
        if part == 0:
            seen.early.add(kind)
        elif part == 1:
            seen.delays.setdefault(kind, windows)
            seen.faults[alarm.fault] += 1
    if part == 2 and holds:
        seen.cleared = None
    elif part == 2 and seen.cleared is None:
        seen.cleared = windows


def _watch_with_river(scores: Sequence[Array], seen: Seen) -> None:
    """Let river's detectors see the scores, with their defaults. They begin again after each alarm."""
    for name, detector in {"ADWIN": drift.ADWIN(), "PageHinkley": drift.PageHinkley()}.items():
        for part, some in enumerate(scores):
            alarms = 0
            for place, score in enumerate(some.tolist()):
                detector.update(score)
                if detector.drift_detected:
                    alarms += 1
                    if part == 1:
                        seen.river.setdefault(name, place + 1)
            if part == 0:
                seen.river_early[name] = alarms


def _figures(found: dict[tuple[str, int], list[Seen]]) -> dict[str, Any]:
    """Return how many of all devices found the stronger change of each kind, and the median of their delays."""
    figures = {}
    for place, change in enumerate(CHANGES):
        last = place + 1 == len(CHANGES) or CHANGES[place + 1].kind != change.kind
        if last:
            some = [seen for (_, index), each in found.items() if index == place for seen in each]
            delays = [min(seen.delays.values()) for seen in some if seen.delays]
            figures[change.kind] = {
                "detected": round(len(delays) / len(some), 3),
                "delay_windows": int(statistics.median(delays)) if delays else None,
            }
    return figures


def _section(found: dict[tuple[str, int], list[Seen]], devices: int, compared: Compared) -> str:
    rows, beside = [], []
    for (name, place), some in found.items():
        change = CHANGES[place]
        what = f"{name} | {change.kind.replace('_', ' ')}: {change.strength}"
        delays = [min(seen.delays.values()) for seen in some if seen.delays]
        cleared = [seen.cleared for seen in some if seen.delays and seen.cleared is not None]
        kinds = Counter(kind for seen in some for kind in seen.delays)
        faults = sorted({fault for seen in some for fault in seen.faults if fault})
        by = ", ".join(f"{kind} {count}" for kind, count in kinds.most_common())
        rows.append(
            f"| {what} | {len(delays)} | {_median(delays)} | {by}"
            f" | {', '.join(faults)} | {len(cleared)} | {_median(cleared)} |"
        )
        rivers = []
        for detector in ("ADWIN", "PageHinkley"):
            early = sum(seen.river_early[detector] for seen in some) / (BEFORE * len(some)) * SPAN
            late = [seen.river[detector] for seen in some if detector in seen.river]
            rivers.append(f"{len(late)} | {_median(late)} | {early:.2f}")
        beside.append(f"| {what} | {' | '.join(rivers)} |")
    early = sorted({kind for each in found.values() for seen in each for kind in seen.early})
    return f"""## Power

Each of {devices} devices sees {BEFORE:,} windows without a change, {DURING:,} with it, and {AFTER:,} without it.
The monitors are calibrated as for the figures of false alarms. The delay is the median over the devices that
raised an alarm: windows from the change to the first alarm of any monitor. It is over when no monitor has one.

Alarms before the change: {", ".join(early) or "none"}.

| windows | change | found, of {devices} | delay | monitors | named fault | over, of {devices} | windows until |
| --- | --- | ---: | ---: | --- | --- | ---: | ---: |
{_lines(rows)}
river's detectors watch the model's score, with their defaults. They have no reference. Their false alarms are
those in {SPAN:,} windows before the change.

| windows | change | ADWIN found | delay | false alarms | PageHinkley found | delay | false alarms |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |
{_lines(beside)}
On {compared.adwin} streams of {drift_check.LENGTH:,} random numbers, `adwin` with river's settings finds the first
change at the same window as river. On {drift_check.SAMPLES} samples, the distance of `univariate` is that of
`scipy.stats.ks_2samp` to {compared.distance:.0e}. The likelihood ratio of `label_shift` is half of SciPy's G to
{compared.likelihood:.0e}.
"""


def _median(numbers: Sequence[int]) -> str:
    return f"{int(statistics.median(numbers)):,}" if numbers else "-"


def _lines(rows: Iterable[str]) -> str:
    return "".join(f"{row}\n" for row in rows)
