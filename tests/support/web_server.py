"""An HTTP(S) server and a proxy of a few lines, which tests have misbehave as they like."""

from __future__ import annotations

import re
import socket
import ssl
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from support.tcp import Server, pump

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


class Request(NamedTuple):
    """What a client sent. Names of ``headers`` are in small letters."""

    method: str
    target: str
    headers: Mapping[str, str]

    @property
    def range(self) -> tuple[int, int] | None:
        """The first byte that is asked for, and the first one behind them."""
        found = re.fullmatch(r"bytes=([0-9]+)-([0-9]+)", self.headers.get("range", ""))
        return (int(found[1]), int(found[2]) + 1) if found else None


class WebServer:
    """Serves ``files`` by path, with ranges and ETags. A rule that returns ``True`` has answered in its place."""

    def __init__(self, files: Mapping[str, bytes] | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.files = dict(files or {})
        self.etag = '"one"'
        self.requests: list[Request] = []
        self.rule: Callable[[Request, socket.socket], bool] = lambda *_: False
        self._tls = tls
        self._server = Server(self._serve)
        self.port = self._server.port

    def url(self, path: str = "/bundle", host: str = "127.0.0.1") -> str:
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}{path}"

    def close(self) -> None:
        self._server.close()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError):
            if self._tls:
                client = self._tls.wrap_socket(client, server_side=True)
            request = read_request(client)
            if request:
                self.requests.append(request)
                if not self.rule(request, client):
                    self._answer(request, client)
            client.shutdown(socket.SHUT_RDWR)
        client.close()

    def _answer(self, request: Request, client: socket.socket) -> None:
        content = self.files.get(request.target.partition("?")[0])
        if content is None:
            client.sendall(answer(404))
            return
        same = request.headers.get("if-range", self.etag) == self.etag
        if request.range and same:
            begin, end = request.range
            client.sendall(part(content, begin, end, ETag=self.etag))
        else:
            client.sendall(answer(200, content, ETag=self.etag))


def read_request(client: socket.socket) -> Request | None:
    """Return what a client asks for, ``None`` if it goes away before."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = client.recv(65536)
        if not more:
            return None
        data += more
    first, *lines = data.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    pairs = (line.partition(":") for line in lines)
    return Request(method, target, {name.strip().lower(): value.strip() for name, _, value in pairs})


def head(status: int, **headers: object) -> bytes:
    """Return the head of an answer. ``_`` in the names stands for ``-``."""
    lines = [f"HTTP/1.1 {status} Whatever", *(f"{name.replace('_', '-')}: {headers[name]}" for name in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def answer(status: int, body: bytes = b"", **headers: object) -> bytes:
    """Return a whole answer."""
    return head(status, **{"Content_Length": len(body), **headers}) + body


def part(content: bytes, begin: int, end: int, **headers: object) -> bytes:
    """Return the answer to a request for a range."""
    return answer(206, content[begin:end], Content_Range=f"bytes {begin}-{end - 1}/{len(content)}", **headers)


class Proxy:
    """An HTTP proxy: takes CONNECT, and requests with a whole URL. ``targets`` is what it was asked for."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self._server = Server(self._serve)
        self.port = self._server.port
        self.url = f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._server.close()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError):
            request = read_request(client)
            if not request:
                return
            self.requests.append(request)
            if request.method == "CONNECT":
                host, _, port = request.target.rpartition(":")
                upstream = socket.create_connection((host, int(port)))
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            else:
                host, _, rest = request.target.removeprefix("http://").partition("/")
                name, _, port = host.partition(":")
                upstream = socket.create_connection((name, int(port or 80)))
                lines = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
                upstream.sendall(f"{request.method} /{rest} HTTP/1.1\r\n{lines}\r\n".encode())
            back = threading.Thread(target=pump, args=(upstream, client), daemon=True)
            back.start()
            pump(client, upstream)
            back.join()
            upstream.close()


def tls_server(certificate: Path, key: Path, clients: Path | None = None) -> ssl.SSLContext:
    """Return a server's side of TLS. ``clients``: the authority whose certificates clients must show."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    if clients:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients)
    return context
