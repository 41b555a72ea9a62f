"""Mergeable latency histograms: sparse log-linear buckets as HdrHistogram has them.

A value below 32 ns has its own bucket. Above, each power of two is cut into 16 buckets, so the width of a bucket
is at most 1/16 of its value. Buckets are ``{index: count}``: small on the wire, and adding two histograms adds
counts.

Source: Gil Tene, HdrHistogram, https://hdrhistogram.github.io/HdrHistogram/ (bucket and sub-bucket layout).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

SUB_BITS = 4
SUB_BUCKETS = 1 << SUB_BITS
BUCKETS = (63 - SUB_BITS) * SUB_BUCKETS + SUB_BUCKETS


def bucket_of(value_ns: int) -> int:
    """Return the bucket of a duration; a negative one counts as 0."""
    if value_ns < SUB_BUCKETS:
        return max(value_ns, 0)
    shift = value_ns.bit_length() - 1 - SUB_BITS
    return (shift << SUB_BITS) + (value_ns >> shift)


def bounds(bucket: int) -> tuple[int, int]:
    """Return the smallest duration of a bucket and the smallest one above it, in ns."""
    if bucket < 2 * SUB_BUCKETS:
        return bucket, bucket + 1
    shift = (bucket >> SUB_BITS) - 1
    low = ((bucket & (SUB_BUCKETS - 1)) + SUB_BUCKETS) << shift
    return low, low + (1 << shift)


def merge(into: MutableMapping[int, int], other: Mapping[int, int]) -> None:
    """Add the counts of ``other`` to ``into``."""
    for bucket, count in other.items():
        into[bucket] = into.get(bucket, 0) + count


def difference(now: Mapping[int, int], before: Mapping[int, int]) -> dict[int, int]:
    """Return the counts that came between two states of a histogram that only grows."""
    counts = {bucket: count - before.get(bucket, 0) for bucket, count in now.items()}
    return {bucket: count for bucket, count in counts.items() if count}


def quantile(buckets: Mapping[int, int], q: float) -> float | None:
    """Return the duration in ns below which a share ``q`` of the values is, to a bucket's middle.

    ``None`` for an empty histogram.
    """
    total = sum(buckets.values())
    if not total:
        return None
    rank = q * total
    seen = 0
    for bucket in sorted(buckets):
        seen += buckets[bucket]
        if seen >= rank:
            break
    low, high = bounds(bucket)
    return (low + high - 1) / 2
