"""Whether what is to save runs of a model costs more than it saves. Decides, without I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet.contracts.savings import SavingCounts, added

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from limpet.contracts.savings import Saver

ENOUGH = 1000
"""Windows between two judgements."""


class Economy:
    """Adds up the counts of one pipeline, and judges each saver again after ``ENOUGH`` windows."""

    def __init__(self) -> None:
        self._counts: dict[Saver, SavingCounts] = {}
        self._wasteful: set[Saver] = set()

    def see(self, taken: Mapping[Saver, SavingCounts]) -> Iterator[str]:
        """Take new counts. Yield a sentence for each saver that begins to cost more than it saves."""
        for saver, counts in taken.items():
            total = added(self._counts.get(saver, SavingCounts()), counts)
            if total.windows < ENOUGH:
                self._counts[saver] = total
                continue
            self._counts[saver] = SavingCounts()
            before = saver in self._wasteful
            if total.cost_ns <= total.saved_ns:
                self._wasteful.discard(saver)
            elif not before:
                self._wasteful.add(saver)
                yield described(saver, total)


def described(saver: Saver, counts: SavingCounts) -> str:
    """Return in words what a saver costs, and what to do."""
    cost, saved = counts.cost_ns / 1e6, counts.saved_ns / 1e6
    return (
        f"`{saver}` costs more than it saves: {cost:.3g} ms against {saved:.3g} ms over {counts.windows:,} "
        f"windows, of which it spared {counts.spared:,}; change its options, or remove it"
    )
