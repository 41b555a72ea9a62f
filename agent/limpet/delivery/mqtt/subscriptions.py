"""Which topics to subscribe to, and which to leave out as the broker closes the connection over them. No I/O."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from limpet.contracts.commands import REQUESTS

if TYPE_CHECKING:
    from collections.abc import Sequence

ENDS = 2
"""Connections that end over a subscription until it is left out."""

REST = 3600.0
"""Seconds for which it is then left out; twice as long after each further end, up to a day."""

_MOST_RESTS = 24


class Subscriptions:
    """The topics of commands below ``root``, if ``commands`` are wanted, and those of the dialects."""

    def __init__(self, root: str, dialects: Sequence[str], *, commands: bool) -> None:
        self._root = root
        self._dialects = tuple(dialects)
        self._commands = commands
        self._ends: dict[str, tuple[int, float]] = {}

    def wanted(self, *, wildcards: bool = True) -> list[str]:
        """Return all topics. A broker without wildcards needs a subscription for each command."""
        names = ["+"] if wildcards else list(REQUESTS)
        commands = [f"{self._root}/command/{name}" for name in names] if self._commands else []
        return [*commands, *self._dialects]

    def is_left_out(self, topic: str, now: float) -> bool:
        """Whether the broker has closed too many connections over a topic for it to be tried now."""
        ends, until = self._ends.get(topic, (0, 0.0))
        return ends >= ENDS and now < until

    def next_due(self) -> float:
        """Return when a topic that is left out may be tried again, infinity if there is none."""
        return min((until for ends, until in self._ends.values() if ends >= ENDS), default=math.inf)

    def due(self, now: float) -> list[str]:
        """Return the topics that were left out and may be tried again."""
        return [topic for topic, (ends, until) in self._ends.items() if ends >= ENDS and now >= until]

    def ended(self, topic: str, now: float) -> None:
        """Take in that the connection ended over a subscription."""
        ends, _ = self._ends.get(topic, (0, 0.0))
        self._ends[topic] = ends + 1, now + REST * min(_MOST_RESTS, 1 << max(0, ends - 1))

    def answered(self, topic: str) -> None:
        """Take in that the broker answered a subscription."""
        self._ends.pop(topic, None)
