"""Sketches in health messages of many devices, added up and compared with a bundle's reference. No I/O.

A sketch counts windows by the bins of the reference's quantiles. So counts of devices with the same model add up,
and so do those of one device over time. A device's counts begin at 0 again when its daemon starts: what it had
counted before is kept.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from limpet.contracts.drift import CLASS_SKETCH, MOST_SKETCHES, SCORE_SKETCH, Counts, FeatureName
from limpet.inference.monitoring import edges_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from limpet.contracts.reference import FeatureReference, Reference

MODERATE, LARGE = 0.1, 0.25
"""Population stability indices from which on a change is worth a look, and large. They are the usual ones."""
_LEAST = 1e-4
"""Share that an empty bin counts as."""


class _Monitors(msgspec.Struct):
    sketches: Annotated[dict[FeatureName, Counts], Meta(max_length=MOST_SKETCHES)] = {}


class Health(msgspec.Struct):
    """What is needed of a message on ``health/PIPELINE``."""

    device: str
    pipeline: str
    time: str
    model: str
    version: int
    monitors: _Monitors | None = None


@dataclass
class Sums:
    """Counts by feature: of all devices together, and of each."""

    devices: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    messages: int = 0
    unreadable: int = 0

    def of(self, feature: str) -> list[int]:
        """Return the counts of all devices."""
        found = [counts[feature] for counts in self.devices.values() if feature in counts]
        return [sum(column) for column in zip(*found, strict=True)] if found else []


def add_up(lines: Iterable[bytes], model: str, version: int, pipeline: str = "") -> Sums:
    """Add up the sketches of a model in health messages, one JSON object a line, in any order of devices.

    Other lines are skipped. Those that are no JSON object are counted as ``unreadable``. ``pipeline``: only that
    one.
    """
    sums = Sums()
    series: dict[tuple[str, str], list[Health]] = defaultdict(list)
    decode = msgspec.json.Decoder(Health).decode
    for line in lines:
        if not line.strip():
            continue
        try:
            health = decode(line)
        except msgspec.ValidationError:
            continue
        except (msgspec.DecodeError, RecursionError):
            sums.unreadable += 1
            continue
        if (health.model, health.version) == (model, version) and pipeline in {"", health.pipeline}:
            series[health.device, health.pipeline].append(health)
            sums.messages += 1
    for (device, _), messages in series.items():
        of_device = sums.devices.setdefault(device, {})
        for feature, counts in _total(sorted(messages, key=lambda one: one.time)).items():
            before = of_device.get(feature, [0] * len(counts))
            if len(before) == len(counts):
                of_device[feature] = [a + b for a, b in zip(before, counts, strict=True)]
    return sums


def _total(messages: Sequence[Health]) -> dict[str, list[int]]:
    """Return what one pipeline counted. A count that falls has begun at 0 again."""
    total: dict[str, list[int]] = {}
    last: dict[str, list[int]] = {}
    for health in messages:
        for feature, counts in (health.monitors.sketches if health.monitors else {}).items():
            before = last.get(feature, [])
            begins = len(before) != len(counts) or any(a < b for a, b in zip(counts, before, strict=True))
            new = counts if begins else [a - b for a, b in zip(counts, before, strict=True)]
            known = total.get(feature, [0] * len(counts))
            if len(known) == len(counts):
                total[feature] = [a + b for a, b in zip(known, new, strict=True)]
            last[feature] = counts
    return total


@dataclass(frozen=True)
class Row:
    """One feature. ``index``: its population stability index. ``outside``: share beyond the reference's range.

    ``device``: where it is furthest from the reference, and how far.
    """

    feature: str
    windows: int
    index: float
    outside: float
    device: str
    furthest: float

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON has of it."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def compare(sums: Sums, reference: Reference) -> list[Row]:
    """Return a row for each feature that devices sent, the furthest one first."""
    expected = {one.name: expected_shares(one) for one in reference.features}
    if reference.score is not None:
        expected[SCORE_SKETCH] = expected_shares(reference.score)
    rows = []
    for feature, shares in expected.items():
        counts = sums.of(feature)
        whole = sum(counts)
        if len(counts) != len(shares) or not whole:
            continue
        each = {
            device: index(found[feature], shares)
            for device, found in sums.devices.items()
            if any(found.get(feature, []))
        }
        device = max(each, key=lambda name: each[name])
        outside = sum(count for count, share in zip(counts, shares, strict=True) if not share) / whole
        rows.append(Row(feature, whole, index(counts, shares), outside, device, each[device]))
    return sorted(rows, key=lambda row: -row.index)


def classes(sums: Sums, reference: Reference) -> Mapping[str, float]:
    """Return the share of each class that devices gave, and of windows without one as an empty name."""
    counts = sums.of(CLASS_SKETCH)
    labels = [*(reference.classes.labels if reference.classes else []), ""]
    if len(counts) != len(labels) or not sum(counts):
        return {}
    return {label: count / sum(counts) for label, count in zip(labels, counts, strict=True)}


def expected_shares(reference: FeatureReference) -> list[float]:
    """Return the share of the reference's windows in each bin of a sketch.

    The largest value of the reference is in the last bin: so that bin has a share only if the value is usual.
    """
    quantiles, edges = reference.quantiles, edges_of(reference)
    last = len(quantiles) - 1
    below = [_share_below(quantiles, edge) / last for edge in edges]
    return [below[0], *(after - before for before, after in pairwise(below)), 1 - below[-1]]


def _share_below(quantiles: Sequence[float], edge: float) -> int:
    """Return how many steps of the quantiles are below an edge. Equal quantiles are one value."""
    return sum(1 for one in quantiles[:-1] if one < edge)


def index(counts: Sequence[int], shares: Sequence[float]) -> float:
    """Return the population stability index of counts: the sum of (p - q) log(p / q)."""
    whole = sum(counts)
    found = [max(count / whole, _LEAST) for count in counts]
    wanted = [max(share, _LEAST) for share in shares]
    return sum((p - q) * math.log(p / q) for p, q in zip(found, wanted, strict=True))
