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
from limpet.delivery.mqtt.plain_client import CONNECT_TIMEOUT, plain_client
from limpet.errors import TransportError
from limpet.watch.inbox import Received

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessage
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
        self._version = "5"
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
        """Return a client that has subscribed. MQTT 3.1.1 is tried if the broker does not know 5."""
        try:
            return self._attempt(self._version)
        except _OtherVersionError:
            self._version = "3.1.1"
            return self._attempt(self._version)

    def _attempt(self, version: str) -> GuardedClient:
        answers: list[Any] = []
        granted: list[Any] = []
        to = endpoint(self._broker.url)
        client = plain_client(self._broker, self._client_id, version)
        client.on_connect = lambda _client, _data, _flags, reason, _properties: answers.append(reason)
        client.on_subscribe = lambda _client, _data, _mid, codes, _properties: granted.extend(codes)
        client.on_message = self._take
        until = monotonic() + CONNECT_TIMEOUT
        try:
            client.connect(to.host, to.port, self._broker.keepalive)
            asked = False
            while not granted and monotonic() < until:
                if client.loop(0.1) != MQTTErrorCode.MQTT_ERR_SUCCESS and not answers:
                    break
                if answers and answers[0].is_failure:
                    break
                if answers and not asked:
                    asked = True
                    client.subscribe([(f"{self._parent}{self._device}/{level}", 0) for level in LEVELS])
        except Exception as error:  # what paho raises on bytes that are not MQTT
            raise TransportError(reasons.failure(error, to)) from error
        self._judge(answers, granted, version)
        return client

    def _judge(self, answers: list[Any], granted: list[Any], version: str) -> None:
        if version == "5" and (not answers or answers[0].value == _UNSUPPORTED_VERSION):
            raise _OtherVersionError
        if not answers:
            raise TransportError(reasons.silence(""))
        if answers[0].is_failure:
            raise TransportError(reasons.refusal(answers[0].value, answers[0].getName()))
        if not granted or all(code.is_failure for code in granted):
            raise TransportError(
                f"the broker refuses to send {self._parent}{self._device}/#; allow this user to read it"
            )

    def _take(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        device, _, topic = message.topic.removeprefix(self._parent).partition("/")
        self._inbox.put(Received(device, topic, bytes(message.payload)))


_UNSUPPORTED_VERSION = 0x84


class _OtherVersionError(Exception):
    """The broker may know another version of MQTT."""
