"""An ordinary MQTT client: it subscribes to the device and yields its messages."""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from limpet.delivery.mqtt.broker_settings import endpoint
from limpet.errors import TransportError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Self

PATIENCE = 10.0
"""Longest time in seconds until the broker answers."""


class Received(NamedTuple):
    """A message: its topic below ``limpet/<device>/``, its content, and its arrival on the wall clock."""

    topic: str
    payload: bytes
    wall_ns: int


class Subscriber:
    """Subscribed to all messages of one device while its ``with`` block lasts."""

    def __init__(self, url: str, device: str) -> None:
        self._root = f"limpet/{device}/"
        self._url = url
        self._messages: queue.SimpleQueue[Received] = queue.SimpleQueue()
        self._retained: set[str] = set()
        self._subscribed = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.on_connect = lambda client, *_: client.subscribe(self._root + "#", qos=1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._take

    def __enter__(self) -> Self:
        where = endpoint(self._url)
        if where.tls or where.path:
            raise TransportError(f"the demo's client speaks mqtt:// only, not {self._url}")
        try:
            self._client.connect(where.host, where.port)
        except OSError as error:
            raise TransportError(f"no broker at {self._url}: {error}") from error
        self._client.loop_start()
        if not self._subscribed.wait(PATIENCE):
            self._client.loop_stop()
            raise TransportError(f"the broker at {self._url} refuses subscriptions with MQTT 5")
        return self

    def __exit__(self, *_: object) -> None:
        for topic in self._retained:
            self._client.publish(topic, b"", qos=1, retain=True).wait_for_publish(1)
        self._client.disconnect()
        self._client.loop_stop()

    def messages(self, wait: float) -> Iterator[Received]:
        """Wait up to ``wait`` seconds for a message, then yield all that have come."""
        try:
            yield self._messages.get(timeout=wait)
            while True:
                yield self._messages.get_nowait()
        except queue.Empty:
            return

    def _take(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        """Put a message in the queue; called in paho's thread."""
        topic = message.topic.removeprefix(self._root)
        if topic.partition("/")[0] not in ("result", "event"):
            self._retained.add(
                message.topic
            )  # deleted at the end, so that nothing of the demo stays on the broker
        self._messages.put(Received(topic, bytes(message.payload), time.time_ns()))
