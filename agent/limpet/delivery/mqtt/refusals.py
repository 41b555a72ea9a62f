"""Counts the messages that cannot be sent, by cause, and logs the first of each topic."""

from __future__ import annotations

import logging
from collections import Counter

log = logging.getLogger(__name__)

MOST_TOPICS = 10_000
"""Topics whose first refusal is logged; what a broker refuses may vary without end."""

_OURS = frozenset({"topic", "unreadable", "not encodable"})
"""Causes that are not at the broker."""


class Refusals:
    """``counts`` has the results and messages that were dropped, by cause. ``broker`` is its name in the log."""

    def __init__(self, broker: str) -> None:
        self.counts: Counter[str] = Counter()
        self._broker = broker
        self._logged: set[str] = set()

    def add(self, topic: str, items: int, cause: str, detail: str = "") -> None:
        """Count messages that are dropped. The first of a topic has a line in the log."""
        self.counts[cause] += items
        if topic in self._logged or len(self._logged) >= MOST_TOPICS:
            return
        self._logged.add(topic)
        why = f"{cause}: {detail[:200]}" if detail else cause
        if cause in _OURS:
            log.error("messages to %r cannot be published (%s) and are dropped", topic[:200], why)
            return
        text = "%s refuses messages to %s (%s), which are dropped; check its access list and its limits"
        log.error(text, self._broker, topic[:200], why)
