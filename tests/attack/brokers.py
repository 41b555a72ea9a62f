"""Attempts of a broker, or of whoever sits on the line to it."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from attack.spy import ROOT
from support.hostile import length

if TYPE_CHECKING:
    from collections.abc import Iterable

    from attack.ground import Ground

BORDER = "the connection to the broker"


def packet(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + length(len(body)) + body


def publish(topic: bytes, payload: bytes, properties: bytes = b"", qos: int = 0) -> bytes:
    """Return a PUBLISH of MQTT 5."""
    number = struct.pack(">H", 9) if qos else b""
    head = struct.pack(">H", len(topic)) + topic + number + length(len(properties)) + properties
    return packet(0x30 | qos << 1, head + payload)


def responding(topic: bytes) -> bytes:
    """Return the property that asks for an answer to a topic."""
    return b"\x08" + struct.pack(">H", len(topic)) + topic


PING = f"{ROOT}/command/ping".encode()
SAID: dict[str, bytes] = {
    "garbage in the middle of a connection": bytes(range(256)) * 20,
    "a packet announced as 256 MB": b"\x30\xff\xff\xff\x7f" + bytes(1000),
    "a length that never ends": b"\x30" + b"\xff" * 50,
    "a packet of a reserved type": packet(0x00, b"") + packet(0xF5, b"\x00" * 5),
    "acknowledgements of messages never sent": b"".join(
        packet(0x40, struct.pack(">H", n)) for n in range(1, 65535, 7)
    ),
    "an acknowledgement with a reason that does not exist": packet(0x40, b"\x00\x01\xee\x00"),
    "an acknowledgement of one byte": packet(0x40, b"\x01"),
    "acknowledgements of no subscription": packet(0x90, b"\x7f\xff\x00\x00") * 100,
    "a second CONNACK": packet(0x20, b"\x00\x00\x00"),
    "a DISCONNECT with a reason that does not exist": packet(0xE0, b"\x7f\x00"),
    "a DISCONNECT whose reason is not UTF-8": packet(0xE0, b"\x8b\x06\x1f\x00\x03\xff\xfe\xfd"),
    "a topic with a NUL": publish(b"limpet/target/command/\x00", b"{}"),
    "a topic that is not UTF-8": publish(b"limpet/target/command/\xff\xfe", b"{}"),
    "an empty topic": publish(b"", b"{}"),
    "a command with line ends in its name": publish(PING + b"\n2026 ERROR forged", b"{}"),
    "an answer to a topic with a control character": publish(PING, b"{}", responding(b"operators/\x01")),
    "an answer to a topic of 65,535 bytes": publish(PING, b"{}", responding(b"y" * 65_535)),
    "a topic that nobody subscribed to": publish(b"else/where", b"{}" * 1000),
    "a topic of wildcards": publish(b"limpet/target/command/#", b"{}"),
    "an answer to a topic with a NUL": publish(PING, b"{}", responding(b"a\x00b")),
    "an answer to a topic that is not UTF-8": publish(PING, b"{}", responding(b"\xff\xfe")),
    "an answer to an empty topic": publish(PING, b"{}", responding(b"")),
    "an answer to a/#, said by the broker": publish(PING, b"{}", responding(b"a/#")),
    "properties longer than their packet": packet(0x30, struct.pack(">H", len(PING)) + PING + b"\xff\xff\x03"),
    "a property that does not exist": publish(PING, b"{}", b"\x7f\x01"),
    "an alias of a topic that is unknown": publish(b"", b"{}", b"\x23\xff\xff"),
    "a message of 20 MB": publish(PING, b"x" * 20_000_000),
    "a message of QoS 3": publish(PING, b"{}", qos=3),
    "2,000 messages of QoS 2": publish(PING, b"{}", qos=2) * 2000,
}
"""What is said to the daemon on a sound connection."""

GREETED: dict[str, list[bytes]] = {
    "garbage instead of CONNACK": [bytes(range(256))] * 2,
    "a web server instead of a broker": [b"HTTP/1.1 400 Bad Request\r\n\r\n"] * 2,
    "ten connections that end at once": [b""] * 10,
    "CONNACK with a receive maximum of 0": [packet(0x20, b"\x00\x00\x03\x21\x00\x00")] * 2,
    "CONNACK with a packet limit of 1 byte": [packet(0x20, b"\x00\x00\x05\x27\x00\x00\x00\x01")] * 2,
    "CONNACK with a packet limit of 0": [packet(0x20, b"\x00\x00\x05\x27\x00\x00\x00\x00")] * 2,
    "CONNACK with a reason that does not exist": [packet(0x20, b"\x00\xee\x00")] * 2,
    "CONNACK whose properties are cut short": [packet(0x20, b"\x00\x00\x20\x21")] * 2,
    "CONNACK that is not UTF-8": [packet(0x20, b"\x00\x87\x06\x1f\x00\x03\xff\xfe\xfd")] * 2,
    "CONNACK of two bytes, then garbage": [packet(0x20, b"\x00\x00") + b"\xff" * 100] * 2,
    "CONNACK with a server to go to": [packet(0x20, b"\x00\x9d\x0c\x1c\x00\x09evil:1883")] * 2,
    "CONNACK with a keep-alive of 1 s": [packet(0x20, b"\x00\x00\x03\x13\x00\x01")] * 2,
}
"""What each of the next connections is told before it ends."""


def run(ground: Ground, names: Iterable[str] | None = None) -> None:
    """Make these attempts, all if none are named."""
    for name in names or [*SAID, *GREETED]:
        with ground.attempt(name, BORDER) as attempt:
            before = ground.relay.connections
            if name in SAID:
                ground.relay.inject(SAID[name])
                attempt.reached = ground.relay.proof(before)
            else:
                ground.relay.greetings = list(GREETED[name])
                ground.relay.hang_up()
                attempt.reached = ground.relay.greeted(before + len(GREETED[name]))
