"""What has come from a pipeline: its results, each once, its state and its latencies. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from limpet.contracts.messages import DeviceHealth, ModelReported, PipelineHealth, ResultMessage, StatusMessage
from limpet.histogram import bucket_of, merge, quantile

if TYPE_CHECKING:
    from limpet.demo.client import Received

_results = msgspec.json.Decoder(ResultMessage | list[ResultMessage])


class Arrivals:
    """What a client knows of one pipeline, updated with each message."""

    def __init__(self, pipeline: str) -> None:
        self.model: ModelReported | None = None
        self.pipeline: PipelineHealth | None = None
        self.device: DeviceHealth | None = None
        self.offline = False
        self.duplicates = 0
        self._name = pipeline
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

    @property
    def dropped(self) -> dict[str, int]:
        """What the pipeline did not take, by cause."""
        return self.pipeline.dropped if self.pipeline else {}

    @property
    def restarts(self) -> int:
        """How often the pipeline was started again."""
        return self.pipeline.restarts if self.pipeline else 0

    def take(self, message: Received) -> list[ResultMessage]:
        """Take a message of the device, and return the results in it that are new. Other topics are ignored."""
        if message.topic == f"result/{self._name}":
            decoded = _results.decode(message.payload)
            return [
                each
                for each in (decoded if isinstance(decoded, list) else [decoded])
                if self._is_new(each, message.wall_ns)
            ]
        if message.topic == f"health/{self._name}":
            self.pipeline = msgspec.json.decode(message.payload, type=PipelineHealth)
            for stage, figures in self.pipeline.latency_us.items():
                merge(self._stage(stage), {int(bucket): count for bucket, count in figures.buckets.items()})
        elif message.topic == f"model/{self._name}/reported":
            self.model = msgspec.json.decode(message.payload, type=ModelReported)
        elif message.topic == "status":
            self.offline = msgspec.json.decode(message.payload, type=StatusMessage).status == "offline"
        elif message.topic == "health":
            self.device = msgspec.json.decode(message.payload, type=DeviceHealth)
        return []

    def _is_new(self, result: ResultMessage, wall_ns: int) -> bool:
        if result.sequence in self._sequences:
            self.duplicates += 1
            return False
        self._sequences.add(result.sequence)
        merge(self._stage("delivered"), {bucket_of(wall_ns - int(result.time.timestamp() * 1e9)): 1})
        return True

    def _stage(self, stage: str) -> dict[int, int]:
        return self._latency.setdefault(stage, {})

    def latencies(self) -> dict[str, dict[str, float]]:
        """Return the quantiles by stage over the whole run, in µs."""
        quantiles = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
        return {
            stage: {name: round((quantile(buckets, q) or 0.0) / 1000, 2) for name, q in quantiles.items()}
            for stage, buckets in self._latency.items()
        }
