"""Clients that send or read slowly lose their connection. Others do not notice."""

from __future__ import annotations

import contextlib
import select
import socket
from typing import TYPE_CHECKING

import pytest

from gateway.http_server import Served, read, served
from limpet.gateway.http import protocol as http_protocol
from limpet.gateway.http import protocol_h11 as http_protocol_h11
from limpet.gateway.http.slow_clients import Patience

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = Patience(head=0.3, body=-2.8, reading=0.3, idle=1)
"""A body has 0.3 s, as the largest one has 3.1 s more."""
INFER = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: localhost\r\n"
DEVICE = b"GET /api/device HTTP/1.1\r\nHost: localhost\r\n\r\n"
REFUSED, ANSWERED = {400, 408}, {200}
SENT: dict[bytes, set[int]] = {
    b"": REFUSED,
    b"\r\n": REFUSED,
    b"GET /": REFUSED,
    b"GET / HTTP/1.1\r\nHost: loc": REFUSED,
    INFER + b"Content-Length: 9\r\n\r\n1234": REFUSED,
    INFER + b"Transfer-Encoding: chunked\r\n\r\n9\r\n": REFUSED,
    DEVICE: ANSWERED,
    DEVICE + b"\r\n": ANSWERED,
    DEVICE + b"GET /": ANSWERED,
}
"""What a client sends before it says nothing more, and the answer before the connection is closed."""


@pytest.fixture(
    scope="module",
    params=[http_protocol.HttpProtocol, http_protocol_h11.HttpProtocol],
    ids=["httptools", "h11"],
)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("slow"), protocol=request.param, patience=PATIENCE) as started:
        yield started


def test_a_connection_on_which_no_whole_request_comes_is_closed(running: Served) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(running.connect()) for _ in SENT]
        late = stack.enter_context(running.connect())
        for client, sent in zip(clients, SENT, strict=True):
            client.sendall(sent)
        late.sendall(DEVICE)
        assert late.recv(65536)
        late.sendall(b"\r\n")  # would stop a timer of uvicorn
        answers = {sent: read(client).status for client, sent in zip(clients, SENT, strict=True)}
        assert {sent: status for sent, status in answers.items() if status not in SENT[sent]} == {}
        assert read(late).status in {0, *REFUSED}


def test_a_client_that_does_not_read_loses_its_connection(running: Served) -> None:
    with running.connect() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
        poll = select.poll()
        poll.register(client, 0)  # errors alone
        assert poll.poll(30_000), "the server did not end the connection"
        with pytest.raises(ConnectionResetError):
            read_all(client)


def read_all(client: socket.socket) -> None:
    while client.recv(65536):
        pass
