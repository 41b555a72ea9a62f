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
    """The broker, and how results go out to it.

    ``batch_age`` is in seconds, ``batch_bytes`` in bytes: how old and how large a batch may become.
    ``bytes_per_hour`` bounds what is sent on a metered link: results wait, events and state go on.
    ``dialects`` has a table for each message format (docs/reference/dialects.md).
    ``commands``: whether commands that ``device.commands`` allows may come from this broker.
    """

    topic: Annotated[
        str,
        Meta(
            pattern=r"^[^+#/\x00-\x1f\x7f-\x9f][^+#\x00-\x1f\x7f-\x9f]{0,200}\Z",
            extra={
                "use": 'a topic without "+" and "#", that does not begin with "/", with at most 201 characters'
            },
        ),
    ] = "limpet"
    qos: Literal[0, 1] = 1
    commands: bool = True
    batch_count: Annotated[int, Meta(ge=1)] = 100
    batch_age: Annotated[float, Meta(ge=0)] = 0.25
    batch_bytes: Annotated[int, Meta(ge=1024, le=LARGEST)] = 65_536
    bytes_per_hour: Annotated[int, Meta(ge=1024)] | None = None
    dialects: dict[str, dict[str, Any]] = msgspec.field(default_factory=lambda: {"json": {}})
    outbox: OutboxRules = msgspec.field(default_factory=OutboxRules)
    replay: ReplayRules = msgspec.field(default_factory=ReplayRules)

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
