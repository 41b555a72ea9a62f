"""What may be published to, and what is taken from a broker, decided without one."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from limpet.contracts.dialect import Publish
from limpet.delivery.mqtt import packet_limits, topics
from limpet.delivery.mqtt.broker_settings import BrokerSettings
from limpet.delivery.mqtt.connection import Connection, UnpublishableError
from limpet.delivery.mqtt.negotiation import FULL, REDUCED, Negotiation
from limpet.delivery.mqtt.packet_limits import PacketLimits
from limpet.delivery.mqtt.publish_packets import packet_size
from limpet.errors import TransportError, UnreadableError
from support.hostile import Rules, length, packet, publish, serving, text

ROOT = "limpet/press-07"


@given(st.text(st.characters(exclude_categories=()), max_size=50))
@example("a/#")
@example("\ud800")
@example("")
@example("a\0")
@example("\x7f")
@example("\ufffe")
@example("\U0010ffff")
@example("é" * 40_000)
def test_a_topic_is_published_to_only_if_the_specification_allows_it(topic: str) -> None:
    allowed = topic != "" and not any(
        c in "+#" or ord(c) < 0x20 or 0x7F <= ord(c) <= 0x9F or 0xD800 <= ord(c) <= 0xDFFF for c in topic
    )
    allowed = allowed and not any(0xFDD0 <= ord(c) <= 0xFDEF or ord(c) & 0xFFFE == 0xFFFE for c in topic)
    allowed = allowed and len(topic.encode(errors="replace")) <= 65_535 - topic.count("é" * 40_000)
    assert (topics.problem(topic) == "") == allowed


@pytest.mark.parametrize(
    "topic",
    [
        "", "answers/#", "+/answers", "answers/\0", "$SYS/broker", "$share/a/b", "x" * 2000,
        ROOT, f"{ROOT}/status", f"{ROOT}/command/restart", f"{ROOT}/reply", f"{ROOT}/reply/a/b",
        "limpet", "limpet/press-08/command/restart", "homeassistant/sensor/x/config", "spBv1.0/g/NCMD/x", "ha/x",
    ],
)  # fmt: skip
def test_no_reply_goes_where_it_could_be_taken_for_something_else(topic: str) -> None:
    assert topics.reply_problem(topic, ROOT, ["ha"])


@pytest.mark.parametrize("topic", ["answers/me", "limpets/a", "é/ü", f"{ROOT}/reply/infer-1a2b"])
def test_a_reply_goes_to_any_other_topic(topic: str) -> None:
    assert topics.reply_problem(topic, ROOT, ["ha"]) == ""


def test_the_size_of_a_packet_is_known_before_it_is_sent() -> None:
    wake, other = socket.socketpair()
    with wake, other, serving(Rules) as broker:
        link = Connection(BrokerSettings(url=broker.url), "a", "5", None, wake)
        link.connect(30, threading.Event())
        for payload in (0, 100, 127, 128, 16_000, 17_000):
            link.publish(Publish("a/b", bytes(payload), content_type="x", user_properties=(("k", "v"),)))
        while len(broker.said) < 6:
            link.poll(0.1)
        link.limit = broker.said[-1].size - 1
        with pytest.raises(UnpublishableError, match="the broker takes"):
            link.publish(Publish("a/b", bytes(17_000), content_type="x", user_properties=(("k", "v"),)))
        with pytest.raises(UnpublishableError):
            link.publish(Publish("a/b", b"", content_type="\ud800"))
        with pytest.raises(UnpublishableError):
            link.publish(Publish("a/#", b""))
        link.publish(Publish("a/b", b"last"))
        link.disconnect()
    assert packet_size("a/b", bytes(16_000), 1, None) == 1 + 2 + 2 + 3 + 2 + 16_000


@pytest.mark.parametrize("version", ["5", "3.1.1"])
@given(data=st.binary(max_size=300), cut=st.integers(min_value=1, max_value=7))
def test_any_bytes_are_followed_or_end_the_connection(version: str, data: bytes, cut: int) -> None:
    def outcome(step: int) -> str:
        followed = PacketLimits(version)
        try:
            for start in range(0, len(data), step):
                followed.feed(data[start : start + step])
        except UnreadableError as error:
            return str(error)
        return ""

    assert outcome(cut) == outcome(1)


@given(st.lists(st.binary(max_size=200), max_size=20), st.integers(min_value=1, max_value=50))
def test_packets_of_a_broker_are_followed_however_they_are_cut(payloads: list[bytes], step: int) -> None:
    data = b"".join(publish("a/b", payload, b"\x01\x01", flags=2, mid=1) for payload in payloads)
    data += packet(4, b"\0\1") + packet(13, b"")
    followed = PacketLimits("5")
    for start in range(0, len(data), step):
        followed.feed(data[start : start + step])
    with pytest.raises(UnreadableError, match="type"):
        followed.feed(b"\x10")


def test_large_packets_and_properties_are_refused_at_their_heads() -> None:
    PacketLimits("3.1.1").feed(b"\x30" + length(packet_limits.LARGEST))
    with pytest.raises(UnreadableError, match="the limit"):
        PacketLimits("3.1.1").feed(b"\x30" + length(packet_limits.LARGEST + 1))
    body = text("a") + length(packet_limits.LARGEST_PROPERTIES + 1)
    with pytest.raises(UnreadableError, match="properties"):
        PacketLimits("5").feed(b"\x30" + length(50_000) + body)


def test_a_packet_that_is_too_large_ends_the_connection_before_it_is_read() -> None:
    wake, other = socket.socketpair()
    with wake, other, socket.create_server(("127.0.0.1", 0)) as server:
        link = Connection(
            BrokerSettings(url=f"mqtt://127.0.0.1:{server.getsockname()[1]}"), "a", "3.1.1", None, wake
        )
        answers = threading.Thread(target=_welcome_and_flood, args=(server,))
        answers.start()
        link.connect(30, threading.Event())
        with pytest.raises(TransportError, match="not accepted"):
            poll_for_ever(link)
        assert link.end == "unreadable"
        answers.join()


def _welcome_and_flood(server: socket.socket) -> None:
    client, _ = server.accept()
    with client:
        client.recv(1000)
        with suppress(ConnectionError):
            client.sendall(packet(2, b"\0\0") + b"\x30" + length(100_000_000) + bytes(1000))
            client.recv(1000)


def poll_for_ever(link: Connection) -> None:
    while True:
        link.poll(1.0)


def test_a_lesser_will_is_tried_only_after_the_whole_one_was_refused_twice() -> None:
    attempts = Negotiation("auto")
    tried = []
    for _ in range(10):
        attempts.start()
        tried.append((attempts.version, attempts.will))
        assert not attempts.refused(0)
    assert tried[:4] == [("5", FULL), ("3.1.1", FULL)] * 2
    assert [will for _, will in tried[4:]] == [will for will in REDUCED for _ in range(2)]


def test_what_was_accepted_after_silence_is_proved_once_more() -> None:
    attempts = Negotiation("3.1.1")
    for _ in range(2):
        attempts.start()
        attempts.refused(0)
    attempts.start()
    attempts.accepted()
    attempts.start()
    assert attempts.will == FULL
    attempts.refused(0)
    attempts.start()
    assert attempts.will == REDUCED[0]
    attempts.accepted()
    attempts.start()
    assert attempts.will == REDUCED[0]


@pytest.mark.parametrize(("code", "lost"), [(0x9A, "retained"), (0x9B, "QoS 1"), (0x90, "last will")])
def test_a_reason_code_leads_to_less_at_once(code: int, lost: str) -> None:
    attempts = Negotiation("5")
    attempts.start()
    assert attempts.refused(code)
    assert lost in attempts.will.missing()[0]
    assert not attempts.refused(code)
    attempts.accepted()
    attempts.start()
    assert lost in attempts.will.missing()[0]
