"""Compares the wake words that are heard in a clip with the truth. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from limpet.contracts.outputs import Keyword
from limpet.demo.arrivals import Arrivals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.demo.client import Received

LATE = 1.0
"""Seconds after the end of a word in which it may be heard: scores are means over windows."""


class Heard(msgspec.Struct, frozen=True):
    """A word that was heard. ``at_s``: seconds of sound from the beginning. ``score``: 0 to 1."""

    word: str
    at_s: float
    score: float


class Scoreboard(msgspec.Struct, kw_only=True):
    """The figures of a run. Latencies in µs, as of the other demos."""

    seconds: float
    received: int
    lost: int
    duplicates: int
    said: int
    heard: list[Heard]
    missed: int
    false_alarms: int
    latency_us: dict[str, dict[str, float]]
    dropped: dict[str, int]
    restarts: int
    passed: bool


class WordWatch:
    """Takes the results of a clip that is played in a loop.

    ``words``: when each word begins and ends in the clip, in seconds. ``clip``: how long it lasts.
    ``seconds``: how much of the sound counts. ``rate``: samples a second.
    """

    def __init__(
        self, words: Sequence[tuple[float, float]], pipeline: str, clip: float, seconds: float, rate: int
    ) -> None:
        self.arrivals = Arrivals(pipeline)
        self.seconds = seconds
        self.at_s = 0.0
        """Seconds of sound whose results have come."""
        self.score = 0.0
        self.heard: list[Heard] = []
        self._rate = rate
        laps = range(int(seconds // clip) + 1)
        said = [(begin + lap * clip, end + lap * clip) for lap in laps for begin, end in words]
        self.said = [(begin, end) for begin, end in said if end + LATE <= seconds]

    def take(self, message: Received) -> None:
        """Take a message of the device."""
        for result in self.arrivals.take(message):
            at = (result.sample + 1) / self._rate
            self.at_s = max(self.at_s, at)
            output = msgspec.convert(result.output, Keyword)
            self.score = output.score or 0.0
            if output.keyword is not None and at <= self.seconds:
                self.heard.append(Heard(output.keyword, round(at, 2), round(self.score, 3)))

    def scoreboard(self) -> Scoreboard:
        """Return the figures."""
        came = self.arrivals
        lost = came.published - came.received
        times = [one.at_s for one in self.heard]
        missed = sum(not any(begin <= at <= end + LATE for at in times) for begin, end in self.said)
        false = len(times) - (len(self.said) - missed)
        return Scoreboard(
            seconds=self.seconds,
            received=came.received,
            lost=lost,
            duplicates=came.duplicates,
            said=len(self.said),
            heard=self.heard,
            missed=missed,
            false_alarms=false,
            latency_us=came.latencies(),
            dropped=came.dropped,
            restarts=came.restarts,
            passed=lost == 0 and missed == 0 and false == 0 and came.received > 0,
        )
