"""A broker of a few lines that does what it is told to: rules that close connections, and packets that lie."""

from __future__ import annotations

import itertools
import socket
import struct
from collections import Counter, defaultdict
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from support.tcp import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, PINGREQ, PINGRESP, DISCONNECT = 1, 2, 3, 4, 8, 9, 12, 13, 14


class Hello(NamedTuple):
    """What a CONNECT asks for."""

    version: int
    client_id: str
    clean: bool
    username: str | None
    will: Said | None


class Said(NamedTuple):
    """A PUBLISH of a client. ``size`` is that of the whole packet."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    size: int

    @property
    def items(self) -> list[Any]:
        content = msgspec.json.decode(self.payload)
        return content if isinstance(content, list) else [content]


def length(number: int) -> bytes:
    """Return a variable byte integer."""
    data = bytearray()
    while True:
        number, rest = divmod(number, 128)
        data.append(rest | (0x80 if number else 0))
        if not number:
            return bytes(data)


def packet(kind: int, body: bytes, flags: int = 0) -> bytes:
    return bytes([kind << 4 | flags]) + length(len(body)) + body


def text(content: str | bytes) -> bytes:
    data = content if isinstance(content, bytes) else content.encode()
    return struct.pack(">H", len(data)) + data


def publish(
    topic: str | bytes, payload: bytes = b"", properties: bytes = b"", flags: int = 0, mid: int = 0
) -> bytes:
    """Return a PUBLISH of MQTT 5."""
    return packet(
        PUBLISH,
        text(topic) + (struct.pack(">H", mid) if mid else b"") + length(len(properties)) + properties + payload,
        flags,
    )


class Visit:
    """One connection of a client."""

    def __init__(self, broker: Rules, sock: socket.socket) -> None:
        self.sock = sock
        self.broker = broker
        self.version = 4
        self._aliases: dict[int, str] = {}
        self._file = sock.makefile("rb")

    def send(self, data: bytes) -> None:
        with suppress(OSError):
            self.sock.sendall(data)

    def acknowledge(self, mid: int, code: int = 0) -> None:
        body = struct.pack(">H", mid) + (bytes([code, 0]) if self.version == 5 and code else b"")
        self.send(packet(PUBACK, body))

    def serve(self) -> None:
        with suppress(OSError, EOFError):
            while self._one():
                pass
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self._file.close()
        self.sock.close()

    def _one(self) -> bool:
        head = self._file.read(1)
        if not head:
            return False
        size, shift = 0, 0
        for _ in range(4):
            byte = self._file.read(1)[0]
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        body = self._file.read(size)
        kind = head[0] >> 4
        if kind == CONNECT:
            hello = self._hello(body)
            self.broker.hellos.append(hello)
            return self.broker.welcome(self, hello)
        if kind == PUBLISH:
            return self._publish(head[0], body, size + 1 + shift // 7)
        if kind == SUBSCRIBE:
            return self._subscribe(body)
        if kind == PINGREQ:
            self.send(packet(PINGRESP, b""))
        return kind != DISCONNECT

    def _hello(self, body: bytes) -> Hello:
        read = Reader(body)
        read.text()
        self.version = read.byte()
        flags = read.byte()
        read.number()
        if self.version == 5:
            read.skip(read.length())
        client_id = read.text().decode()
        will = None
        if flags & 4:
            if self.version == 5:
                read.skip(read.length())
            topic, payload = read.text().decode(), read.text()
            will = Said(topic, payload, flags >> 3 & 3, bool(flags & 0x20), len(payload))
        username = read.text().decode() if flags & 0x80 else None
        return Hello(self.version, client_id, bool(flags & 2), username, will)

    def _publish(self, head: int, body: bytes, size: int) -> bool:
        read = Reader(body)
        topic = read.text().decode()
        qos = head >> 1 & 3
        mid = read.number() if qos else 0
        if self.version == 5:
            alias = _alias(Reader(read.skip(read.length())))
            if topic and alias:
                self._aliases[alias] = topic
            topic = topic or self._aliases[alias]
        said = Said(topic, read.rest(), qos, bool(head & 1), size)
        if not self.broker.takes(said):
            self.broker.closed[topic] += 1
            return False
        self.broker.said.append(said)
        if qos:
            self.broker.acknowledge(self, mid)
        return True

    def _subscribe(self, body: bytes) -> bool:
        read = Reader(body)
        mid = read.number()
        if self.version == 5:
            read.skip(read.length())
        topic = read.text().decode()
        self.broker.subscriptions.append(topic)
        if not self.broker.hears(topic):
            return False
        code = bytes([self.broker.subscription_code()])
        self.send(packet(SUBACK, struct.pack(">H", mid) + (b"\0" if self.version == 5 else b"") + code))
        self.broker.subscribed(self, topic)
        return True


def _alias(properties: Reader) -> int:
    """Return the topic alias of a message that Limpet sends, 0 for none."""
    alias = 0
    while properties.left:
        kind = properties.byte()
        if kind == 0x23:
            alias = properties.number()
        elif kind == 0x02:
            properties.skip(4)
        elif kind == 0x26:
            properties.text()
            properties.text()
        else:
            assert kind in {0x03, 0x08, 0x09}, kind
            properties.text()
    return alias


class Reader:
    """Takes a packet apart."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._body) - self._at

    def rest(self) -> bytes:
        return self.skip(self.left)

    def skip(self, size: int) -> bytes:
        part = self._body[self._at : self._at + size]
        self._at += size
        return part

    def byte(self) -> int:
        return self.skip(1)[0]

    def number(self) -> int:
        return int.from_bytes(self.skip(2), "big")

    def text(self) -> bytes:
        return self.skip(self.number())

    def length(self) -> int:
        value = 0
        for place in itertools.count():
            byte = self.byte()
            value |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                return value
        raise AssertionError


