"""Captures go over HTTP and MQTT: whole, once, and only if someone keeps them."""

from __future__ import annotations

import hashlib
import itertools
import socket
import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any, ClassVar

import paho.mqtt.client as paho
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion

from limpet import cli
from limpet.captures import form, ring
from limpet.delivery.mqtt.broker_settings import BrokerSettings
from limpet.distribution.capture_http import HttpSender
from limpet.distribution.capture_mqtt import MqttSender
from limpet.distribution.capture_parts import MOST_OPEN, PART, Gathering, parts_of, topic_of
from limpet.errors import TransportError, UnreadableError
from support.broker import mosquitto, wait_until
from support.captured import VALUES, capture, packed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from limpet.captures.ring import Entry


def add(root: Path, number: int, **changes: Any) -> bytes:
    path = ring.path_of(root, "motion", number)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(packed(capture(number=number, **changes)))
    return path.read_bytes()


def run(*words: object) -> int:
    return cli.main(["captures", *map(str, words)])


def sent(root: Path) -> list[int]:
    held: list[Entry] = ring.entries(root, "motion")
    return [one.capture.number for one in held if one.sent]


class Server(BaseHTTPRequestHandler):
    taken: ClassVar[dict[str, tuple[bytes, str]]] = {}
    status: ClassVar[int] = 201

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.taken[self.path] = body, self.headers.get("authorization", "")
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving() -> Iterator[str]:
    Server.taken.clear()
    Server.status = 201
    with HTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/in"
        finally:
            server.shutdown()
            thread.join()


def test_captures_are_put_once_within_the_policy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "captures"
    files = [
        add(root, number, reasons=[reason]) for number, reason in enumerate(("audit", "unsure", "command"), 1)
    ]
    (tmp_path / "headers").write_text("Authorization: Bearer x\n")
    with serving() as url:
        assert run("push", url, root, "--reasons", "audit,unsure", "--most-bytes", len(files[0]) + 10) == 0
        assert sent(root) == [1]
        assert run("push", url, root, "--reasons", "unsure,audit", "--headers-file", tmp_path / "headers") == 0
        assert sent(root) == [1, 2]
        assert Server.taken == {
            "/in/press/motion/0000000001.capture": (files[0], ""),
            "/in/press/motion/0000000002.capture": (files[1], "Bearer x"),
        }
        assert run("push", url, root, "--labelled") == 0
        Server.status = 507
        assert run("push", url, root) == 1
        assert sent(root) == [1, 2]
        assert "507" in capsys.readouterr().err
        Server.status = 204
        assert run("push", url, root, "--delete") == 0
    assert [one.capture.number for one in ring.entries(root, "motion")] == [1, 2]
    assert run("push", url, root, "--hours", "10:00-10:00") == 0
    assert run("push", url, root, "--hours", "ten") == 2
    assert run("push", url, root, "--reasons", "because") == 2


def test_a_server_that_is_away_or_would_see_secrets_gets_nothing(tmp_path: Path) -> None:
    root = tmp_path / "captures"
    add(root, 1)
    (tmp_path / "headers").write_text("Authorization: Bearer x\n")
    assert run("push", "http://127.0.0.1:9/in", root) == 1
    assert run("push", "http://example.com/in", root, "--headers-file", tmp_path / "headers") == 1
    assert run("push", "ftp://example.com/in", root) == 2
    assert sent(root) == []


def hostile(answer: Callable[[socket.socket], None]) -> AbstractContextManager[str]:
    """Return a server that takes one request, and does with its connection what it likes."""

    @contextmanager
    def listening() -> Iterator[str]:
        with socket.create_server(("127.0.0.1", 0)) as server:

            def serve() -> None:
                with suppress(OSError), server.accept()[0] as connection:
                    while b".capture" not in connection.recv(1 << 16):
                        pass
                    answer(connection)

            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            yield f"http://127.0.0.1:{server.getsockname()[1]}/in"
        thread.join(5)
        assert not thread.is_alive()

    return listening()


