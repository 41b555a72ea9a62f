"""Clients that want the gateway's HTTP server to keep or to do too much. Others do not notice."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from gateway.http_server import REQUEST_BYTES, Served, read, served
from limpet.gateway.http import protocol, protocol_h11
from limpet.gateway.http.bad_requests import LARGEST_HEAD, MOST_PIPELINED
from support.broker import wait_until

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from pathlib import Path

PROTOCOLS = [protocol.HttpProtocol, protocol_h11.HttpProtocol]
ENDLESS = b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n"
DEVICE = b"GET /api/device HTTP/1.1\r\nHost: localhost\r\n\r\n"
CHUNKED = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
HANDSHAKE = (
    b"GET /listen HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
FLOOD = 64 * LARGEST_HEAD
PING = b"\x89\x80\0\0\0\0"
EMPTY = b"\x00\x80\0\0\0\0"


@pytest.fixture(scope="module", params=PROTOCOLS, ids=["httptools", "h11"])
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("hostile"), protocol=request.param) as started:
        yield started


@pytest.mark.parametrize("begin", [b"0\r\nX: ", b"5;", b"5\r\nhello\r\n0\r\nX: "])
def test_what_comes_beside_the_body_is_as_limited_as_headers(running: Served, begin: bytes) -> None:
    with running.connect() as client:
        assert is_cut_off(client, CHUNKED + begin + b"y" * FLOOD)


def test_a_body_in_many_small_pieces_is_read(running: Served) -> None:
    with running.connect() as client:
        client.sendall(CHUNKED.replace(b"Host", b"Connection: close\r\nHost") + b"1\r\ny\r\n" * 20_000)
        client.sendall(b"0\r\nX: y\r\n\r\n")
        assert read(client).body == b"20000"


def test_requests_that_wait_for_one_that_does_not_end_are_limited(tmp_path: Path) -> None:
    with served(tmp_path) as running, running.connect() as client:
        client.sendall(ENDLESS)
        assert client.recv(1).startswith(b"H")
        assert is_cut_off(client, DEVICE * 2 * MOST_PIPELINED)


@pytest.mark.parametrize("behind", [DEVICE, HANDSHAKE, b"\x00\r\n"], ids=["request", "websocket", "garbage"])
def test_an_answer_ends_with_its_client_whatever_came_behind_the_request(running: Served, behind: bytes) -> None:
    with running.connect() as client:
        client.sendall(ENDLESS)
        assert client.recv(1)
        client.sendall(behind)
        assert client.recv(1)
    wait_until(lambda: running.ask("/unfinished").body == b"0")


@pytest.mark.parametrize("frames", [PING, b"\x01" + EMPTY[1:] + EMPTY], ids=["pings", "parts of a message"])
def test_a_websocket_on_which_much_is_sent_is_closed(running: Served, frames: bytes) -> None:
    with running.connect() as client:
        client.sendall(HANDSHAKE)
        assert client.recv(65536).startswith(b"HTTP/1.1 101")
        assert is_cut_off(client, (frames * FLOOD)[:FLOOD])


def test_a_websocket_whose_client_answers_pings_stays_open(running: Served) -> None:
    with running.connect() as client:
        client.sendall(HANDSHAKE)
        assert client.recv(65536).startswith(b"HTTP/1.1 101")
        client.sendall(PING * 50)
        received = b""
        while len(received) < 100:
            received += client.recv(65536)
        assert received == b"\x8a\x00" * 50


def test_slow_large_bodies_keep_neither_small_ones_nor_other_clients_waiting(running: Served) -> None:
    head = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % REQUEST_BYTES
    path, large = "/v2/models/m/infer", bytes(REQUEST_BYTES)
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(running.connect()).sendall(head)
        wait_until(lambda: running.ask(path, method="POST", body=large).status == 503)
        assert running.ask(path, method="POST", body=bytes(10_000)).status == 200
        assert running.ask(path, method="POST", body=large, unix=True).status == 200
    wait_until(lambda: running.ask(path, method="POST", body=large).status == 200)


def is_cut_off(client: socket.socket, data: bytes) -> bool:
    """Whether the server ends the connection before all of the bytes are sent, or after it."""
    client.settimeout(20)
    try:
        client.sendall(data)
        while client.recv(1 << 20):
            pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True
