"""Sparkplug B 3.0: the device is an edge node, the outputs of its pipelines are its metrics.

See the specification, https://sparkplug.eclipse.org. The first result of a pipeline adds its metrics: a new birth
that has them goes out before it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta

from limpet.contracts.dialect import Publish
from limpet.contracts.messages import DeviceHealth, ModelReported
from limpet.reporters.dialects import _fields
from limpet.reporters.dialects._sparkplug_payload import (
    BOOLEAN,
    INT64,
    REBIRTH,
    STRING,
    TYPES,
    Metric,
    encode,
    wants_rebirth,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from limpet.contracts.messages import EventMessage, Origin, PipelineHealth, ResultMessage, SnapshotMessage

__all__ = ["Config", "Sparkplug", "open"]

METRICS = 2000
"""Metrics that a node may have; further names of a decoder's output are left out."""


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Sparkplug B. The edge node has the name of the device."""

    group: Annotated[
        str,
        Meta(
            pattern=r"^[^+#/\x00-\x1f\x7f-\x9f]{1,100}\Z",
            extra={"use": 'a name without "+", "#" and "/", with at most 100 characters'},
        ),
    ] = "limpet"
    """Sparkplug group of the edge node. Example: `"plant-2"`."""
    qos: Literal[0, 1] = 0
    """QoS of births and data. The specification says 0. With 1 the broker confirms each."""


def open(config: Config, origin: Origin, root: str) -> Sparkplug:  # noqa: ARG001
    """Return a dialect that publishes under ``spBv1.0/GROUP/``."""
    return Sparkplug(config, origin)


@dataclass(slots=True)
class _Tag:
    """A metric in a birth, with its newest value that was not historical."""

    alias: int
    type: int
    unit: str = ""
    value: _fields.Value = None
    time: int = 0


class Sparkplug:
    """One edge node. ``bdSeq`` rises with each attempt to connect, ``seq`` with each message after a birth."""

    reserved = ("spBv1.0",)

    def __init__(self, config: Config, origin: Origin) -> None:
        self.subscriptions = (f"spBv1.0/{config.group}/NCMD/{origin.device}",)
        self._topic = f"spBv1.0/{config.group}/{{}}/{origin.device}"
        self._qos = config.qos
        self._origin = origin
        self._known = _fields.Known(METRICS)
        self._tags: dict[str, _Tag] = {}
        self._aliases = 0
        self._born = 0
        self._bd_seq = -1
        self._seq = 0

    def connecting(self, protocol: str) -> Publish:  # noqa: ARG002 - the same in both
        """Return the death certificate of the connection to be made."""
        self._bd_seq = (self._bd_seq + 1) % 256
        return self._death()

    def connected(self) -> list[Publish]:
        """Return a birth with all metrics."""
        return [self._birth()]

    def results(self, results: Sequence[ResultMessage]) -> list[Publish]:
        """Return one message with all results, each value with the time of its result."""
        metrics: list[Metric] = []
        for result in results:
            values, units = _fields.output(result.output)
            about = {"id": result.id, "latency_us": result.latency_us, "degraded": result.degraded}
            values = [*values, *((f"result/{name}", value) for name, value in about.items())]
            metrics += self._observe(f"Pipelines/{result.pipeline}", values, result.time, units, result.replayed)
        return self._data(metrics)

    def event(self, event: EventMessage) -> list[Publish]:
        """Return the event's name and reason."""
        group = f"Pipelines/{event.pipeline}" if event.pipeline else "Device"
        values = [("event/name", event.event), ("event/reason", event.reason)]
        return self._data(self._observe(group, values, event.time, {}, event.replayed))

    def state(self, message: PipelineHealth | DeviceHealth | ModelReported) -> list[Publish]:
        """Return all figures, but not the histograms."""
        content: dict[str, Any] = msgspec.to_builtins(message)
        for key in ("device", "pipeline", "time", "boot"):
            content.pop(key, None)
        for stage in content.get("latency_us", {}).values():
            del stage["buckets"]
        group = "Device" if isinstance(message, DeviceHealth) else f"Pipelines/{message.pipeline}"
        part = "model" if isinstance(message, ModelReported) else "health"
        metrics = self._observe(group, _fields.flatten(content, part), message.time, {}, historical=False)
        return self._data(metrics)

    def snapshot(self, message: SnapshotMessage, topic: str) -> list[Publish]:  # noqa: ARG002
        """Return nothing: a host reads metrics."""
        return []

    def removed(self, pipeline: str) -> list[Publish]:
        """Return a birth without the metrics of the pipeline, if it had any: hosts then take them as gone."""
        group = f"Pipelines/{pipeline}/"
        gone = [name for name in self._tags if name.startswith(group)]
        for name in gone:
            del self._tags[name]
        self._known.forget(group)
        return [self._birth()] if gone else []

    def received(self, topic: str, payload: bytes) -> list[Publish]:
        """Return a birth with all metrics if a host asks for it."""
        return [self._birth()] if topic in self.subscriptions and wants_rebirth(payload) else []

    def leaving(self) -> list[Publish]:
        """Return the death: the broker does not send the last will after a clean end."""
        return [self._death()]

    def _observe(
        self,
        group: str,
        values: Iterable[tuple[str, Any]],
        when: datetime,
        units: Mapping[str, str],
        historical: bool,  # noqa: FBT001
    ) -> list[Metric]:
        """Store values, those of new names too; return them as metrics of a data message."""
        fitted = self._known.take((f"{group}/{path}", value) for path, value in values)
        at = max(round(when.timestamp() * 1000), 0)
        metrics = []
        for name, value in fitted.items():
            tag = self._tags.get(name)
            if tag is None:
                self._aliases += 1
                tag = _Tag(self._aliases, TYPES[self._known.kinds[name]], time=at)
                tag.unit = units.get(name.removeprefix(f"{group}/"), "")
                self._tags[name] = tag
            if not historical:
                tag.value, tag.time = value, at
            metrics.append(Metric(value, tag.type, at, tag.alias, historical=historical))
        return metrics

    def _data(self, metrics: list[Metric]) -> list[Publish]:
        """Return the message, after a new birth if it has metrics that the last birth lacks."""
        if not metrics:
            return []
        births = [self._birth()] if len(self._tags) > self._born else []
        self._seq = (self._seq + 1) % 256
        return [*births, Publish(self._topic.format("NDATA"), encode(metrics, _now(), self._seq), self._qos)]

    def _birth(self) -> Publish:
        self._seq = 0
        self._born = len(self._tags)
        now = _now()
        metrics = [
            Metric(self._bd_seq, INT64, now, name="bdSeq"),
            Metric(False, BOOLEAN, now, name=REBIRTH),
            Metric(self._origin.version, STRING, now, name="Properties/Limpet"),
            Metric(self._origin.boot, STRING, now, name="Properties/Boot"),
        ]
        metrics += [
            Metric(tag.value, tag.type, tag.time, tag.alias, name, tag.unit) for name, tag in self._tags.items()
        ]
        return Publish(self._topic.format("NBIRTH"), encode(metrics, now, 0), self._qos)

    def _death(self) -> Publish:
        now = _now()
        return Publish(self._topic.format("NDEATH"), encode([Metric(self._bd_seq, INT64, now, name="bdSeq")], now))


def _now() -> int:
    return time.time_ns() // 1_000_000
