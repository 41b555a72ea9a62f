"""Which messages to shed when a bound is reached. No I/O: the caller brings the heads, oldest first."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from limpet.delivery.outbox.class_queue import ClassQueue
    from limpet.delivery.outbox.database import Head


def too_old(heads: Iterable[Head], born_before: float) -> Iterator[Head]:
    """Yield the messages born before then."""
    for head in heads:
        if head.born >= born_before:
            return
        yield head


def oldest(heads: Iterable[Head], surplus: int) -> Iterator[Head]:
    """Yield the oldest messages until ``surplus`` bytes are free."""
    for head in heads:
        if surplus <= 0:
            return
        surplus -= head.size
        yield head


def fairly(sizes: Mapping[str, int], heads: Callable[[int], Iterable[Head]], surplus: int) -> Iterator[Head]:
    """Yield the oldest messages of the pipelines that hold most, until ``surplus`` bytes are free.

    ``sizes``: the bytes of each pipeline. So one pipeline that floods the outbox pushes out its own messages.
    """
    excess = above(sizes, surplus)
    for head in heads(0):
        if surplus <= 0:
            return
        if excess.get(head.pipeline, 0) > 0:
            excess[head.pipeline] -= head.size
            surplus -= head.size
            yield head
    yield from oldest(heads(0), surplus)


def above(sizes: Mapping[str, int], surplus: int) -> dict[str, float]:
    """Return how much of each size lies above a level, such that ``surplus`` does in all."""
    ordered = sorted(sizes.values(), reverse=True)
    level, total = 0.0, 0
    for count, size in enumerate(ordered, 1):
        total += size
        level = (total - surplus) / count
        if count == len(ordered) or level >= ordered[count]:
            break
    return {name: max(size - max(level, 0.0), 0.0) for name, size in sizes.items()}


def thinned(lane: ClassQueue, heads: Callable[[int], Iterable[Head]], surplus: int) -> Iterator[Head]:
    """Yield all but every nth message of each pipeline, oldest first, until ``surplus`` bytes are free.

    It goes on where it stopped the last time. At the end it begins again from the oldest, whose resolution then
    becomes coarser still; where even that frees nothing, the oldest go.
    """
    for _ in range(2):
        for head in heads(lane.thinned):
            if surplus <= 0:
                return
            lane.thinned = head.sequence
            lane.counts[head.pipeline] += 1
            if lane.counts[head.pipeline] % lane.rules.nth:
                surplus -= head.size
                yield head
        lane.thinned = 0
    yield from oldest(heads(0), surplus)
