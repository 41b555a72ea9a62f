"""The gateway's HTTP server under real clients: who passes, what is refused, and with which words."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import struct
from typing import TYPE_CHECKING

import pytest

from gateway.http_server import REQUEST_BYTES, Served, read, served
from limpet.gateway import files
from limpet.gateway.access import tokens
from limpet.gateway.http import protocol as http_protocol
from limpet.gateway.http import protocol_h11 as http_protocol_h11
from limpet.tables import ApiTable
from support import certificates
from support.broker import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Any

PROTOCOLS = [http_protocol.HttpProtocol, http_protocol_h11.HttpProtocol]
TOKEN, ENTRY = tokens.new("anna")
BEARER = f"Authorization: Bearer {TOKEN}"


@pytest.fixture(scope="module", params=PROTOCOLS, ids=["httptools", "h11"])
def open_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server without tokens."""
    with served(tmp_path_factory.mktemp("open"), protocol=request.param) as running:
        yield running


@pytest.fixture(scope="module")
def protected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with a token."""
    with served(tmp_path_factory.mktemp("protected"), tokens=(ENTRY,), protected=True) as running:
        yield running


def test_a_client_on_loopback_may_view_and_is_known_by_its_user_id(open_server: Served) -> None:
    answer = open_server.ask("/api/device")
    assert answer.body.decode() == f'["127.0.0.1","VIEW",{os.getuid()},"127.0.0.1","tcp"]'
    refused = open_server.ask("/api/log")
    assert refused.status == 403
    assert "Unix socket" in refused.error


def test_a_client_on_the_unix_socket_may_control(open_server: Served) -> None:
    answer = open_server.ask("/api/log", "Host: anything.example", unix=True)
    assert answer.body.decode() == f'["user {os.getuid()} on this device","CONTROL",{os.getuid()},"","unix"]'


@pytest.mark.parametrize("header", ["Host: evil.example", "Host: ", "Host: 127.0.0.2"])
def test_a_foreign_host_is_refused(open_server: Served, header: str) -> None:
    answer = open_server.ask("/api/device", header)
    assert answer.status == 403
    assert "`hosts` in [api]" in answer.error


def test_a_request_of_another_site_is_refused(open_server: Served) -> None:
    answer = open_server.ask("/v2/models/m/infer", "Origin: http://evil.example", method="POST", body=b"{}")
    assert (answer.status, answer.error) == (403, "a page of another site sent this request")


def test_a_client_cannot_say_that_it_came_otherwise(protected: Served) -> None:
    said = ("X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https", "Forwarded: for=192.0.2.1;proto=https")
    assert protected.ask("/whence", BEARER, *said).body == b'["127.0.0.1","http"]'


@pytest.mark.parametrize("header", ["X-Forwarded-For: 127.0.0.1", "Forwarded: for=127.0.0.1", "Via: 1.1 proxy"])
@pytest.mark.parametrize("transport", ["tcp", "unix"])
def test_a_client_of_a_proxy_on_the_device_has_no_rights_without_a_token(
    open_server: Served, protected: Served, header: str, transport: str
) -> None:
    unix, named = transport == "unix", "Host: localhost"
    refused = open_server.ask("/api/device", header, named, unix=unix)
    assert (refused.status, "proxy" in refused.error) == (403, True)
    assert open_server.ask("/v2/health/live", header, named, unix=unix).status == 200
    assert protected.ask("/api/device", header, named, unix=unix).status == 401
    answer = protected.ask("/api/log", header, named, BEARER, unix=unix)
    assert answer.body.decode().startswith('["anna at ')
    assert ',"CONTROL",null,' in answer.body.decode()
    foreign = protected.ask("/api/log", header, named, BEARER, "Origin: http://evil.example", unix=unix)
    assert (foreign.status, foreign.error) == (403, "a page of another site sent this request")


def test_headers_that_decide_come_once(open_server: Served) -> None:
    answer = open_server.ask("/api/device", "Origin: http://localhost", "Origin: http://localhost")
    assert (answer.status, answer.error) == (400, "the header origin came more than once")


@pytest.mark.parametrize("path", ["/api/log%0A", "/api/device%00", "/api/%1b%5b31m"])
def test_a_path_that_cannot_be_printed_is_refused(open_server: Served, path: str) -> None:
    assert open_server.ask(path).status == 400


def test_without_a_token_only_open_paths_pass(protected: Served) -> None:
    assert protected.ask("/v2/health/live").status == 200
    assert protected.ask("/").status == 200
    refused = protected.ask("/api/device")
    assert (refused.status, refused.headers["www-authenticate"]) == (401, 'bearer realm="limpet"')
    assert "limpet token" in refused.error


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_token_gives_control(protected: Served, scheme: str) -> None:
    answer = protected.ask("/api/log", f"Authorization: {scheme} {TOKEN}")
    assert answer.body.decode().startswith('["anna at 127.0.0.1","CONTROL"')


def test_wrong_tokens_are_refused_and_then_slowed_down_while_the_right_one_passes(protected: Served) -> None:
    answers = {protected.ask("/v2/health/live", f"Authorization: Bearer {n}").status for n in range(13)}
    assert answers == {401, 429}
    assert protected.ask("/api/device", BEARER).status == 200


def test_on_the_unix_socket_no_token_is_needed(protected: Served) -> None:
    assert protected.ask("/api/log", unix=True).status == 200


def test_a_page_says_what_browsers_may_load_and_nothing_is_kept(open_server: Served) -> None:
    page, data = open_server.ask("/"), open_server.ask("/api/device")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["x-frame-options"] == "deny"
    assert "content-security-policy" not in data.headers
    assert (data.headers["cache-control"], data.headers["x-content-type-options"]) == ("no-store", "nosniff")


def test_a_body_of_the_largest_size_passes_and_one_byte_more_does_not(open_server: Served) -> None:
    largest = bytes(REQUEST_BYTES)
    assert open_server.ask("/v2/models/m/infer", method="POST", body=largest).body == b"%d" % REQUEST_BYTES
    refused = open_server.ask("/v2/models/m/infer", method="POST", body=largest + b"x")
    assert refused.status == 413
    assert "`request_bytes`" in refused.error


def test_a_body_without_a_length_is_counted_as_it_comes(open_server: Served) -> None:
    chunk = b"%x\r\n%b\r\n" % (50_000, bytes(50_000))
    for pieces, status in ((2, 200), (3, 413)):
        body = chunk * pieces + b"0\r\n\r\n"
        with open_server.connect() as client:
            head = "POST /v2/models/m/infer HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
            client.sendall(head.encode() + b"Connection: close\r\n\r\n" + body)
            assert read(client).status == status


def test_a_body_that_is_announced_too_large_is_refused_before_it_comes(open_server: Served) -> None:
    with open_server.connect() as client:
        client.sendall(
            b"POST /v2/models/m/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n"
        )
        assert client.recv(100).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 300_000 + b"\r\n\r\n",
        b"GET /" + b"y" * 300_000,
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 20_000,
    ],
    ids=["tls", "short", "version", "smuggling", "negative", "long header", "long path", "many headers"],
)
def test_what_is_no_sound_request_is_refused_and_the_server_goes_on(open_server: Served, sent: bytes) -> None:
    with open_server.connect() as client:
        with contextlib.suppress(OSError):  # it may be closed already
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
        assert read(client).status in {0, 400, 403, 413, 431, 505}
    assert open_server.ask("/api/device").status == 200


def test_a_websocket_is_guarded_too(open_server: Served) -> None:
    handshake = (
        "GET /api/ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    for host, first in (("localhost", b"HTTP/1.1 101"), ("evil.example", b"HTTP/1.1 403")):
        with open_server.connect() as client:
            client.sendall(handshake.format(host=host).encode())
            assert client.recv(65536).startswith(first)


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=["httptools", "h11"])
def test_connections_are_limited_and_free_again_when_clients_go(
    tmp_path: Path, protocol: Callable[..., Any]
) -> None:
    with served(tmp_path, most=4, protocol=protocol) as running:
        clients = [running.connect() for _ in range(3)]
        refused = running.connect()
        assert refused.recv(100).startswith(b"HTTP/1.1 503")
        assert running.ask("/api/log", unix=True).status == 200, "others have room left"
        for client in (*clients, refused):
            client.close()
        wait_until(lambda: running.ask("/api/device").status == 200)


def test_a_connection_that_is_reset_is_free_again(tmp_path: Path) -> None:
    with served(tmp_path, most=4) as running:
        for _ in range(12):
            client = running.connect()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.sendall(b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
            client.close()
        wait_until(lambda: running.ask("/api/device").status == 200)


def test_a_client_that_asks_too_often_is_refused_and_others_are_not(tmp_path: Path) -> None:
    with served(tmp_path, rate=2.0) as running:
        answers = [running.ask("/api/device") for _ in range(7)]
        assert [answer.status for answer in answers[:4]] == [200] * 4
        assert answers[-1].status == 429
        assert answers[-1].headers["retry-after"] == "1"
        assert running.ask("/api/device", unix=True).status == 200


def test_over_tls_a_client_certificate_stands_for_a_token(tmp_path: Path) -> None:
    ca = certificates.authority(tmp_path)
    certificate, key = certificates.certificate(ca, "device")
    own, own_key = certificates.certificate(ca, "tablet-3")
    (tmp_path / "other").mkdir()
    foreign, foreign_key = certificates.certificate(certificates.authority(tmp_path / "other"), "intruder")
    table = ApiTable(certificate=certificate, key=key, client_ca=ca)
    with served(tmp_path, protected=True, tls=files.tls(table)) as running:

        def ask(path: str, *pair: Path) -> bytes:
            context = ssl.create_default_context(cafile=str(ca))
            if pair:
                context.load_cert_chain(*pair)
            with context.wrap_socket(running.connect(), server_hostname="localhost") as client:
                client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
                return b"".join(iter(lambda: client.recv(65536), b""))

        assert b"200 OK" in ask("/v2/health/live")
        assert b"401 Unauthorized" in ask("/api/device")
        assert b'["tablet-3 at 127.0.0.1","CONTROL"' in ask("/api/log", own, own_key)
        with contextlib.suppress(OSError):  # how the end of a connection looks differs
            assert ask("/v2/health/live", foreign, foreign_key) == b""
        assert running.ask("/api/log", unix=True).status == 200, "the Unix socket has no TLS"
