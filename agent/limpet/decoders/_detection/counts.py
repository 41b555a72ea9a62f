"""How many there are of each label."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_MOST = 1000
"""Labels that are remembered: a model gone wrong may name any class."""


class Counts:
    """Counts labels, and reports 0 of one that was there earlier."""

    def __init__(self) -> None:
        self._none: dict[str, int] = {}

    def forget(self) -> None:
        """Forget which labels were there."""
        self._none = {}

    def of(self, labels: Iterable[str]) -> dict[str, int]:
        """Return how many there are of each label."""
        counts = self._none.copy()
        for label in labels:
            counts[label] = counts.get(label, 0) + 1
        if len(counts) > len(self._none):
            self._none = dict.fromkeys(list(counts)[:_MOST], 0)
        return counts
