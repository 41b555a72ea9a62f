"""Reports to an MQTT broker, as docs/mqtt.md describes: topics under ``limpet/<device>/``, JSON, QoS 1."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta

from limpet.messages import StatusMessage
from limpet.mqtt.batch import Batcher
from limpet.mqtt.broker import Broker, check_files, endpoint
from limpet.mqtt.intake import Intake
from limpet.mqtt.sender import Presence, Sender
from limpet.outbox.memory import MemoryOutbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from limpet.messages import Message, Origin


class Config(Broker, kw_only=True, forbid_unknown_fields=True):
    """The broker, and how results go out to it.

    ``batch_age`` is in seconds, ``batch_bytes`` and ``outbox_bytes`` in bytes: how long and how large a batch may
    become, and how much may wait for the broker before the oldest is shed.
    """

    topic: Annotated[str, Meta(pattern=r"^[^+#/\x00][^+#\x00]{0,200}$")] = "limpet"
    qos: Literal[0, 1] = 1
    batch_count: Annotated[int, Meta(ge=1)] = 100
    batch_age: Annotated[float, Meta(ge=0)] = 0.25
    batch_bytes: Annotated[int, Meta(ge=1024)] = 65_536
    outbox_bytes: Annotated[int, Meta(ge=65_536)] = 16 * 1024 * 1024


class MqttReporter:
    """Takes messages for the broker. Two threads of its own do the work."""

    def __init__(self, config: Config, origin: Origin) -> None:
        root = f"{config.topic.rstrip('/')}/{origin.device}"
        # Events have a bound of their own, so that a flood of results never pushes them out.
        outbox = MemoryOutbox({"event": config.outbox_bytes // 16, "result": config.outbox_bytes * 15 // 16})
        batcher = Batcher(config.batch_count, config.batch_age, config.batch_bytes)
        self._host = str(endpoint(config.url))
        self._intake = Intake(root, config.qos, batcher, outbox)
        self._sender = Sender(
            config, config.client_id or f"limpet-{origin.device}", _presence(root, origin), self._intake.wake
        )
        self._intake.sender = self._sender

    def start(self) -> None:
        """Start both threads."""
        self._intake.start()
        self._sender.start()

    def stop(self) -> None:
        """Send what can be sent in a few seconds, report ``offline`` and end."""
        self._intake.stop()

    def report(self, message: Message) -> None:
        """Take a message. Never blocks, never raises."""
        self._intake.add(message)

    def health(self) -> dict[str, Any]:
        """Return the state of the connection and of the outbox. Ages are in seconds."""
        sender, outbox = self._sender, self._intake.outbox
        oldest = self._intake.oldest
        return {
            "connected": sender.connected,
            "protocol": sender.version,
            "broker": self._host,
            "reconnects": max(sender.connections - 1, 0),
            "last_disconnect": sender.last_disconnect,
            "outbox_depth": outbox.depth,
            "outbox_bytes": outbox.size,
            "outbox_oldest_s": 0.0 if oldest is None else round(time.monotonic() - oldest, 3),
            "published": sender.published,
            "acknowledged": sender.acknowledged,
            "shed": {**self._intake.shed, **outbox.shed},
            "refused": dict(sender.refused),
        }


def _presence(root: str, origin: Origin) -> Presence:
    def payload(status: Literal["online", "offline"], reason: str) -> bytes:
        return msgspec.json.encode(
            StatusMessage(
                device=origin.device, boot=origin.boot, version=origin.version, status=status, reason=reason
            )
        )

    return Presence(
        f"{root}/status",
        payload("online", ""),
        payload("offline", "connection lost"),
        payload("offline", "stopped"),
    )


@contextmanager
def open(config: Config, origin: Origin, state: Path) -> Iterator[MqttReporter]:  # noqa: ARG001
    """Start reporting; the broker may be away. ``ConfigError`` where a file with a secret is missing."""
    check_files(config)
    reporter = MqttReporter(config, origin)
    reporter.start()
    try:
        yield reporter
    finally:
        reporter.stop()
