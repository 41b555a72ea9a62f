"""Which messages to shed when a bound is reached. No I/O: the caller brings the heads, oldest first."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from limpet.outbox.disk import Head
    from limpet.outbox.lane import Lane


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


def thinned(lane: Lane, heads: Callable[[int], Iterable[Head]], surplus: int) -> Iterator[Head]:
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
