"""A metric with all its points, whatever format it is written in. Latencies are histograms. No I/O."""

from __future__ import annotations

from bisect import bisect_left
from functools import cache
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from limpet import histogram

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind: TypeAlias = Literal["counter", "gauge", "histogram", "info"]

BOUNDS: tuple[float, ...] = tuple(2.0**power for power in range(-18, 5))
"""Upper bounds of latencies in seconds, 4 µs to 16 s. They are those of a native histogram with schema 0."""
_BOUNDS_NS = tuple(bound * 1e9 for bound in BOUNDS)


class Durations(NamedTuple):
    """A histogram. ``counts``: durations up to each bound of ``BOUNDS`` and above the one before, then the rest.

    ``total_s``: their sum in seconds, within 1/32.
    """

    counts: tuple[int, ...]
    total_s: float


class Point(NamedTuple):
    """A value and its labels."""

    labels: dict[str, str]
    value: float | Durations


class Family(NamedTuple):
    """A metric with all its points. ``unit``: in the case-sensitive code of UCUM, empty for none.

    An ``info`` has its facts as labels, and the value 1.
    """

    name: str
    kind: Kind
    unit: str
    text: str
    points: list[Point]


def durations(buckets: Mapping[int, int]) -> Durations:
    """Return latencies in the buckets of ``limpet.histogram`` by ``BOUNDS``.

    A bucket that has a bound inside counts as longer. Such a duration is at most 1/16 below the bound.
    """
    counts, total = [0] * (len(BOUNDS) + 1), 0.0
    for bucket, count in buckets.items():
        place, middle = _place(bucket)
        counts[place] += count
        total += middle * count
    return Durations(tuple(counts), total / 1e9)


@cache
def _place(bucket: int) -> tuple[int, float]:
    """Return which count a bucket belongs to, and its middle in ns."""
    low, high = histogram.bounds(bucket)
    return bisect_left(_BOUNDS_NS, high - 1), (low + high - 1) / 2
