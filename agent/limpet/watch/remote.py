"""Reads the messages of devices from an MQTT broker, and connects again when the connection is lost.

Anyone who can publish at the broker can write what comes here. The client keeps packets within bounds, see
``limpet.delivery.mqtt.guarded_client``, and the inbox what waits.
"""

from __future__ import annotations

import secrets
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, Any

from paho.mqtt.enums import MQTTErrorCode

from limpet.delivery.mqtt import reasons
from limpet.delivery.mqtt.broker_settings import endpoint
from limpet.delivery.mqtt.plain_client import CONNECT_TIMEOUT, log_in
from limpet.errors import TransportError
from limpet.watch.inbox import Received

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessage
    from paho.mqtt.reasoncodes import ReasonCode
    from typing_extensions import Self

    from limpet.delivery.mqtt.broker_settings import BrokerSettings
    from limpet.delivery.mqtt.guarded_client import GuardedClient
    from limpet.watch.inbox import Inbox

RETRY = 2.0
"""Seconds between two attempts to connect."""
LEVELS = ("status", "health", "health/+", "result/+", "event", "event/+", "model/+/reported")
"""What is subscribed to, below a device."""


class RemoteFeed:
    """Puts what devices publish into an inbox, on its own thread, as long as its ``with`` block lasts."""

    def __init__(self, broker: BrokerSettings, topic: str, device: str, inbox: Inbox) -> None:
        """Connect. ``topic`` is the parent of all devices; ``device`` is "+" for all. ``TransportError``."""
        self._broker = broker
        self._parent = topic.strip("/") + "/"
        self._device = device
        self._inbox = inbox
        self._ended = Event()
        self._client_id = f"limpet-watch-{secrets.token_hex(4)}"
        self._client = self._connect()
        self._thread = Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(2)

    def _run(self) -> None:
        client: GuardedClient | None = self._client
        while not self._ended.is_set():
            if client is not None:
                why = self._serve(client)
                self._inbox.notice = f"{why}; connecting again"
            if self._ended.wait(RETRY):
                return
            try:
                client = self._connect()
                self._inbox.notice = ""
            except TransportError as error:
                client, self._inbox.notice = None, f"{error}; trying again"

    def _serve(self, client: GuardedClient) -> str:
        """Read until the connection ends. Return why it did."""
        try:
            while not self._ended.is_set():
                if (status := client.loop(0.25)) != MQTTErrorCode.MQTT_ERR_SUCCESS:
                    return client.complaint or f"the connection is lost ({status.name})"
            client.disconnect()
        except Exception as error:  # noqa: BLE001 - what paho raises on bytes that are not MQTT
            return reasons.failure(error, endpoint(self._broker.url))
        return "closed"

    def _connect(self) -> GuardedClient:
        """Return a client that has subscribed. ``TransportError``."""
        granted: list[ReasonCode] = []
        client, _ = log_in(self._broker, self._client_id)
        client.on_subscribe = lambda _client, _data, _mid, codes, _properties: granted.extend(codes)
        client.on_message = self._take
        until = monotonic() + CONNECT_TIMEOUT
        try:
            client.subscribe([(f"{self._parent}{self._device}/{level}", 0) for level in LEVELS])
            while not granted and monotonic() < until and client.loop(0.1) == MQTTErrorCode.MQTT_ERR_SUCCESS:
                pass
        except Exception as error:  # what paho raises on bytes that are not MQTT
            raise TransportError(reasons.failure(error, endpoint(self._broker.url))) from error
        if not granted or all(code.is_failure for code in granted):
            raise TransportError(
                f"the broker refuses to send {self._parent}{self._device}/#; allow this user to read it"
            )
        return client

    def _take(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        device, _, topic = message.topic.removeprefix(self._parent).partition("/")
        self._inbox.put(Received(device, topic, bytes(message.payload)))
