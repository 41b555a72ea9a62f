"""Requests with the same head on one connection: answered sooner, within the same limits."""

from __future__ import annotations

import contextlib
import json
import socket
from typing import TYPE_CHECKING, NamedTuple

import pytest

from gateway.http_server import REQUEST_BYTES, Served, served
from limpet.gateway.http.slow_clients import Patience
from support.api_daemon import api_daemon
from support.broker import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.api_daemon import ApiDaemon

HOST = "Host: localhost"


class Came(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def again(self) -> bool:
        return "x-again" in self.headers


def head(length: int, *headers: str, target: str = "/v2/models/again/infer") -> bytes:
    lines = [f"POST {target} HTTP/1.1", *(headers or [HOST]), f"Content-Length: {length}", "", ""]
    return "\r\n".join(lines).encode()


class Client:
    """One connection."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(20)
        self.socket = connection
        self._file = connection.makefile("rb")

    def answer(self) -> Came:
        """Return the next answer."""
        status = int(self._file.readline().split()[1])
        headers = {}
        while line := self._file.readline().strip().decode().lower():
            name, _, headers[name] = line.partition(": ")
        return Came(status, headers, self._file.read(int(headers["content-length"])))

    def ask(self, data: bytes) -> Came:
        """Send bytes, and return the next answer."""
        self.socket.sendall(data)
        return self.answer()

    def end(self) -> None:
        """Read until the server closes."""
        with contextlib.suppress(ConnectionResetError), self._file:
            self._file.read()

    @property
    def closed(self) -> bool:
        """Whether the server closes, after a while."""
        with contextlib.suppress(ConnectionResetError):
            return not self._file.read(1)
        return True


@contextlib.contextmanager
def client_of(port: int) -> Iterator[Client]:
    """Connect, and leave only when the server has closed its end."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        client = Client(connection)
        yield client
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        client.end()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    patience = Patience(head=0.5, body=-2.6, idle=1)  # 0.5 s for a body
    with served(tmp_path_factory.mktemp("again"), patience=patience) as started:
        yield started


@pytest.fixture
def client(running: Served) -> Iterator[Client]:
    with client_of(running.port) as connected:
        yield connected


def test_a_head_that_came_before_is_answered_sooner(client: Client) -> None:
    answers = [client.ask(head(3) + body) for body in (b"abc", b"def", b"ghi")]
    assert [(one.status, one.body, one.again) for one in answers] == [
        (200, b"3", False),
        (200, b"3", True),
        (200, b"3", True),
    ]
    assert not client.ask(head(4) + b"abcd").again
    assert client.ask(head(3) + b"abc").again


def test_a_body_may_come_in_parts(client: Client) -> None:
    body = bytes(REQUEST_BYTES)
    assert not client.ask(head(len(body)) + body).again
    client.socket.sendall(head(len(body)) + body[:10])
    client.socket.sendall(body[10:70_000])
    found = client.ask(body[70_000:])
    assert (found.again, found.body) == (True, str(len(body)).encode())


def test_requests_may_come_before_the_answers(client: Client) -> None:
    assert not client.ask(head(1) + b"a").again
    sent = [head(1) + b"a", head(1) + b"?", head(2) + b"bb", head(1) + b"!", head(1) + b"c", head(1) + b"d"]
    client.socket.sendall(b"".join(sent))
    assert [client.answer().body for _ in sent] == [b"1", b"1", b"2", b"1", b"1", b"1"]
    assert client.ask(head(2) + b"ee").status == 200


def test_a_request_that_begins_before_is_not_torn_apart(client: Client) -> None:
    assert not client.ask(head(1) + b"a").again
    client.socket.sendall(head(1) + b"a" + head(1)[:20])
    assert client.answer().again
    assert client.ask(head(1)[20:] + b"b").body == b"1"


def test_another_host_or_site_is_refused_all_the_same(client: Client) -> None:
    assert client.ask(head(1) + b"a").status == 200
    assert client.ask(head(1) + b"a").again
    assert client.ask(head(1, "Host: evil.example") + b"a").status == 403
    assert client.ask(head(1, HOST, "Origin: http://evil.example") + b"a").status == 403


def test_a_head_whose_lines_end_otherwise_is_not_remembered(client: Client) -> None:
    for _ in range(2):
        client.socket.sendall(head(1).replace(b"\r\nHost", b"\nHost") + b"a")
        if (found := client.answer()).status == 400:
            break
        assert not found.again


def test_a_body_that_does_not_come_is_waited_for_as_long_as_any(client: Client) -> None:
    assert not client.ask(head(9) + b"123456789").again
    client.socket.sendall(head(9) + b"1234")
    assert client.answer().status == 408
    assert client.closed


def test_a_client_that_says_nothing_more_is_closed(client: Client) -> None:
    client.ask(head(1) + b"a")
    assert client.ask(head(1) + b"a").again
    assert client.closed


def test_large_bodies_that_end_early_leave_room_for_others(running: Served) -> None:
    body = bytes(REQUEST_BYTES)
    for _ in range(8):
        with client_of(running.port) as client:
            assert client.ask(head(len(body)) + body).status == 200
            client.socket.sendall(head(len(body)) + body[:100])


def test_requests_of_a_client_are_counted(tmp_path: Path) -> None:
    with served(tmp_path, rate=5.0) as few, client_of(few.port) as client:
        answers = [client.ask(head(1) + b"a") for _ in range(30)]
        assert answers[1].again
        assert 429 in [one.status for one in answers]


def test_a_session_is_asked_for_each_time(tmp_path: Path) -> None:
    with served(tmp_path) as anyone, client_of(anyone.port) as client:
        assert not any(client.ask(head(1, HOST, "Cookie: limpet-session=x") + b"a").again for _ in range(3))


# --- with a model


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiDaemon]:
    with api_daemon(tmp_path_factory.mktemp("served"), api="request_bytes = 100_000") as started:
        wait_until(lambda: started.request("/v2/models/dense/ready").status == 200)
        yield started


def of_model(content: bytes, *headers: str) -> bytes:
    return head(len(content), HOST, *headers, target="/v2/models/dense/infer") + content


def test_a_model_answers_each_request_with_its_own_outputs(daemon: ApiDaemon) -> None:
    with client_of(daemon.port) as client:
        first = None
        for number in range(10, 60):
            tensor = {"name": "input", "shape": [1, 3], "datatype": "INT8", "data": [number, -number, 3]}
            found = client.ask(of_model(json.dumps({"id": str(number), "inputs": [tensor]}).encode()))
            assert found.status == 200
            answer = json.loads(found.body)
            assert (answer["id"], answer["outputs"][0]["data"]) == (str(number), [number, -number, 3])
            first = first or found
            assert found.headers == first.headers
        wrong = {"name": "input", "shape": [1, 3], "datatype": "INT8", "data": [10, -10, 999]}
        assert client.ask(of_model(json.dumps({"id": "1", "inputs": [wrong]}).encode() + b" ")).status == 400


def test_binary_tensors_come_back_as_they_were_sent(daemon: ApiDaemon) -> None:
    tensor = {"name": "input", "shape": [1, 3], "datatype": "INT8", "parameters": {"binary_data_size": 3}}
    text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    length = f"Inference-Header-Content-Length: {len(text)}"
    with client_of(daemon.port) as client:
        for number in range(5):
            content = bytes([number, 1, 2])
            found = client.ask(of_model(text + content, length))
            assert found.body[int(found.headers["inference-header-content-length"]) :] == content
