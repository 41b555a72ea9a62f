"""Sends commands to a device as an operator's program would, and keeps the answers with their properties."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from support.broker import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from paho.mqtt.client import MQTTMessage

ANSWERS = "operators/anna"


class Caller:
    """A connection. ``heard`` is all that came on its subscriptions."""

    def __init__(self, port: int, protocol: Literal["5", "3.1.1"], topics: Sequence[str], device: str) -> None:
        self.heard: list[MQTTMessage] = []
        self._root = f"limpet/{device}"
        self._number = 0
        self._new = protocol == "5"
        self._ready = threading.Event()
        version = MQTTProtocolVersion.MQTTv5 if self._new else MQTTProtocolVersion.MQTTv311
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=version)
        self._client.on_connect = lambda client, *_: client.subscribe([(topic, 1) for topic in topics])
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = lambda _client, _data, message: self.heard.append(message)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self._ready.wait(10)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def send(self, command: str, payload: bytes, *, retain: bool = False, response_topic: str = ANSWERS) -> bytes:
        """Send a command; return the correlation data that its answer must have, empty in 3.1.1."""
        self._number += 1
        correlation = b"question %d" % self._number
        properties: Any = None
        if self._new:
            make: Any = Properties
            properties = make(PacketTypes.PUBLISH)
            properties.ResponseTopic = response_topic
            properties.CorrelationData = correlation
        topic = f"{self._root}/command/{command}"
        self._client.publish(topic, payload, 1, retain, properties).wait_for_publish(10)
        return correlation if self._new else b""

    def call(self, command: str, payload: bytes = b"", timeout: float = 10.0, **request: Any) -> Any:
        """Send a command with a payload or with these arguments as JSON; return its answer."""
        before = len(self.heard)
        correlation = self.send(command, payload or msgspec.json.encode(request))
        topic = ANSWERS if self._new else f"{self._root}/reply/{command}"

        def answers() -> list[bytes]:
            return [
                bytes(message.payload)
                for message in self.heard[before:]
                if message.topic == topic
                and getattr(message.properties, "CorrelationData", b"") == correlation
                and not message.retain
            ]

        wait_until(answers, timeout)
        return msgspec.json.decode(answers()[0])


@contextmanager
def caller(
    port: int, protocol: Literal["5", "3.1.1"] = "5", topics: Sequence[str] = (), device: str = "press-07"
) -> Iterator[Caller]:
    """Connect, and subscribe to where answers come, and to ``topics``."""
    answers = ANSWERS if protocol == "5" else f"limpet/{device}/reply/+"
    connected = Caller(port, protocol, [answers, *topics], device)
    try:
        yield connected
    finally:
        connected.close()
