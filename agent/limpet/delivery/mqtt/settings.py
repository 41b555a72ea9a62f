"""The configuration of a reporter to MQTT."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from limpet.delivery.mqtt import dialects
from limpet.delivery.mqtt.broker_settings import BrokerSettings
from limpet.delivery.mqtt.rate_limits import ReplayRules
from limpet.delivery.outbox import LARGEST
from limpet.delivery.outbox.rules import OutboxRules


class Config(BrokerSettings, kw_only=True, forbid_unknown_fields=True):
    """The broker, and how results go out to it."""

    topic: Annotated[
        str,
        Meta(
            pattern=r"^[^+#/\x00-\x1f\x7f-\x9f][^+#\x00-\x1f\x7f-\x9f]{0,200}\Z",
            extra={
                "use": 'a topic without "+" and "#", that does not begin with "/", with at most 201 characters'
            },
        ),
    ] = "limpet"
    """Root of all topics. Example: `"plant-2/limpet"`."""
    qos: Literal[0, 1] = 1
    """QoS of results. With 0 a result counts as delivered when it is written to the connection."""
    commands: bool = True
    """Whether commands that `device.commands` allows may come from this broker."""
    updates: bool = True
    """Whether models may be requested and sent through this broker. Without a table `[updates]` none are."""
    batch_count: Annotated[int, Meta(ge=1)] = 100
    """Results in one message, at most."""
    batch_age: Annotated[float, Meta(ge=0)] = 0.25
    """Seconds that a result may wait for others of its message."""
    batch_bytes: Annotated[int, Meta(ge=1024, le=LARGEST)] = 65_536
    """Bytes of one message, at most."""
    bytes_per_hour: Annotated[int, Meta(ge=1024)] | None = None
    """Bytes an hour for metered links. When they are used up, results wait; events and health go on. Default: no
    limit. Example: `1000000`."""
    dialects: dict[str, dict[str, Any]] = msgspec.field(default_factory=lambda: {"json": {}})
    """Message formats, a table each. Example: `{ json = {}, homeassistant = {} }`."""
    outbox: OutboxRules = msgspec.field(default_factory=OutboxRules)
    """What is kept while the broker does not answer."""
    replay: ReplayRules = msgspec.field(default_factory=ReplayRules)
    """How what was kept goes out."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.dialects:
            raise ValueError("dialects: name at least one, as [mqtt.dialects.json]")
        dialects.configs(self.dialects, Path())


def client_id(config: Config, device: str, name: str) -> str:
    """Return the client id of a reporter of this name.

    Two reporters of one device need two ids: at one broker, each would end the other's connection. No device or
    reporter has a colon in its name, so that a reporter of ``press`` has no id of a device ``press-07``.
    """
    return config.client_id or (f"limpet-{device}" if name == "mqtt" else f"limpet-{device}:{name}")
