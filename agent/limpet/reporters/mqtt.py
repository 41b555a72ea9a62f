"""Reports to an MQTT broker, as docs/reference/mqtt.md describes: under ``limpet/<device>/``, JSON, QoS 1."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from limpet.contracts.messages import StatusMessage
from limpet.delivery.mqtt.broker_settings import check_files, endpoint, password, tls_context
from limpet.delivery.mqtt.dialects import Dialects, configs
from limpet.delivery.mqtt.outbox_thread import OutboxThread
from limpet.delivery.mqtt.sender import Presence, Sender
from limpet.delivery.mqtt.settings import Config, client_id
from limpet.delivery.mqtt.spoken_topics import speaking
from limpet.errors import ConfigError, TransportError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.contracts.messages import Origin
    from limpet.contracts.reporter import Command, ReporterContext


__all__ = ["Config", "MqttReporter", "open"]


class MqttReporter:
    """Takes messages from its feed to the broker. Its two threads do the work."""

    def __init__(self, config: Config, context: ReporterContext) -> None:
        origin = context.origin
        obey = context.obey if config.commands else None
        parent = config.topic.rstrip("/")
        root = f"{parent}/{origin.device}"
        self._host = str(endpoint(config.url))
        dialects = Dialects(configs(config.dialects, context.state), origin, root, config.qos)
        self.speaks_below = (parent, *dialects.reserved)
        expiry = config.outbox.results.max_age
        presence = _presence(root, origin)
        name = client_id(config, origin.device, context.name)
        models = (context.name, context.deliveries) if config.updates else None
        self._sender = Sender(config, name, presence, dialects, expiry, commands=obey is not None, models=models)
        self._obey = obey or _ignore
        self._outbox = OutboxThread(config, context, root, self._sender)

    def start(self) -> None:
        """Start both threads."""
        self._outbox.start()
        self._sender.start(self._outbox.wake, lambda reason: self._outbox.note("disconnected", reason), self._obey)

    def stop(self) -> None:
        """Send what can be sent in a few seconds, report ``offline`` and end."""
        self._outbox.stop()

    def health(self) -> dict[str, Any]:
        """Return the state of the connection and of the outbox. Ages are in seconds."""
        sender, figures = self._sender, self._outbox.figures
        out = sender.publisher
        return {
            "connected": sender.connected,
            "protocol": sender.version,
            "broker": self._host,
            "reconnects": max(sender.connections - 1, 0),
            "last_disconnect": sender.last_disconnect,
            "accepted": figures.accepted,
            "outbox_depth": figures.depth,
            "outbox_bytes": figures.size,
            "outbox_oldest_s": 0.0 if figures.oldest is None else round(time.monotonic() - figures.oldest, 3),
            "published": out.published,
            "acknowledged": out.acknowledged,
            "shed": figures.shed,
            "held_back": figures.held_back,
            "refused": dict(out.refused),
            "ignored": dict(sender.requests.ignored),
            "lost": sender.missing,
        }


def _ignore(command: Command) -> None:
    """Take no command: none is allowed."""


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


def check(config: Config) -> None:
    """See that the files with secrets can be used. ``ConfigError`` says which cannot."""
    check_files(config)
    problems = []
    try:
        password(config)
    except TransportError as error:
        problems.append(f"password_file: {error}")
    try:
        if endpoint(config.url).tls:
            tls_context(config)
    except TransportError as error:
        problems.append(str(error))
    if problems:
        raise ConfigError(problems)


def exclusive(config: Config, name: str, device: str) -> list[str]:
    """Return client id and topics: with one client id, two connections end each other, and each has its status."""
    broker = str(endpoint(config.url))
    topic = f"{config.topic.rstrip('/')}/{device}"
    return [f"the client id {client_id(config, device, name)!r} at {broker}", f"the topic {topic!r} at {broker}"]


@contextmanager
def open(config: Config, context: ReporterContext) -> Iterator[MqttReporter]:
    """Start reporting; the broker may be away. ``ConfigError`` where a file with a secret is missing."""
    check_files(config)
    reporter = MqttReporter(config, context)
    with speaking(reporter.speaks_below):
        reporter.start()
        try:
            yield reporter
        finally:
            reporter.stop()
