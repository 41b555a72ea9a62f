"""Clients and brokers that mean harm: the memory stays bounded, and results go on."""

from __future__ import annotations

import base64
import hashlib
import re
import socket
import struct
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from limpet.delivery.mqtt import packet_limits
from limpet.delivery.mqtt.connection import LARGEST_INCOMING, MOST_INCOMING, Incoming
from limpet.delivery.mqtt.dialect_requests import MOST_WAITING
from limpet.delivery.mqtt.dialects import Dialects, configs
from limpet.delivery.mqtt.guarded_client import LARGEST_FRAME
from limpet.delivery.mqtt.incoming_commands import LARGEST_OPEN, IncomingCommands
from limpet.delivery.mqtt.outgoing import Outgoing
from limpet.delivery.mqtt.packet_limits import PacketLimits
from limpet.errors import UnreadableError
from limpet.reporters import mqtt
from limpet.reporters.dialects import azure_iot_hub, homeassistant, sparkplug
from support import reports
from support.broker import wait_until
from support.hostile import CONNACK, Rules, Visit, length, packet, publish, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from limpet.contracts.reporter import Command

COMMAND = "limpet/press-07/command/ping"
ROOT = "limpet/press-07"


@contextmanager
def reporting(
    url: str, directory: Path, obey: Callable[[Command], None] = lambda _command: None, **options: Any
) -> Iterator[reports.Fed[mqtt.MqttReporter]]:
    config = mqtt.Config(url=url, reconnect_max=0.05, **options)
    with reports.opened(mqtt, config, directory, obey) as reporter:
        yield reporter


# --- what a client can do


class AsksAgain(Rules):
    """Passes on a flood of questions to the dialects, as any client can send them."""

    questions: tuple[bytes, ...] = ()

    def subscribed(self, visit: Visit, topic: str) -> None:
        if topic.startswith(("homeassistant", "spBv1.0")):
            for question in self.questions:
                visit.send(publish(topic, question))


def test_a_flood_of_questions_to_a_dialect_is_no_flood_of_answers(tmp_path: Path) -> None:
    with serving(AsksAgain) as broker:
        broker.questions = (b"online",) * 500 + tuple(b"%d" % number for number in range(500))
        with reporting(broker.url, tmp_path, dialects={"json": {}, "homeassistant": {}}) as reporter:
            for message in reports.results(20):
                reporter.report(message)
            wait_until(lambda: len(broker.results()["motion"]) == 20)
            wait_until(lambda: reporter.health()["ignored"].get("too many", 0) >= 500 - 3 * MOST_WAITING)
            assert len(broker.on("homeassistant/device/press-07/config")) <= 25


def test_a_large_question_to_a_dialect_is_not_decoded(tmp_path: Path) -> None:
    """A million empty metrics are two million bytes, and hundreds of megabytes in memory."""
    with serving(AsksAgain) as broker:
        broker.questions = (b"\x12\x00" * (1 << 20),)
        with reporting(broker.url, tmp_path, dialects={"json": {}, "sparkplug": {}}) as reporter:
            wait_until(lambda: reporter.health()["ignored"].get("too large") == 1)


def commands(size: int) -> Iterator[Incoming]:
    while True:
        yield Incoming(COMMAND, bytes(size), retained=False, response_topic="", correlation=b"")


