"""Puts a dialect on a connection, as its protocol wants it, and nothing more."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from limpet import plugins
from limpet.contracts.messages import StatusMessage
from support import reports
from support.broker import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from paho.mqtt.client import MQTTMessage

    from limpet.contracts.dialect import Dialect, Publish

ROOT = f"limpet/{reports.ORIGIN.device}"


class Speaker:
    """``say`` publishes what a call of the dialect returned, and waits until the broker has it."""

    def __init__(self, port: int, kind: str, protocol: str, options: dict[str, Any]) -> None:
        module = plugins.load("dialects", kind)
        self.dialect: Dialect = module.open(module.Config(**options), reports.ORIGIN, ROOT)
        self._five = protocol == "5"
        self._gone = False
        version = MQTTProtocolVersion.MQTTv5 if self._five else MQTTProtocolVersion.MQTTv311
        self.client = Client(CallbackAPIVersion.VERSION2, protocol=version)
        will = self.dialect.connecting("5" if self._five else "3.1.1")
        if will:
            self.client.will_set(will.topic, will.payload, will.qos, will.retain)
        else:
            self.client.will_set(f"{ROOT}/status", self._status("offline"), 1, retain=True)
        self._connected = threading.Event()
        self.client.on_connect = lambda *_: self._connected.set()
        self._inbox: deque[MQTTMessage] = deque()
        self.client.on_message = lambda _client, _data, message: self._inbox.append(message)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert self._connected.wait(10)
        for topic in self.dialect.subscriptions:
            self.client.subscribe(topic, 1)
        self.client.publish(f"{ROOT}/status", self._status("online"), 1, retain=True)
        self.say(self.dialect.connected())

    def answer(self) -> None:
        """Have the dialect answer what came in."""
        while self._inbox:
            message = self._inbox.popleft()
            self.say(self.dialect.received(message.topic, message.payload))

    def say(self, publishes: list[Publish]) -> None:
        for publish in publishes:
            sent = self.client.publish(
                publish.topic, publish.payload, publish.qos, publish.retain, self._properties(publish)
            )
            wait_until(sent.is_published)

    def vanish(self) -> None:
        """Break the connection, so that the broker sends the last will."""
        socket = self.client.socket()
        assert socket
        self.client.loop_stop()
        socket.close()
        self._gone = True

    def close(self) -> None:
        if not self._gone:
            self.say(self.dialect.leaving())
            self.client.disconnect()
            self.client.loop_stop()

    def _properties(self, publish: Publish) -> Properties | None:
        if not self._five:
            return None
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        if publish.content_type:
            properties.ContentType = publish.content_type
        if publish.user_properties:
            properties.UserProperty = list(publish.user_properties)
        return properties

    def _status(self, status: Any) -> bytes:
        origin = reports.ORIGIN
        return msgspec.json.encode(
            StatusMessage(device=origin.device, boot=origin.boot, version=origin.version, status=status)
        )


@contextlib.contextmanager
def speaker(port: int, kind: str, protocol: str = "5", **options: Any) -> Iterator[Speaker]:
    made = Speaker(port, kind, protocol, options)
    try:
        yield made
    finally:
        made.close()