def endless(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n")
    while True:
        connection.sendall(bytes(1 << 16))


def dripping(connection: socket.socket) -> None:
    for byte in itertools.cycle(b"x"):
        connection.sendall(bytes([byte]))
        time.sleep(0.01)


def redirecting(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 307 Moved\r\nlocation: http://127.0.0.1:1/secret\r\ncontent-length: 0\r\n\r\n")


def shouting(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 500 \x1b[2J" + b"no" * 20_000 + b"\r\ncontent-length: 0\r\n\r\n")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (endless, ""),
        (redirecting, "answers 307 Moved"),
        (shouting, "answers 500 \\x1b[2Jno"),
    ],
)
def test_attack_a_hostile_server_costs_one_capture_alone(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    answer: Callable[[socket.socket], None],
    said: str,
) -> None:
    root = tmp_path / "captures"
    add(root, 1)
    with hostile(answer) as url:
        assert run("push", url, root) == int(bool(said))
    assert sent(root) == ([] if said else [1])
    errors = capsys.readouterr().err
    assert said in errors
    assert len(errors) < 400


def test_attack_a_server_that_answers_byte_by_byte_has_a_time() -> None:
    with hostile(dripping) as url:
        sender = HttpSender(url, None, None, longest=0.5)
        with pytest.raises(TransportError, match="the server takes longer than 1 s"):
            sender.send(capture(number=1), packed(capture(number=1)))
        sender.close()


def test_attack_a_receiver_that_answers_too_early_or_long_ago_is_not_believed(tmp_path: Path) -> None:
    body = form.body_of(b'"' + b"x" * 2 * PART + b'"', [VALUES.astype("<f4").tobytes()])
    data = packed(capture(number=1), body)
    topic, digest = "limpet-captures/press/motion/1", hashlib.sha256(data).hexdigest()
    with mosquitto(tmp_path / "broker") as broker:
        client = paho.Client(CallbackAPIVersion.VERSION2)
        client.connect("127.0.0.1", broker.port)
        client.on_message = lambda *_: client.publish(f"{topic}/kept", digest, 1)
        client.subscribe(f"{topic}/0/+", 1)
        client.publish(f"{topic}/kept", digest, 1, retain=True)
        client.loop_start()
        try:
            sender = MqttSender(BrokerSettings(url=broker.url), "press", PART * 4, patience=1.0)
            with pytest.raises(TransportError, match="no receiver answers that it keeps motion/1"):
                sender.send(capture(number=1), data)
            sender.close()
        finally:
            client.loop_stop()
            client.disconnect()


def test_captures_go_over_mqtt_in_parts_to_a_receiver(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, here = tmp_path / "captures", tmp_path / "here"
    body = form.body_of(b'"' + b"x" * 3 * PART + b'"', [VALUES.astype("<f4").tobytes()])
    ring.path_of(root, "motion", 1).parent.mkdir(parents=True)
    ring.path_of(root, "motion", 1).write_bytes(packed(capture(number=1), body))
    add(root, 2)
    with mosquitto(tmp_path / "broker") as broker:
        done: list[int] = []
        receiver = threading.Thread(target=lambda: done.append(run("receive", broker.url, here, "--idle", "1")))
        receiver.start()
        wait_until(lambda: "limpet-captures" in broker.log)
        assert run("push", broker.url, root, "--bytes-per-second", "1e7") == 0
        receiver.join()
    assert done == [0]
    assert sent(root) == [1, 2]
    for number in (1, 2):
        came = ring.path_of(here / "press", "motion", number)
        assert came.read_bytes() == ring.path_of(root, "motion", number).read_bytes()
    assert "2 new captures" in capsys.readouterr().out


FILES = {number: packed(capture(number=number), form.body_of(b"{}", [bytes(24)]) + bytes(0)) for number in (1, 2)}


@given(st.permutations([(number, part) for number in (1, 2) for part in range(3)] * 2))
def test_parts_in_any_order_and_twice_become_the_file(order: list[tuple[int, int]]) -> None:
    parts = {number: [data[start : start + 200] for start in (0, 200, 400)] for number, data in FILES.items()}
    gathering, found = Gathering(), {}
    for number, part in order:
        one = gathering.take(f"limpet-captures/press/motion/{number}/{part}/3", parts[number][part])
        if one is not None:
            found[one[0]] = one[1]
    assert found == {f"limpet-captures/press/motion/{number}": b"".join(parts[number]) for number in (1, 2)}


@given(st.text(max_size=40), st.binary(max_size=10))
def test_other_topics_are_refused(topic: str, payload: bytes) -> None:
    for text in (topic, f"limpet-captures/{topic}", f"limpet-captures/press/motion/1/{topic}"):
        try:
            Gathering().take(text, payload)
        except UnreadableError:
            continue
        assert text.split("/")[1:3] == ["press", "motion"]


def test_unfinished_captures_are_bounded() -> None:
    gathering = Gathering()
    for number in range(1, MOST_OPEN + 2):
        assert gathering.take(f"limpet-captures/press/motion/{number}/0/2", b"x") is None
    assert gathering.take("limpet-captures/press/motion/1/1/2", b"y") is None
    assert gathering.take(f"limpet-captures/press/motion/{MOST_OPEN + 1}/1/2", b"y") is not None


def test_parts_are_cut_without_a_rest() -> None:
    assert parts_of(b"x" * (2 * PART)) == [b"x" * PART] * 2
    assert topic_of(capture()) == "limpet-captures/press/motion/7"
