"""What a PUBLISH has besides its payload: the topic or its alias, properties, and the size of it all. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

if TYPE_CHECKING:
    from limpet.contracts.dialect import Publish
    from limpet.delivery.mqtt.negotiation import MqttVersion

MOST_ALIASES = 256
"""Topics that are sent as numbers."""


class PackedProperties(NamedTuple):
    """Properties as they go over the wire. paho calls ``pack`` of them, and nothing else."""

    wire: bytes

    def pack(self) -> bytes:
        """Return them."""
        return self.wire


class PublishHead(NamedTuple):
    """``topic`` is what is written: empty if the broker knows it by its ``alias``, which is 0 if there is none."""

    topic: str
    alias: int
    properties: PackedProperties | None


class TopicAliases:
    """The numbers by which one connection names topics, up to ``limit`` of them.

    A topic is left out once the broker has acknowledged a message with its number. A broker may not remember the
    number of a message that it refused.
    """

    def __init__(self) -> None:
        self.limit = 0
        self._numbers: dict[str, int] = {}
        self._sent: dict[int, str] = {}
        self._established: set[str] = set()

    def write(self, topic: str) -> tuple[str, int]:
        """Return the topic to write and its number, 0 for none."""
        if topic not in self._numbers:
            if len(self._numbers) >= self.limit:
                return topic, 0
            self._numbers[topic] = len(self._numbers) + 1
        return "" if topic in self._established else topic, self._numbers[topic]

    def sent(self, mid: int, head: PublishHead) -> None:
        """Take in that a message with this head was sent under a message id."""
        if head.topic and head.alias:
            self._sent[mid] = head.topic

    def acknowledged(self, mid: int, code: int) -> None:
        """Take in the broker's answer to a message."""
        topic = self._sent.pop(mid, None)
        if topic and code < 0x80:
            self._established.add(topic)


class PublishHeads:
    """Makes the heads of one connection's messages. Topic and properties have limits only in MQTT 5."""

    def __init__(self, version: MqttVersion) -> None:
        self.aliases = TopicAliases()
        self._has_properties = version == "5"
        self._cache: dict[tuple[str, int | None, int], PackedProperties] = {}

    def head(self, message: Publish, expiry: float | None, correlation: bytes) -> PublishHead:
        """Return the head of a message, which the broker drops after ``expiry`` seconds undelivered."""
        if not self._has_properties:
            return PublishHead(message.topic, 0, None)
        # Replies go to topics that clients choose: those would use the numbers up.
        topic, alias = self.aliases.write(message.topic) if expiry or message.retain else (message.topic, 0)
        seconds = None if expiry is None else max(1, min(int(expiry), 0xFFFF_FFFF))
        return PublishHead(topic, alias, self._properties(message, seconds, correlation, alias))

    def _properties(
        self, message: Publish, expiry: int | None, correlation: bytes, alias: int
    ) -> PackedProperties:
        """Return packed properties. Those that many messages share are cached, as paho takes long to pack them."""
        key = (message.content_type, expiry, alias)
        if message.user_properties or message.response_topic or correlation:
            return _pack(message, expiry, correlation, alias)
        if key not in self._cache:
            self._cache[key] = _pack(message, expiry, correlation, alias)
        return self._cache[key]


def _pack(message: Publish, expiry: int | None, correlation: bytes, alias: int) -> PackedProperties:
    properties = new_properties(PacketTypes.PUBLISH)
    if message.content_type:
        properties.ContentType = message.content_type
    if message.user_properties:
        properties.UserProperty = list(message.user_properties)
    if expiry is not None:
        properties.MessageExpiryInterval = expiry
    if message.response_topic:
        properties.ResponseTopic = message.response_topic
    if correlation:
        properties.CorrelationData = correlation
    if alias:
        properties.TopicAlias = alias
    return PackedProperties(properties.pack())


def packet_size(topic: str, payload: bytes, qos: int, properties: PackedProperties | None) -> int:
    """Return how many bytes a PUBLISH has."""
    body = 2 + len(topic.encode()) + (2 if qos else 0) + (len(properties.wire) if properties else 0) + len(payload)
    return 1 + max(1, -(-body.bit_length() // 7)) + body


def new_properties(packet: int) -> Any:
    """Return an empty set of properties. Any: paho sets them as attributes that no type knows."""
    make: Any = Properties
    return make(packet)