class Rules:
    """A broker that acknowledges all that its rules allow. Tests replace or override its rules.

    ``said`` is what it took, ``closed`` counts by topic what it closed connections over, ``visits`` has the times
    of connections, ``hellos`` what they asked for.
    """

    properties = b""
    """Properties of its CONNACK."""

    def __init__(self) -> None:
        self.said: list[Said] = []
        self.closed: Counter[str] = Counter()
        self.hellos: list[Hello] = []
        self.subscriptions: list[str] = []
        self.server = Server(lambda client: Visit(self, client).serve())
        self.url, self.port = self.server.url, self.server.port

    @property
    def visits(self) -> list[float]:
        """Times of the connections on the monotonic clock."""
        return self.server.visits

    # --- rules

    def welcome(self, visit: Visit, hello: Hello) -> bool:
        """Answer a CONNECT; return whether the connection goes on."""
        body = b"\0\0" + (length(len(self.properties)) + self.properties if hello.version == 5 else b"")
        visit.send(packet(CONNACK, body))
        return True

    def takes(self, said: Said) -> bool:  # noqa: ARG002 - for rules
        """Whether it takes a message; it closes the connection over others."""
        return True

    def hears(self, topic: str) -> bool:  # noqa: ARG002 - for rules
        """Whether it takes a subscription; it closes the connection over others."""
        return True

    def subscription_code(self) -> int:
        """Return the reason code with which it answers a subscription."""
        return 1

    def acknowledge(self, visit: Visit, mid: int) -> None:
        """Acknowledge a message."""
        visit.acknowledge(mid)

    def subscribed(self, visit: Visit, topic: str) -> None:
        """Do something once a client has subscribed."""

    # --- what it has heard

    def on(self, topic: str) -> list[Said]:
        return [said for said in list(self.said) if said.topic == topic]

    def results(self) -> dict[str, set[int]]:
        """Return the sequence numbers of results by pipeline."""
        found: dict[str, set[int]] = defaultdict(set)
        for said in list(self.said):
            if said.topic.startswith("limpet/press-07/result/"):
                found[said.topic.rpartition("/")[2]].update(item["sequence"] for item in said.items)
        return found

    def drop(self) -> None:
        """End all connections."""
        self.server.drop()


@contextmanager
def serving(make: Callable[[], Rules]) -> Iterator[Any]:
    """Run a broker of these rules."""
    broker = make()
    try:
        yield broker
    finally:
        broker.server.close()
