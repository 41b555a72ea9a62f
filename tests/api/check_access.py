"""A daemon that the network can reach: TLS, tokens and client certificates, and the time limits as they are."""

from __future__ import annotations

import http.client
import signal
import socket
import ssl
from contextlib import closing
from typing import TYPE_CHECKING

from limpet.gateway.access import tokens
from support import certificates
from support.api_daemon import api_daemon
from support.broker import free_port, wait_until

if TYPE_CHECKING:
    from pathlib import Path


def address_of_this_machine() -> str:
    """Return an address that is not the loopback, or the loopback if there is no other. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        address: str = probe.getsockname()[0]
        return address


def status(port: int, path: str, context: ssl.SSLContext, token: str = "") -> int:
    """Send a request over TLS. 0 if no answer comes."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    connection = http.client.HTTPSConnection(address_of_this_machine(), port, timeout=20, context=context)
    with closing(connection):
        try:
            connection.request("GET", path, headers=headers)
            return connection.getresponse().status
        except OSError:
            return 0


def client_context(ca: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(ca))
    context.check_hostname = False  # the certificate is that of localhost
    return context


def test_the_network_needs_a_token_or_a_certificate_and_a_withdrawn_token_ends_with_a_reload(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "device"
    folder.mkdir()
    ca = certificates.authority(folder)
    certificate, key = certificates.certificate(ca, "device")
    plain, known = client_context(ca), client_context(ca)
    known.load_cert_chain(*certificates.certificate(ca, "tablet"))
    (anna, first), (ben, second) = tokens.new("anna"), tokens.new("ben")
    lines = [f"{each.name} {each.sha256}\n" for each in (first, second)]
    (folder / "api-tokens").write_text("".join(lines))
    api = f'certificate = "{certificate.name}"\nkey = "{key.name}"\nclient_ca = "{ca.name}"'
    with api_daemon(folder, api=f'token_file = "api-tokens"\n{api}') as running:
        port = free_port()
        path = running.daemon.path
        path.write_text(path.read_text().replace(f"127.0.0.1:{running.port}", f"0.0.0.0:{port}"))
        running.daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: status(port, "/v2/health/live", plain) == 200)
        assert status(port, "/api/device", plain) == 401
        assert status(port, "/api/device", plain, "wrong") == 401
        assert [status(port, "/api/log", plain, token) for token in (anna, ben)] == [200, 200]
        assert status(port, "/api/log", known) == 200
        (folder / "api-tokens").write_text(lines[0])
        running.daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: status(port, "/api/device", plain, ben) == 401)
        wait_until(lambda: status(port, "/api/device", plain, anna) == 200)
        with socket.create_connection((address_of_this_machine(), port), 20) as silent:
            silent.settimeout(40)
            assert silent.recv(1) == b"", "a client that does not begin with TLS is kept"


def test_a_client_that_sends_half_a_request_is_answered_and_closed(tmp_path: Path) -> None:
    with api_daemon(tmp_path) as running, socket.create_connection(("127.0.0.1", running.port), 20) as slow:
        slow.settimeout(40)
        slow.sendall(b"GET /api/device HTTP/1.1\r\nHost: local")
        assert slow.recv(65536).startswith(b"HTTP/1.1 408")
        assert running.request("/api/device").status == 200
