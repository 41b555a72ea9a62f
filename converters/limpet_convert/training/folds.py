"""Which recordings are held back together. A split is by recording, never by window. Pure functions."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MOST = 5
"""Folds."""


def single(labels: Sequence[str], groups: Sequence[int]) -> list[str]:
    """Return the labels that one group alone has: without it, nothing of them is left to learn from."""
    of_label = defaultdict[str, set[int]](set)
    for label, group in zip(labels, groups, strict=True):
        of_label[label].add(group)
    return sorted(label for label, found in of_label.items() if len(found) < 2)


def folds(labels: Sequence[str], groups: Sequence[int], most: int = MOST) -> dict[int, int]:
    """Return the fold of each group. ``labels`` and ``groups`` have one entry for each window.

    The number of folds is that of the groups of the rarest label, at least 2 and at most ``most``. Each label is
    spread as evenly as possible, and is never in one fold alone; where that takes more folds, there are more.
    ``ValueError`` if a label is in one group only.
    """
    if rare := single(labels, groups):
        raise ValueError(f"{rare[0]!r} is in one group only")
    counts: dict[int, Counter[str]] = defaultdict(Counter)
    for label, group in zip(labels, groups, strict=True):
        counts[group][label] += 1
    spread = Counter(label for one in counts.values() for label in one)
    first = max(2, min(most, *spread.values()))
    return next(
        chosen
        for count in range(first, len(counts) + 1)
        if not _alone(chosen := _dealt(counts, spread, count), counts)
    )  # With a fold for each group, no label is in one fold alone.


def _dealt(counts: Mapping[int, Counter[str]], spread: Mapping[str, int], count: int) -> dict[int, int]:
    """Deal the groups out, those of the rarest label first, each to the fold that has least of its labels."""
    total: Counter[str] = sum(counts.values(), Counter())
    held = [Counter[str]() for _ in range(count)]
    chosen: dict[int, int] = {}
    rarest_first = sorted(counts, key=lambda g: (min(spread[label] for label in counts[g]), -counts[g].total(), g))
    for group in rarest_first:
        wanted = counts[group]
        loads = [
            (sum(one[label] / total[label] for label in wanted), one.total(), n) for n, one in enumerate(held)
        ]
        chosen[group] = min(loads)[2]
        held[chosen[group]] += wanted
    return chosen


def _alone(chosen: Mapping[int, int], counts: Mapping[int, Mapping[str, int]]) -> list[str]:
    """Return the labels that are in one fold alone."""
    return single(
        [label for group in counts for label in counts[group]],
        [chosen[group] for group in counts for _ in counts[group]],
    )
