"""A first configuration, from what is known of sensor, model and broker. No I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from limpet.models.manifest import Manifest


@dataclass(frozen=True, kw_only=True)
class NewConfig:
    """What a configuration with one source and one pipeline needs. ``state`` is empty for the default.

    ``sensor``: the source's name. ``source``: its table. ``delegates``: none for the default. ``bundle``: a model
    that goes into the store with it, its file name there and its content.
    """

    device: str
    state: str
    broker: Mapping[str, Any]
    source: Mapping[str, Any]
    model: str
    pipeline: str
    sensor: str = "sensor"
    delegates: Sequence[str] = ("cpu",)
    bundle: tuple[str, bytes] | None = None

    def tables(self) -> dict[str, Any]:
        """Return the tables in the order in which they are written."""
        delegates = {"delegates": list(self.delegates)} if self.delegates else {}
        return {
            "device": {"id": self.device, **({"state": self.state} if self.state else {})},
            "mqtt": dict(self.broker),
            "sources": {self.sensor: dict(self.source)},
            "pipelines": {self.pipeline: {"source": self.sensor, "model": self.model, **delegates}},
        }


def serial_source(
    port: str, baud: int, framing: str | Mapping[str, Any], channels: Sequence[str], rate: float | None = None
) -> dict[str, Any]:
    """Return the table of a serial source."""
    source = {"kind": "serial", "port": port, "baud": baud, "framing": framing, "channels": list(channels)}
    return source | ({"rate": rate} if rate else {})


def channels_of(manifest: Manifest) -> list[str]:
    """Return the names of the channels that a model takes, or c0, c1, ... Empty if the model does not show it."""
    named = list(dict.fromkeys(channel for tensor in manifest.inputs for channel in tensor.channels))
    if named or len(manifest.inputs) != 1:
        return named
    shape = manifest.inputs[0].shape
    count = shape[-1] if len(shape) in {2, 3} and not manifest.transforms else 0
    return [f"c{number}" for number in range(count)]


def identifier(text: str) -> str:
    """Turn a host name into a device id."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:64] or "limpet"