def test_commands_that_wait_are_bounded_in_bytes() -> None:
    requests = IncomingCommands("press-07", ROOT, (), lambda _publish, _correlation: None)
    size = 1 << 20
    taken = [requests.take(incoming) for incoming, _ in zip(commands(size), range(40), strict=False)]
    assert sum(request is not None for request in taken) == LARGEST_OPEN // size
    assert requests.ignored == {"too many": 40 - LARGEST_OPEN // size}


def test_no_reply_goes_where_another_reporter_speaks(tmp_path: Path) -> None:
    requests = IncomingCommands("press-07", ROOT, (), lambda _publish, _correlation: None)

    def taken(topic: str) -> bool:
        incoming = Incoming(COMMAND, b"", retained=False, response_topic=topic, correlation=b"")
        return requests.take(incoming) is not None

    topics = ("site/press-07/status", "ha/sensor/x/config", "site")
    assert all(taken(topic) for topic in topics)
    dialects = {"json": {}, "homeassistant": {"prefix": "ha"}}
    with serving(Rules) as broker, reporting(broker.url, tmp_path, topic="site", dialects=dialects):
        assert not any(taken(topic) for topic in topics)
        assert taken("sites/press-07/status")
    assert all(taken(topic) for topic in topics)


class SpeaksFirst(Rules):
    """Sends commands, as it may, before it answers the subscription."""

    many = 400

    def hears(self, topic: str) -> bool:  # noqa: ARG002
        return True

    def welcome(self, visit: Visit, hello: Any) -> bool:
        going_on = super().welcome(visit, hello)
        visit.send(publish(COMMAND, b" " * 40_000 + b"{}") * self.many)
        return going_on


def test_commands_before_the_subscription_is_answered_are_bounded(tmp_path: Path) -> None:
    heard: list[Command] = []
    with serving(SpeaksFirst) as broker, reporting(broker.url, tmp_path, heard.append) as reporter:
        wait_until(lambda: reporter.health()["connected"])
        wait_until(lambda: len(heard) + reporter.health()["ignored"].get("too many", 0) >= broker.many)
        assert 0 < len(heard) <= MOST_INCOMING
        assert len(heard) * 40_000 <= LARGEST_INCOMING


# --- what a broker can do


class Codes(Rules):
    """Acknowledges the messages of one topic with a reason, the others with success."""

    topic, code = "", 0

    def acknowledge(self, visit: Visit, mid: int) -> None:
        visit.acknowledge(mid, self.code if self.said[-1].topic == self.topic else 0)


@pytest.mark.parametrize("code", [0x80, 0x81, 0x87, 0x8B, 0x90, 0x93, 0x95, 0x9B, 0xA2, 0xFF])
def test_every_reason_to_refuse_a_result_counts_it_and_the_others_arrive(tmp_path: Path, code: int) -> None:
    with serving(Codes) as broker:
        broker.topic, broker.code = f"{ROOT}/result/bad", code
        with reporting(broker.url, tmp_path) as reporter:
            reporter.report(msgspec.structs.replace(reports.result(0), pipeline="bad"))
            for message in reports.results(10):
                reporter.report(message)
            wait_until(lambda: reporter.health()["outbox_depth"] == 0 and len(broker.results()["motion"]) == 10)
            assert sum(reporter.health()["refused"].values()) == 1
            assert reporter.health()["reconnects"] == 0


def test_a_quota_on_states_does_not_hold_up_results(tmp_path: Path) -> None:
    with serving(Codes) as broker:
        broker.topic, broker.code = f"{ROOT}/status", 0x97
        with reporting(broker.url, tmp_path) as reporter:
            for message in reports.results(10):
                reporter.report(message)
            wait_until(lambda: reporter.health()["outbox_depth"] == 0 and len(broker.results()["motion"]) == 10)
            assert reporter.health()["refused"] == {"0x97": 1}
            assert reporter.health()["reconnects"] == 0


class RefusesSubscriptions(Rules):
    code = 0

    def hears(self, topic: str) -> bool:  # noqa: ARG002
        return True

    def subscription_code(self) -> int:
        return self.code


@pytest.mark.parametrize("code", [0x03, 0x7F, 0x80, 0x81, 0x87, 0xFF])
@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_every_reason_to_refuse_a_subscription_leaves_the_connection(
    tmp_path: Path, code: int, protocol: str
) -> None:
    with serving(RefusesSubscriptions) as broker:
        broker.code = code
        with reporting(broker.url, tmp_path, protocol=protocol) as reporter:
            reporter.report(reports.result(0))
            wait_until(lambda: broker.results()["motion"] == {0})
            assert reporter.health()["lost"] == [f"subscription to {ROOT}/command/+"]


class Impatient(Rules):
    """Asks for a sign of life each second, and gives one and a half."""

    properties = b"\x13\0\1"

    def welcome(self, visit: Visit, hello: Any) -> bool:
        visit.sock.settimeout(1.5)
        return super().welcome(visit, hello)


def test_a_short_keep_alive_of_the_broker_is_kept(tmp_path: Path) -> None:
    with serving(Impatient) as broker, reporting(broker.url, tmp_path) as reporter:
        wait_until(lambda: reporter.health()["connected"])
        end = time.monotonic() + 3.5
        wait_until(lambda: time.monotonic() > end or len(broker.visits) > 1)
        assert len(broker.visits) == 1


def test_an_answer_of_the_broker_that_is_no_message_is_short() -> None:
    """In 2 MB of user properties paho would be busy for hours."""
    for kind in (0x20, 0x40, 0x90, 0xE0):
        PacketLimits("5").feed(bytes([kind]) + length(packet_limits.LARGEST_ANSWER))
        with pytest.raises(UnreadableError, match="is the limit"):
            PacketLimits("5").feed(bytes([kind]) + length(packet_limits.LARGEST_ANSWER + 1))


@contextmanager
def endless(answer: Callable[[bytes], bytes], more: bytes) -> Iterator[tuple[str, list[int]]]:
    """Serve a websocket that sends ``answer``, then ``more`` without end; yield its URL and what it sent."""
    server = socket.create_server(("127.0.0.1", 0))
    sent: list[int] = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = server.accept()
                sent.append(0)
                with client, suppress(OSError):
                    client.sendall(answer(client.recv(4096)))
                    while sent[-1] < 1 << 25:
                        client.sendall(more)
                        sent[-1] += len(more)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"ws://127.0.0.1:{server.getsockname()[1]}", sent
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()


def test_a_websocket_whose_header_has_no_end_is_given_up(tmp_path: Path) -> None:
    with (
        endless(lambda _request: b"HTTP/1.1 101 Switching\r\nx: ", b"x" * 65536) as (url, sent),
        reporting(url, tmp_path),
    ):
        wait_until(lambda: len(sent) > 1, 20)
        assert sent[0] < 1 << 25


def upgraded(request: bytes) -> bytes:
    """Return the answer to a websocket's request, and the head of a frame of 2^62 bytes."""
    (key,) = re.findall(rb"Sec-WebSocket-Key: (\S+)", request)
    proof = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())  # noqa: S324 - as RFC 6455 says
    head = b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + proof + b"\r\n\r\n"
    return head + b"\x82\x7f" + struct.pack(">Q", 1 << 62) + packet(CONNACK, b"\0\0\0")


