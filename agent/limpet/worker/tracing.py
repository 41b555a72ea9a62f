"""Windows whose way through a worker is reported: how long each stage took. They are chosen at random."""

from __future__ import annotations

from random import random
from time import monotonic
from typing import TYPE_CHECKING, Any

from limpet.bucket import Bucket
from limpet.wire.records import WindowTimes

if TYPE_CHECKING:
    from collections.abc import Callable

    from limpet.inference.latency import Latency
    from limpet.wire.records import Result

PER_SECOND, AT_ONCE = 20.0, 40
"""Windows of one worker that are reported, on average and in a burst. More would cost what is measured."""


class Tracing:
    """Chooses windows. ``share``: of how many, 0 to 1. ``send`` takes what goes to the supervisor."""

    def __init__(self, send: Callable[[WindowTimes], None]) -> None:
        self.share = 0.0
        self._send = send
        self._limit = Bucket(PER_SECOND, AT_ONCE)

    def see(self, result: Result[Any], latency: Latency) -> None:
        """Report a window if it is chosen. To be called before its result is sent, and after it was measured."""
        if random() >= self.share or self._limit.level(monotonic()) < 1:
            return
        self._limit.spend(1)
        _, *stages = latency.last_ns
        self._send(WindowTimes(result.pipeline, result.sample, result.monotonic_ns, *stages))
