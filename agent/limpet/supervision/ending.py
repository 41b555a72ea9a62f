"""When a daemon ends by itself: all pipelines are over, and their results are delivered. Decides, without I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from limpet.contracts.messages import State

PATIENCE = 10.0
"""Seconds without progress after which undelivered messages are left in their outboxes."""


class Ending:
    """``states`` are those in which a pipeline is over. Without any, the daemon never ends by itself.

    Times are seconds on any steady clock.
    """

    def __init__(self, states: Collection[State]) -> None:
        self._states = states
        self._least: int | None = None
        self._moved = 0.0

    @property
    def begun(self) -> bool:
        """Whether all pipelines are over, and only the delivery is waited for."""
        return self._least is not None

    def is_over(self, states: Iterable[State]) -> bool:
        """Whether pipelines in these states are all over."""
        found = list(states)
        return bool(found) and all(state in self._states for state in found)

    def is_delivered(self, undelivered: int, *, connected: bool, now: float) -> bool:
        """Whether to wait no longer, once all pipelines are over. ``undelivered`` messages are left."""
        if self._least is None or undelivered < self._least:
            self._least, self._moved = undelivered, now
        return (connected and not undelivered) or now - self._moved >= PATIENCE
