"""Which bytes of a file are there, as ranges: rising, apart from each other, each with its first and its end."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import chain, pairwise
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

Ranges: TypeAlias = tuple[tuple[int, int], ...]
"""A range is half open: its second number is the first byte that is not in it any more."""


def added(ranges: Ranges, begin: int, end: int) -> Ranges:
    """Return the ranges with one more. It may overlap others; an empty one adds nothing."""
    if begin >= end:
        return ranges
    first = bisect_left(ranges, begin, key=_end)
    last = bisect_right(ranges, end, key=_begin)
    if first < last:
        begin, end = min(begin, ranges[first][0]), max(end, ranges[last - 1][1])
    return (*ranges[:first], (begin, end), *ranges[last:])


def removed(ranges: Ranges, begin: int, end: int) -> Ranges:
    """Return the ranges without the bytes from ``begin`` to ``end``."""
    parts = chain.from_iterable(
        [(first, min(last, begin)), (max(first, end), last)] if begin < end else [(first, last)]
        for first, last in ranges
    )
    return tuple((first, last) for first, last in parts if first < last)


def missing(ranges: Ranges, length: int) -> Ranges:
    """Return the ranges of the bytes that are not there."""
    bounds = [0, *chain.from_iterable(ranges), length]
    return tuple((begin, end) for begin, end in zip(bounds[::2], bounds[1::2], strict=True) if begin < end)


def total(ranges: Ranges) -> int:
    """Return how many bytes are there."""
    return sum(end - begin for begin, end in ranges)


def covers(ranges: Ranges, begin: int, end: int) -> bool:
    """Whether all bytes from ``begin`` to ``end`` are there."""
    at = bisect_right(ranges, begin, key=_begin) - 1
    return begin >= end or (at >= 0 and ranges[at][1] >= end)


def sound(ranges: Iterable[tuple[int, int]], length: int) -> bool:
    """Whether these are ranges of a file with so many bytes."""
    found = tuple(ranges)
    inside = all(0 <= begin < end <= length for begin, end in found)
    return inside and all(before[1] < after[0] for before, after in pairwise(found))


def _begin(pair: tuple[int, int]) -> int:
    return pair[0]


def _end(pair: tuple[int, int]) -> int:
    return pair[1]
