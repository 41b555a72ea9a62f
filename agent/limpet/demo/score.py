"""Compares the results of the demo with what was sent. No I/O."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import msgspec

from limpet.contracts.messages import DeviceHealth, ModelReported, PipelineHealth, ResultMessage, StatusMessage
from limpet.histogram import bucket_of, merge, quantile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.demo.client import Received

GOOD = 0.9
"""Precision and recall that the model must exceed on rows that it was not trained on."""

_results = msgspec.json.Decoder(ResultMessage | list[ResultMessage])


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
    """What a client knows of one pipeline, updated with each message.

    ``truth[sample % len(truth)]`` says whether the sample of a result was an anomaly.
    """

    def __init__(self, truth: Sequence[bool], pipeline: str) -> None:
        self.truth = truth
        self.latest: deque[tuple[ResultMessage, Verdict]] = deque(maxlen=200)
        self.model: ModelReported | None = None
        self.pipeline: PipelineHealth | None = None
        self.device: DeviceHealth | None = None
        self.offline = False
        self.duplicates = 0
        self.right = self.false_alarms = self.missed = 0
        self._pipeline = pipeline
        self._sequences: set[int] = set()
        self._latency: dict[str, dict[int, int]] = {}

    @property
    def received(self) -> int:
        """Results, each counted once."""
        return len(self._sequences)

    @property
    def published(self) -> int:
        """Number of results that the daemon made, by its health or by their sequence numbers."""
        return max(self.pipeline.results if self.pipeline else 0, max(self._sequences, default=0))

    def take(self, message: Received) -> None:
        """Take a message of the device. Topics that are not shown are ignored."""
        if message.topic == f"result/{self._pipeline}":
            results = _results.decode(message.payload)
            for result in results if isinstance(results, list) else [results]:
                self._result(result, message.wall_ns)
        elif message.topic == f"health/{self._pipeline}":
            self.pipeline = msgspec.json.decode(message.payload, type=PipelineHealth)
            for stage, figures in self.pipeline.latency_us.items():
                merge(self._stage(stage), {int(bucket): count for bucket, count in figures.buckets.items()})
        elif message.topic == f"model/{self._pipeline}/reported":
            self.model = msgspec.json.decode(message.payload, type=ModelReported)
        elif message.topic == "status":
            self.offline = msgspec.json.decode(message.payload, type=StatusMessage).status == "offline"
        elif message.topic == "health":
            self.device = msgspec.json.decode(message.payload, type=DeviceHealth)

    def _result(self, result: ResultMessage, wall_ns: int) -> None:
        if result.sequence in self._sequences:
            self.duplicates += 1
            return
        self._sequences.add(result.sequence)
        verdict = msgspec.convert(result.output, Verdict)
        self.latest.append((result, verdict))
        merge(self._stage("delivered"), {bucket_of(wall_ns - int(result.time.timestamp() * 1e9)): 1})
        anomaly = self.truth[result.sample % len(self.truth)]
        self.right += verdict.anomalous and anomaly
        self.false_alarms += verdict.anomalous and not anomaly
        self.missed += anomaly and not verdict.anomalous

    def _stage(self, stage: str) -> dict[int, int]:
        return self._latency.setdefault(stage, {})

    def latencies(self) -> dict[str, dict[str, float]]:
        """Return the quantiles by stage over the whole run, in µs."""
        quantiles = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
        return {
            stage: {name: round((quantile(buckets, q) or 0.0) / 1000, 2) for name, q in quantiles.items()}
            for stage, buckets in self._latency.items()
        }

    def scoreboard(self, rows: int) -> Scoreboard:
        """Return the figures. ``rows`` were sent, and each should have given a result."""
        detections, anomalies = self.right + self.false_alarms, self.right + self.missed
        lost = max(rows, self.published) - self.received
        precision, recall = _share(self.right, detections), _share(self.right, anomalies)
        return Scoreboard(
            rows=rows,
            published=self.published,
            received=self.received,
            lost=lost,
            duplicates=self.duplicates,
            anomalies=anomalies,
            detections=detections,
            precision=precision,
            recall=recall,
            latency_us=self.latencies(),
            dropped=self.pipeline.dropped if self.pipeline else {},
            restarts=self.pipeline.restarts if self.pipeline else 0,
            passed=lost == 0 and rows > 0 and min(precision, recall) > GOOD,
        )


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0