def test_a_websocket_frame_without_end_is_given_up(tmp_path: Path) -> None:
    with endless(upgraded, publish("x", bytes(1 << 20))) as (url, sent), reporting(url, tmp_path):
        wait_until(lambda: len(sent) > 1, 20)
        assert LARGEST_FRAME < sent[0] < 1 << 25


# --- what a disk can hold


def test_a_result_of_another_pipeline_than_its_topic_is_not_told_in_dialects(tmp_path: Path) -> None:
    told = Dialects(configs({"json": {}, "homeassistant": {}}, tmp_path), reports.ORIGIN, ROOT, 1)
    forged = msgspec.structs.replace(reports.result(0), pipeline="x/y")
    outgoing = Outgoing(f"{ROOT}/result/motion", (msgspec.json.encode(forged),))
    assert [publish.topic for publish in told.results_or_event(outgoing)] == [f"{ROOT}/result/motion"]
    assert "another pipeline" in told.faults[0]


def test_home_assistant_is_told_of_a_bounded_number_of_pipelines() -> None:
    dialect = homeassistant.open(homeassistant.Config(), reports.ORIGIN, ROOT)
    for number in range(homeassistant.PIPELINES + 20):
        result = msgspec.structs.replace(reports.result(0), pipeline=f"p{number}")
        assert bool(dialect.results([result])) == (number < homeassistant.PIPELINES)


# --- what a configuration can ask for


@pytest.mark.parametrize(
    ("config", "key", "value"),
    [
        (mqtt.Config, "topic", "limpet\n"),
        (mqtt.Config, "topic", "lim\x07pet"),
        (mqtt.Config, "session_expiry", 1 << 32),
        (homeassistant.Config, "prefix", "homeassistant\n"),
        (sparkplug.Config, "group", "limpet\n"),
        (azure_iot_hub.Config, "device", "press-07\n"),
    ],
)
def test_what_no_broker_takes_is_refused_in_the_configuration(config: Any, key: str, value: object) -> None:
    options = {"url": "mqtt://a"} if config is mqtt.Config else {}
    with pytest.raises(msgspec.ValidationError, match=key):
        msgspec.convert({**options, key: value}, type=config)
