"""The gateway's HTTP server takes any bytes: it answers or closes, logs no bug, and goes on."""

from __future__ import annotations

import contextlib
import logging
import socket
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.http_server import Served, served
from limpet.gateway.http import protocol as http_protocol
from limpet.gateway.http import protocol_h11 as http_protocol_h11

if TYPE_CHECKING:
    from collections.abc import Iterator

METHODS = st.sampled_from(["GET", "POST", "HEAD", "OPTIONS", "CONNECT", "TRACE", "DELETE", "PRI", "get", ""])
NAMES = st.sampled_from(
    [
        *("Host", "Origin", "Content-Length", "Transfer-Encoding", "Connection", "Upgrade", "Expect", "Cookie"),
        *("Authorization", "Sec-WebSocket-Key", "Sec-WebSocket-Version", "Sec-Fetch-Site", "X"),
    ]
)
VALUES = st.one_of(
    st.sampled_from(
        ["localhost", "127.0.0.1", "5", "-1", "chunked", "close", "upgrade", "websocket", "13", "h2c"]
    ),
    st.text(st.characters(max_codepoint=255), max_size=40),
)
TARGETS = st.one_of(
    st.sampled_from(
        ["/", "/api/device", "/v2/models/m/infer", "/api/ws", "*", "http://localhost/", "//", "/%ff%00"]
    ),
    st.text(st.characters(max_codepoint=255), max_size=40),
)
BODIES = st.one_of(
    st.binary(max_size=60), st.sampled_from([b"5\r\nhello\r\n0\r\n\r\n", b"ffffffffff\r\n", b"0\r\nX: y\r\n\r\n"])
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Draw a request that a parser may or may not take."""
    headers = draw(st.lists(st.tuples(NAMES, VALUES), max_size=6))
    if draw(st.booleans()):
        headers.insert(0, ("Host", "localhost"))
    head = f"{draw(METHODS)} {draw(TARGETS)} HTTP/{draw(st.sampled_from(['1.1', '1.0', '2.0', '']))}\r\n"
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return (head + lines + "\r\n").encode("latin-1") + draw(BODIES)


@pytest.fixture(
    scope="module",
    params=[http_protocol.HttpProtocol, http_protocol_h11.HttpProtocol],
    ids=["httptools", "h11"],
)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("any"), protocol=request.param, rate=1e9) as started:
        yield started


class Bugs(logging.Handler):
    """Keeps what is logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(self.format(record))


@settings(max_examples=15)
@example(data=b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\nGET / HTTP/1.0\r\n\r\n")
@example(data=b"GET / HTTP/1.1\r\nConnection: close\r\nHost: localhost\r\n\r\n\x00\r\n\r\n")
@example(
    data=b"GET /api/ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Protocol: a,\xff\r\n\r\n"
)
@given(
    data=st.one_of(requests(), st.binary(max_size=200), st.lists(requests(), min_size=2, max_size=3).map(b"".join))
)
def test_any_bytes_are_answered_or_refused_and_the_server_goes_on(running: Served, data: bytes) -> None:
    bugs = Bugs()
    logging.getLogger().addHandler(bugs)
    try:
        with running.connect() as client, contextlib.suppress(OSError):
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            read_some(client)
        assert running.ask("/api/device").status == 200
    finally:
        logging.getLogger().removeHandler(bugs)
    assert bugs.found == []


def read_some(client: socket.socket) -> None:
    while client.recv(65536):
        pass
