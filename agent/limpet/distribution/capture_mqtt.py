"""Sends captures over MQTT to who keeps them, and receives them. Connections are made for one visit."""

from __future__ import annotations

import hashlib
import secrets
from time import monotonic
from typing import TYPE_CHECKING, Any

from paho.mqtt.enums import MQTTErrorCode

from limpet.bucket import Bucket
from limpet.captures import copying
from limpet.delivery.mqtt.plain_client import log_in
from limpet.distribution.capture_parts import PART, ROOT, Gathering, parts_of, topic_of
from limpet.errors import TransportError, UnreadableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from paho.mqtt.client import MQTTMessage

    from limpet.contracts.captures import Capture
    from limpet.delivery.mqtt.broker_settings import BrokerSettings
    from limpet.delivery.mqtt.guarded_client import GuardedClient

PATIENCE = 30.0
"""Seconds in which the broker must take a part, and in which a receiver must answer that it keeps a capture."""
LOOK = 0.1
MOST_RECEIVED = 1000
"""Messages that wait. More are dropped: a capture whose parts are not all there is sent again."""


class _Visit:
    """A connection to a broker: what came, and which messages it has taken."""

    def __init__(self, broker: BrokerSettings, topic: str, wants: Callable[[MQTTMessage], bool]) -> None:
        """Log in and subscribe. Messages that it does not want are dropped at once. ``TransportError``."""
        self._wants = wants
        self.received: list[tuple[str, bytes]] = []
        self._taken: set[int] = set()
        self._client: GuardedClient = log_in(broker, f"limpet-captures-{secrets.token_hex(4)}")[0]
        self._client.on_message = self._on_message
        self._client.on_publish = lambda *arguments: self._taken.add(arguments[2])
        self._client.on_subscribe = self._on_subscribe
        self._refused = ""
        _, mid = self._client.subscribe(topic, 1)
        self._wait(lambda: mid in self._taken, f"the broker did not answer the subscription to {topic}")
        if self._refused:
            raise TransportError(f"the broker refuses the subscription to {topic}: {self._refused}")

    def _on_message(self, _client: object, _data: object, message: MQTTMessage) -> None:
        if len(self.received) < MOST_RECEIVED and self._wants(message):
            self.received.append((message.topic, bytes(message.payload)))

    def _on_subscribe(self, *arguments: Any) -> None:
        mid, codes = arguments[2], arguments[3]
        self._refused = next((str(code) for code in codes if code.is_failure), "")
        self._taken.add(mid)

    def publish(self, topic: str, payload: bytes) -> None:
        """Publish, and wait until the broker has it. ``TransportError``."""
        sent = self._client.publish(topic, payload, 1)
        self._wait(lambda: sent.mid in self._taken, f"the broker did not take a message on {topic}")
        self._taken.discard(sent.mid)

    def loop(self, seconds: float) -> None:
        """Wait for the network. ``TransportError`` if the connection is gone."""
        if self._client.loop(seconds) != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise TransportError(self._client.complaint or "the connection to the broker is lost")

    def wait_for(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait for a condition. Return whether it came in that time. ``TransportError``."""
        end = monotonic() + seconds
        while not condition():
            if monotonic() >= end:
                return False
            self.loop(LOOK)
        return True

    def _wait(self, condition: Callable[[], bool], why_not: str) -> None:
        if not self.wait_for(condition, PATIENCE):
            raise TransportError(why_not)

    def close(self) -> None:
        """Leave."""
        self._client.disconnect()


class MqttSender:
    """Sends captures of one device in parts. A capture is sent once a receiver answers that it keeps it.

    ``patience``: seconds in which a receiver must answer.
    """

    def __init__(
        self, broker: BrokerSettings, device: str, bytes_per_second: float, *, patience: float = PATIENCE
    ) -> None:
        self._patience = patience
        self._wanted: tuple[str, bytes] | None = None
        """What a receiver must answer now, ``None`` while it cannot have all parts."""
        self._visit = _Visit(broker, f"{ROOT}/{device}/+/+/kept", self._wants)
        self._bucket = Bucket(bytes_per_second, max(bytes_per_second, PART))

    def _wants(self, message: MQTTMessage) -> bool:
        """Whether this is the answer that is waited for. One that the broker retained is of another time."""
        return not message.retain and (message.topic, bytes(message.payload)) == self._wanted

    def send(self, capture: Capture, data: bytes) -> None:
        """Send a capture file. ``TransportError`` if no receiver answers that it keeps it."""
        topic, parts = topic_of(capture), parts_of(data)
        answer = f"{topic}/kept", hashlib.sha256(data).hexdigest().encode()
        self._wanted = None
        self._visit.received.clear()
        for number, part in enumerate(parts):
            while (now := monotonic()) and self._bucket.level(now) < len(part):
                self._visit.loop(min(LOOK, max(self._bucket.full_at(len(part)) - now, 0.001)))
            self._bucket.spend(len(part))
            if number == len(parts) - 1:
                self._wanted = answer
            self._visit.publish(f"{topic}/{number}/{len(parts)}", part)
        if not self._visit.wait_for(lambda: bool(self._visit.received), self._patience):
            raise TransportError(f"no receiver answers that it keeps {capture.name}. Run: limpet captures receive")

    def close(self) -> None:
        """Leave the broker."""
        self._visit.close()


def _may_be_part(message: MQTTMessage) -> bool:
    return len(message.payload) <= PART


def receive(broker: BrokerSettings, target: Path, seconds: float, say: Callable[[str], None]) -> int:
    """Keep captures that come, until none has come for so many seconds. Return how many were new.

    ``TransportError`` if the connection is lost. ``OSError`` if one cannot be written.
    """
    visit, gathering, new = _Visit(broker, f"{ROOT}/+/+/+/+/+", _may_be_part), Gathering(), 0
    heard = monotonic()
    try:
        while monotonic() - heard < seconds:
            visit.loop(LOOK)
            received, visit.received = visit.received, []
            for topic, payload in received:
                heard = monotonic()
                try:
                    if (whole := gathering.take(topic, payload)) is None:
                        continue
                    fresh = _keep(target, *whole)
                except UnreadableError as error:
                    say(str(error))
                else:
                    visit.publish(f"{whole[0]}/kept", hashlib.sha256(whole[1]).hexdigest().encode())
                    new += fresh
    finally:
        visit.close()
    return new


def _keep(target: Path, topic: str, data: bytes) -> bool:
    """Write a capture. Return whether it is new. ``UnreadableError`` if it is not what its topic says."""
    from limpet.captures import form

    capture = form.unpack(data, topic).capture
    if topic_of(capture) != topic:
        raise UnreadableError(f"{topic}: it is the capture {capture.name} of {capture.device}")
    return copying.take(target, data, None, topic) is not None
