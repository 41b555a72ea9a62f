"""Reads what the dialects say, each in its own way."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from limpet import plugins
from limpet.reporters.dialects import _sparkplug_payload
from support import reports

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.dialect import Dialect, Publish

ROOT = f"limpet/{reports.ORIGIN.device}"


class Received(NamedTuple):
    """A result as a consumer sees it."""

    id: str
    replayed: bool


def opened(kind: str, **options: Any) -> Dialect:
    """Return a dialect that is connected."""
    module = plugins.load("dialects", kind)
    dialect: Dialect = module.open(module.Config(**options), reports.ORIGIN, ROOT)
    dialect.connecting("5")
    dialect.connected()
    return dialect


class SparkplugHost:
    """Follows one edge node by the rules: aliases from the birth, ``seq`` without a gap."""

    def __init__(self) -> None:
        self.births = 0
        self.names: dict[int, str] = {}
        self.seq = -1
        self.values: list[tuple[str, Any, bool]] = []
        self.received: list[Received] = []

    def take(self, publish: Publish) -> None:
        payload = _sparkplug_payload.Payload.FromString(publish.payload)
        if "/NBIRTH/" in publish.topic:
            self.births += 1
            self.names = {m.alias: m.name for m in payload.metrics if m.HasField("alias")}
            self.seq = 0
            assert payload.seq == 0
        elif "/NDATA/" in publish.topic:
            self.seq = (self.seq + 1) % 256
            assert payload.seq == self.seq
            for metric in payload.metrics:
                self._note(metric)

    def _note(self, metric: Any) -> None:
        assert not metric.HasField("name")
        name = self.names[metric.alias]
        fields = [field.name for field, _ in metric.ListFields() if field.name.endswith("_value")]
        assert len(fields) + metric.is_null == 1
        value = getattr(metric, fields[0]) if fields else None
        self.values.append((name, value, metric.is_historical))
        if name.endswith("/result/id"):
            self.received.append(Received(value, metric.is_historical))


def received(kind: str, publishes: Sequence[Publish]) -> list[Received]:
    """Return the results in what was published."""
    if kind == "sparkplug":
        host = SparkplugHost()
        for publish in publishes:
            host.take(publish)
        return host.received
    mark = "kind=result" if kind == "azure_iot_hub" else "/result/"
    return [result for p in publishes if mark in p.topic for result in _read(kind, p)]


def _read(kind: str, publish: Publish) -> list[Received]:
    if kind == "cloudevents":
        attributes = dict(publish.user_properties) or json.loads(publish.payload)
        return [Received(attributes["id"], attributes.get("replayed") in {True, "true"})]
    decode = msgspec.msgpack.decode if kind == "msgpack" else msgspec.json.decode
    content = decode(publish.payload)
    results = content if isinstance(content, list) else [content]
    return [Received(result["id"], result.get("replayed", False)) for result in results]
