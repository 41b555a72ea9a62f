"""Compares the results of the demo with what was sent. No I/O."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import msgspec

from limpet.demo.arrivals import Arrivals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.messages import ResultMessage
    from limpet.demo.client import Received

GOOD = 0.9
"""Precision and recall that the model must exceed on rows that it was not trained on."""


class Verdict(msgspec.Struct):
    """What the demo reads of the decoder's output. ``score`` is null where the model gave none."""

    score: float | None
    anomalous: bool


class Scoreboard(msgspec.Struct, kw_only=True):
    """The figures of a run. Latencies in µs: by stage, and ``delivered`` from the sample to the client."""

    rows: int
    published: int
    received: int
    lost: int
    duplicates: int
    anomalies: int
    detections: int
    precision: float
    recall: float
    latency_us: dict[str, dict[str, float]]
    dropped: dict[str, int]
    restarts: int
    passed: bool


class PipelineWatch:
    """Compares each result with the truth.

    ``truth[sample % len(truth)]`` says whether the sample of a result was an anomaly.
    """

    def __init__(self, truth: Sequence[bool], pipeline: str) -> None:
        self.truth = truth
        self.arrivals = Arrivals(pipeline)
        self.latest: deque[tuple[ResultMessage, Verdict]] = deque(maxlen=200)
        self.right = self.false_alarms = self.missed = 0

    def take(self, message: Received) -> None:
        """Take a message of the device. Topics that are not shown are ignored."""
        for result in self.arrivals.take(message):
            verdict = msgspec.convert(result.output, Verdict)
            self.latest.append((result, verdict))
            anomaly = self.truth[result.sample % len(self.truth)]
            self.right += verdict.anomalous and anomaly
            self.false_alarms += verdict.anomalous and not anomaly
            self.missed += anomaly and not verdict.anomalous

    def scoreboard(self, rows: int) -> Scoreboard:
        """Return the figures. ``rows`` were sent, and each should have given a result."""
        detections, anomalies = self.right + self.false_alarms, self.right + self.missed
        came = self.arrivals
        lost = max(rows, came.published) - came.received
        precision, recall = share(self.right, detections), share(self.right, anomalies)
        return Scoreboard(
            rows=rows,
            published=came.published,
            received=came.received,
            lost=lost,
            duplicates=came.duplicates,
            anomalies=anomalies,
            detections=detections,
            precision=precision,
            recall=recall,
            latency_us=came.latencies(),
            dropped=came.dropped,
            restarts=came.restarts,
            passed=lost == 0 and rows > 0 and min(precision, recall) > GOOD,
        )


def share(part: int, whole: int) -> float:
    """Return a part of a whole, 0 if there is none."""
    return round(part / whole, 4) if whole else 0.0
