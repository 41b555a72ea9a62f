"""Counts every result by its id: what was accepted, what arrived, how often."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

from limpet.delivery.outbox.queue import Outbox
from limpet.delivery.outbox.rules import OutboxRules
from limpet.delivery.outbox.write_ahead_log import WriteAheadLog

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from support.broker import Received


class Tally:
    """``accepted`` by the outbox, as its own files said after a kill; ``arrived`` at a consumer, how often."""

    def __init__(self) -> None:
        self.accepted: set[str] = set()
        self.arrived: Counter[str] = Counter()
        self.contents: dict[str, bytes] = {}
        self.altered = 0

    def take(self, messages: Iterable[Received]) -> None:
        """Count what came on the result topics."""
        for message in messages:
            if "/result/" in message.topic:
                content = json.loads(message.payload)
                for result in content if isinstance(content, list) else [content]:
                    self._count(result)

    def _count(self, result: dict[str, Any]) -> None:
        result.pop("replayed", None)
        content = msgspec.json.encode(result, order="sorted")
        identifier = result["id"]
        self.arrived[identifier] += 1
        self.altered += self.contents.setdefault(identifier, content) != content

    def lost(self) -> set[str]:
        """Return what was accepted and did not arrive.

        Results arrive in the order of their numbers, so a number missing below one that arrived is lost as well.
        """
        highest: dict[str, int] = {}
        for identifier in self.arrived:
            run, _, number = identifier.rpartition("/")
            highest[run] = max(highest.get(run, 0), int(number))
        due = {f"{run}/{number}" for run, top in highest.items() for number in range(1, top + 1)}
        return (due | self.accepted) - self.arrived.keys()

    def redelivered(self) -> int:
        """Return how many arrivals were of an id that had arrived before."""
        return sum(self.arrived.values()) - len(self.arrived)


def held(state: Path, scratch: Path) -> set[str]:
    """Return the ids that a daemon's outbox had accepted and not got rid of, read from a copy of its files."""
    shutil.rmtree(scratch, ignore_errors=True)
    if not (state / "reporters/mqtt").exists():
        return set()
    shutil.copytree(state / "reporters/mqtt", scratch, ignore=shutil.ignore_patterns("ballast"))
    now = time.monotonic()
    outbox = Outbox(msgspec.convert({"min_free_bytes": 0}, OutboxRules), scratch)
    outbox.open(now)
    outbox.restore(WriteAheadLog(scratch).read(now))
    outbox.requeue(now + 1)
    found: set[str] = set()
    for part in ("backlog", "fresh"):
        while entries := outbox.take("result", part, 1000, 1 << 30):
            for stored in entries:
                found |= {json.loads(item)["id"] for item in stored.entry.items}
    outbox.close()
    return found


def size_of(state: Path) -> int:
    """Return the bytes that an outbox takes on the disk, its ballast aside."""
    total = 0
    for path in (state / "reporters/mqtt").rglob("*"):
        if path.is_file() and path.name != "ballast":
            total += path.stat().st_size
    return total
