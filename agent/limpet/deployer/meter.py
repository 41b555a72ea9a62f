"""What a deployer has received, how far it is, and when it has to end. It says that to the supervisor."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from limpet.deployer.failures import GivenUpError
from limpet.wire.deploy_records import Lacking, Progress

if TYPE_CHECKING:
    from limpet.wire.channel import Channel

EVERY = 0.5
"""Seconds between two reports."""


class Meter:
    """Counts bytes, and ends the deployer when its time or its budget is over."""

    def __init__(self, supervisor: Channel[Any], most_bytes: int, seconds: float) -> None:
        self.received = 0
        self._supervisor = supervisor
        self._most_bytes = most_bytes
        self._until = time.monotonic() + seconds
        self._next_report = 0.0
        self._reported: tuple[int, int] | None = None

    def left(self) -> float:
        """Return the seconds that are left. ``GivenUpError`` if none are."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise GivenUpError("the download takes too long")
        return left

    def came(self, size: int) -> None:
        """Take note of bytes from the network. ``GivenUpError`` if the budget is used up."""
        self.count(size)
        self.check_budget()

    def count(self, size: int) -> None:
        """Take note of bytes from the network."""
        self.received += size

    def check_budget(self) -> None:
        """``GivenUpError`` if the budget is used up."""
        if self.received >= self._most_bytes:
            raise GivenUpError(f"the {self._most_bytes} bytes that may be fetched now are used up")

    def report(self, present: int) -> None:
        """Say how far it is, unless it did so a moment ago."""
        now = time.monotonic()
        if now >= self._next_report and (present, self.received) != self._reported:
            self._next_report, self._reported = now + EVERY, (present, self.received)
            self._supervisor.send(Progress(present, self.received))

    def lacking(self, record: Lacking) -> None:
        """Say which chunks are lacking."""
        self._supervisor.send(record)

    def sleep(self, seconds: float) -> None:
        """Wait, though not longer than there is time."""
        time.sleep(min(seconds, self.left()))
        self.left()
