"""Attempts of clients of the local API: programs on the device, in the network, and pages of other sites."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from attack.spy import BYSTANDER
from limpet.device.unix_path import reachable
from limpet.gateway.access import tokens
from support.broker import free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from attack.ground import Ground
    from attack.report import Attempt

BORDER = "the local API"
SHARED = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory is
OTHER_USER = 4711
SECRET, ENTRY = tokens.new("anna")
TOKEN = f"Authorization: Bearer {SECRET}"
INFER = "/v2/models/calm/infer"
SECONDS = 20.0
MOST_PIPELINED = 3000


class Target(NamedTuple):
    """A gateway that needs a token over TCP."""

    ground: Ground
    port: int

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), SECONDS)

    def send(self, data: bytes, *, unix: bool = False, ends: bool = True) -> bytes:
        """Send bytes, and return what comes back. ``ends``: the client says that nothing more comes."""
        with self._unix() if unix else self.connect() as client:
            client.settimeout(SECONDS)
            with contextlib.suppress(OSError):
                client.sendall(data)
                if ends:
                    client.shutdown(socket.SHUT_WR)
            return b"".join(_received(client))

    def ask(self, path: str, *headers: str, method: str = "GET", body: bytes = b"", unix: bool = False) -> bytes:
        """Send a request and return the answer."""
        host = () if any(line.startswith("Host:") for line in headers) else ("Host: localhost",)
        lines = [f"{method} {path} HTTP/1.1", *host, f"Content-Length: {len(body)}", "Connection: close", *headers]
        return self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body, unix=unix, ends=False)

    def _unix(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        with reachable(self.ground.state / "api.sock") as path:
            client.connect(path)
        return client

    @property
    def pid(self) -> int:
        return self.ground.daemon.pid_of("limpet-api")


def _received(client: socket.socket) -> Iterator[bytes]:
    while True:
        try:
            data = client.recv(1 << 16)
        except OSError:
            return
        if not data:
            return
        yield data


def status(answer: bytes) -> int:
    """Return the status of an answer. 0 if the connection was closed without one."""
    parts = answer.split(b" ", 2)
    return int(parts[1]) if answer.startswith(b"HTTP/1.1 ") and parts[1].isdigit() else 0


def _refused(attempt: Attempt, answers: Iterable[bytes], wanted: set[int]) -> None:
    """Take note of answers, all of which must have a status of these."""
    found = sorted({status(answer) for answer in answers})
    attempt.reached = f"the gateway answered {', '.join(map(str, found))}"
    attempt.harmed("escaped", len(set(found) - wanted))


def _served(target: Target, attempt: Attempt, *, unix: bool = True) -> None:
    """See that others are served meanwhile."""
    if status(target.ask("/api/device", TOKEN, unix=unix)) != 200:
        attempt.harmed("others_lost")


# --- who may do what


def _no_token(target: Target, attempt: Attempt) -> None:
    paths = ("/api/device", "/api/log", "/metrics", "/api/stream", "/openapi.json", INFER, "/v2/repository/index")
    _refused(attempt, map(target.ask, paths), {401})


def _wrong_tokens(target: Target, attempt: Attempt) -> None:
    wrong = (f"Authorization: Bearer {SECRET[:-n] if n % 40 else n}" for n in range(1, 200))
    _refused(attempt, [target.ask("/api/device", each) for each in wrong], {401, 429})
    _served(target, attempt, unix=False)


def _cookie(login: bytes) -> str:
    """Return the cookie of an answer, as a browser sends it back."""
    return login.partition(b"set-cookie: ")[2].partition(b";")[0].decode()


def _token_elsewhere(target: Target, attempt: Attempt) -> None:
    login = target.ask("/api/login", method="POST", body=json.dumps({"token": SECRET}).encode())
    cookie = _cookie(login).partition("=")[0]
    answers = [
        target.ask(f"/api/device?token={SECRET}"),
        target.ask("/api/device", f"Cookie: {cookie}={SECRET}"),
        target.ask("/api/device", f"Authorization: Basic {SECRET}"),
        target.ask("/api/device", f"Authorization: {SECRET}"),
        target.ask("/api/device", "X-Forwarded-For: 127.0.0.1", "X-Real-IP: 127.0.0.1"),
    ]
    _refused(attempt, answers, {401})


def _path_tricks(target: Target, attempt: Attempt) -> None:
    paths = (
        "/static/../api/log",
        "/static/%2e%2e/%2e%2e/limpet.toml",
        "/static/..%2f..%2f..%2f..%2fetc/passwd",
        "/static//etc/passwd",
        "//api/log",
        "/./api/log",
        "/api/log%0a",
        "/api/log%00",
        "/api/log/",
        "/API/LOG",
        "/api/login/../log",
        "/v2/health/live/../../repository/index",
        "/v2/health/live%0a",
        "http://localhost/api/log",
        "/api/log#/v2/health/live",
        "/api/log?/v2/health/live",
        "/%61pi/log",
    )
    _refused(attempt, map(target.ask, paths), {400, 401, 403, 404})


def _rebinding(target: Target, attempt: Attempt) -> None:
    hosts = ("evil.example", f"evil.example:{target.port}", "localhost.evil.example", "127.0.0.1.evil.example", "")
    _refused(attempt, [target.ask("/api/device", TOKEN, f"Host: {host}") for host in hosts], {403})


def _other_site(target: Target, attempt: Attempt) -> None:
    login = target.ask("/api/login", method="POST", body=json.dumps({"token": SECRET}).encode())
    cookie = f"Cookie: {_cookie(login)}"
    if status(target.ask("/api/device", cookie)) != 200:
        attempt.happened = "The session did not begin."
        return
    command = "/api/commands/restart"
    body = json.dumps({"pipeline": BYSTANDER}).encode()
    upgrade = (
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )
    origin = "Origin: http://evil.example"
    answers = [
        target.ask(command, cookie, origin, method="POST", body=body),
        target.ask(command, cookie, "Origin: null", method="POST", body=body),
        target.ask(command, cookie, "Sec-Fetch-Site: cross-site", method="POST", body=body),
        target.ask("/api/device", cookie, "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"),
        target.ask("/api/ws", cookie, origin, *upgrade),
    ]
    _refused(attempt, answers, {403})


# --- too much


def _huge_tensor(target: Target, attempt: Attempt) -> None:
    inputs = {"name": "x", "shape": [1 << 31, 1 << 31], "datatype": "FP32", "data": [1]}
    huge = f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\n{TOKEN}\r\nContent-Length: {1 << 62}\r\n\r\n"
    answers = [
        target.ask(INFER, TOKEN, method="POST", body=json.dumps({"inputs": [inputs]}).encode()),
        target.ask(INFER, TOKEN, method="POST", body=bytes(20_000_000)),
        target.send(huge.encode()),
        target.ask(INFER, TOKEN, method="POST", body=b'{"inputs":' + b"[" * 1_000_000),
    ]
    _refused(attempt, answers, {0, 400, 413})


def _endless_body(target: Target, attempt: Attempt) -> None:
    head = f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\n{TOKEN}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    piece = b"%x\r\n%b\r\n" % (1 << 20, bytes(1 << 20))
    _refused(attempt, [target.send(head + piece * 40)], {0, 413})


def _long_headers(target: Target, attempt: Attempt) -> None:
    head = b"GET /api/device HTTP/1.1\r\nHost: localhost\r\n"
    answers = [
        target.send(head + b"X: " + b"y" * 10_000_000),
        target.send(head + b"X: y\r\n" * 1_000_000 + b"\r\n"),
        target.send(b"GET /" + b"y" * 10_000_000),
    ]
    _refused(attempt, answers, {0, 400, 431})


def _many_connections(target: Target, attempt: Attempt) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(500):
            with contextlib.suppress(OSError):
                stack.enter_context(target.connect())
        attempt.reached = "500 connections were made"
        _served(target, attempt)
    with contextlib.suppress(AssertionError):
        wait_until(lambda: status(target.ask("/api/device", TOKEN)) == 200, SECONDS)
    _served(target, attempt, unix=False)


def _slow_clients(target: Target, attempt: Attempt) -> None:
    with contextlib.ExitStack() as stack:
        for number in range(90):
            client = stack.enter_context(target.connect())
            client.sendall(b"POST /v2/models/x/infer HTTP/1.1\r\nHost: localhost\r\n"[: 5 + number])
        attempt.reached = "90 clients sent a part of a request"
        _served(target, attempt)
        _served(target, attempt, unix=False)


def _silent_readers(target: Target, attempt: Attempt) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            client = stack.enter_context(target.connect())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.sendall(f"GET /api/stream HTTP/1.1\r\nHost: localhost\r\n{TOKEN}\r\n\r\n".encode())
        attempt.reached = "40 clients read nothing of their stream"
        time.sleep(0.5)  # for the streams to fill
        _served(target, attempt)


def _pipelined(target: Target, attempt: Attempt) -> None:
    one = f"GET /api/device HTTP/1.1\r\nHost: localhost\r\n{TOKEN}\r\n\r\n".encode()
    with target.connect() as client:
        try:
            client.sendall(one * MOST_PIPELINED)
            attempt.reached = f"the gateway answered {status(client.recv(1 << 16))} first"
        except ConnectionError:
            attempt.reached = "the gateway closed the connection"
        _served(target, attempt)


def _no_http(target: Target, attempt: Attempt) -> None:
    sent = (
        bytes(range(256)) * 100,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(100),
        b"CONNECT evil.example:443 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\nY: b\x00\r\n\r\n",
        b"G\xc3\x88T /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
    )
    _refused(attempt, map(target.send, sent), {0, 400, 401, 403, 404, 405})


# --- shared memory


def _register(target: Target, key: str, *, unix: bool = True) -> bytes:
    body = json.dumps({"key": key, "offset": 0, "byte_size": 4}).encode()
    path = f"/v2/systemsharedmemory/region/a{uuid.uuid4().hex}/register"
    return target.ask(path, TOKEN, method="POST", body=body, unix=unix)


def _memory_of_others(target: Target, attempt: Attempt) -> None:
    place = SHARED / f"limpet-attack-{uuid.uuid4()}"
    place.write_bytes(b"abcd")
    try:
        os.chown(place, OTHER_USER, OTHER_USER)
        answers = [_register(target, f"/{place.name}", unix=unix) for unix in (True, False)]
        _refused(attempt, answers, {400, 403})
    finally:
        place.unlink()


def _no_memory(target: Target, attempt: Attempt) -> None:
    link, fifo = (SHARED / f"limpet-attack-{kind}-{uuid.uuid4()}" for kind in ("link", "fifo"))
    link.symlink_to("/etc/passwd")
    os.mkfifo(fifo)
    try:
        keys = (
            f"/{link.name}",
            f"/{fifo.name}",
            "/../../etc/passwd",
            "/",
            "/..",
            "",
            "/a/b",
            "/a\x00b",
            "x" * 5000,
        )
        _refused(attempt, [_register(target, key) for key in keys], {400, 403, 404})
    finally:
        link.unlink()
        fifo.unlink()


ATTEMPTS: dict[str, Callable[[Target, Attempt], None]] = {
    "requests without a token": _no_token,
    "200 wrong tokens": _wrong_tokens,
    "the token in the wrong place": _token_elsewhere,
    "paths that look like others": _path_tricks,
    "a name of another site for this device (DNS rebinding)": _rebinding,
    "requests of another site with the session of a person": _other_site,
    "tensors and bodies without measure": _huge_tensor,
    "a body without an end": _endless_body,
    "headers without an end": _long_headers,
    "500 connections": _many_connections,
    "90 slow clients": _slow_clients,
    "40 streams that are not read": _silent_readers,
    "3,000 requests in one go": _pipelined,
    "what is no HTTP": _no_http,
    "shared memory of somebody else": _memory_of_others,
    "files that are no shared memory": _no_memory,
}


def run(ground: Ground, names: Iterable[str] | None = None) -> None:
    """Make these attempts, all if none are named."""
    (ground.folder / "tokens").write_text(f"{ENTRY.name} {ENTRY.sha256}\n")
    port = free_port()
    target = Target(ground, port)
    ground.reload(f'[api]\nlisten = ["127.0.0.1:{port}"]\ntoken_file = "tokens"\n')
    wait_until(lambda: _answers(target))
    pid = target.pid
    for name in names or ATTEMPTS:
        with ground.attempt(name, BORDER) as attempt:
            ATTEMPTS[name](target, attempt)
            attempt.harmed("gateway_ended", int(not Path(f"/proc/{pid}").exists()))
            wait_until(lambda: _answers(target))
            pid = target.pid


def _answers(target: Target) -> bool:
    with contextlib.suppress(OSError):
        return status(target.ask("/v2/health/live")) == 200
    return False
