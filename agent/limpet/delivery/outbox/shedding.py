"""Which messages to shed when a bound is reached. No I/O: the caller brings their heads, oldest first."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from limpet.delivery.outbox.database import RowHead


def too_old(heads: Iterable[RowHead], born_before: float) -> Iterator[RowHead]:
    """Yield the messages born before then."""
    for head in heads:
        if head.born >= born_before:
            return
        yield head


def oldest(heads: Iterable[RowHead], surplus: int) -> Iterator[RowHead]:
    """Yield the oldest messages until ``surplus`` bytes are free."""
    for head in heads:
        if surplus <= 0:
            return
        surplus -= head.size
        yield head


def largest(
    sizes: Mapping[str, int], heads: Callable[[int], Iterable[RowHead]], surplus: int
) -> Iterator[RowHead]:
    """Yield the oldest messages of the pipelines that hold most, until ``surplus`` bytes are free.

    ``sizes``: the bytes of each pipeline. So a pipeline that floods the outbox pushes out its own messages.
    """
    excess = excesses(sizes, surplus)
    for head in heads(0):
        if surplus <= 0:
            return
        if excess.get(head.pipeline, 0) > 0:
            excess[head.pipeline] -= head.size
            surplus -= head.size
            yield head
    yield from oldest(heads(0), surplus)


def excesses(sizes: Mapping[str, int], surplus: int) -> dict[str, float]:
    """Return by how much each size is above a level: the one above which ``surplus`` is in all."""
    ordered = sorted(sizes.values(), reverse=True)
    level, total = 0.0, 0
    for count, size in enumerate(ordered, 1):
        total += size
        level = (total - surplus) / count
        if count == len(ordered) or level >= ordered[count]:
            break
    return {name: max(size - max(level, 0.0), 0.0) for name, size in sizes.items()}


class Thinning:
    """Sheds all but every nth message of each pipeline, oldest first."""

    def __init__(self, nth: int) -> None:
        self._nth = nth
        self._upto = 0
        self._seen: Counter[str] = Counter()

    def victims(self, heads: Callable[[int], Iterable[RowHead]], surplus: int) -> Iterator[RowHead]:
        """Yield messages to shed until ``surplus`` bytes are free.

        Each call goes on where the one before stopped. At the end it begins again with the oldest messages, whose
        resolution then becomes coarser still. If even that frees nothing, the oldest messages are shed.
        """
        for _ in range(2):
            for head in heads(self._upto):
                if surplus <= 0:
                    return
                self._upto = head.sequence
                self._seen[head.pipeline] += 1
                if self._seen[head.pipeline] % self._nth:
                    surplus -= head.size
                    yield head
            self._upto = 0
        yield from oldest(heads(0), surplus)
