"""The gateway's HTTP server with a small application, in a thread, on loopback and on a Unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute

from limpet.gateway.access.credentials import Credentials
from limpet.gateway.access.hosts import names_of
from limpet.gateway.http import addresses
from limpet.gateway.http.guard import CLIENT, Guard, Limits
from limpet.gateway.http.head_cache import CACHEABLE
from limpet.gateway.http.protocol import HttpProtocol
from limpet.gateway.http.server import Server
from limpet.gateway.http.slow_clients import Patience
from support.broker import free_port

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from starlette.types import Receive, Scope, Send
    from starlette.websockets import WebSocket

    from limpet.gateway.access.tokens import Token

REQUEST_BYTES = 100_000
PIECE = b"x" * 65536
DEFAULT = Patience()


class Answer(NamedTuple):
    """An answer as it came. ``closed``: the server closed the connection behind it."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> str:
        return str(json.loads(self.body)["error"])


class Served(NamedTuple):
    """Where the server listens."""

    port: int
    path: Path

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 30)

    def connect_unix(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(30)
        client.connect(str(self.path))
        return client

    def ask(
        self, target: str, *headers: str, method: str = "GET", body: bytes = b"", unix: bool = False
    ) -> Answer:
        """Send a request. Its header ``Host`` names the server, unless ``headers`` have one."""
        host = (
            ()
            if any(header.lower().startswith("host:") for header in headers)
            else (f"Host: 127.0.0.1:{self.port}",)
        )
        length = (f"Content-Length: {len(body)}",) if body else ()
        lines = [f"{method} {target} HTTP/1.1", *host, *length, "Connection: close", *headers, "", ""]
        with self.connect_unix() if unix else self.connect() as client:
            client.sendall("\r\n".join(lines).encode("latin-1") + body)
            return read(client)


def read(client: socket.socket) -> Answer:
    """Read until the server closes."""
    data = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while part := client.recv(65536):
            data += part
    head, _, body = bytes(data).partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return Answer(int(first.split()[1]) if first else 0, headers, body)


async def listen(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.receive()


class Again:
    """Answers with the size of the body, and remembers heads. An answer to one has a header ``x-again``.

    A body that begins with ``?`` goes the usual way.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await Request(scope, receive).body()
        await JSONResponse(len(body))(scope, receive, send)
        if (cacheable := scope.get(CACHEABLE)) is not None:
            cacheable.store(len(body), self.start)

    @staticmethod
    def start(body: bytes | bytearray, reply: Callable[[bytes | None], None]) -> bool:
        if body.startswith(b"?"):
            return False
        size = str(len(body)).encode()
        answer = b"HTTP/1.1 200 OK\r\nx-again: 1\r\ncontent-length: %d\r\n\r\n%b" % (len(size), size)
        asyncio.get_running_loop().call_later(0.01, reply, None if body.startswith(b"!") else answer)
        return True


def application() -> Starlette:
    """Return paths that show what passes the guard."""

    async def who(request: Request) -> Response:
        client = request.scope[CLIENT]
        return JSONResponse([client.name, client.rights.name, client.uid, client.address, client.transport])

    async def whence(request: Request) -> Response:
        assert request.client
        return JSONResponse([request.client.host, request.url.scheme])

    async def size(request: Request) -> Response:
        return JSONResponse(len(await request.body()))

    async def page(_request: Request) -> Response:
        return Response("<title>Limpet</title>", media_type="text/html")

    unfinished = set()

    async def endless(request: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            unfinished.add(request)
            try:
                while True:
                    yield PIECE
                    await asyncio.sleep(0)  # uvicorn does not wait for a client that is gone
            finally:
                unfinished.remove(request)

        return StreamingResponse(pieces())

    async def count(_request: Request) -> Response:
        return JSONResponse(len(unfinished))

    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(websocket.scope[CLIENT].name)
        await websocket.close()

    return Starlette(
        routes=[
            Route("/", page),
            Route("/api/log", who),
            Route("/api/device", who),
            Route("/v2/health/live", who),
            Route("/v2/models/m/infer", size, methods=["POST"]),
            Route("/v2/models/again/infer", Again(), methods=["POST"]),
            Route("/whence", whence),
            Route("/endless", endless),
            Route("/unfinished", count),
            WebSocketRoute("/api/ws", echo),
            WebSocketRoute("/listen", listen),
        ]
    )


@contextlib.contextmanager
def served(
    folder: Path,
    *,
    tokens: tuple[Token, ...] = (),
    protected: bool = False,
    most: int = 16,
    rate: float = 1000.0,
    tls: ssl.SSLContext | None = None,
    protocol: Callable[..., Any] = HttpProtocol,
    patience: Patience = DEFAULT,
) -> Iterator[Served]:
    """Serve until the block ends."""
    tcp, unix = addresses.listen(f"127.0.0.1:{free_port()}"), addresses.listen_at_path(folder / "api.sock")
    limits = Limits(REQUEST_BYTES, rate, names_of("Press-07.example.com", ["further"]))
    guard = Guard(application(), Credentials(tokens, protected=protected, device="press-07"), limits)
    begun, end = threading.Event(), threading.Event()

    async def run() -> None:
        server = Server(guard, most, REQUEST_BYTES, tls, protocol, patience)
        server.serve(tcp)
        server.serve(unix)
        begun.set()
        await asyncio.to_thread(end.wait)

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    assert begun.wait(20)
    try:
        yield Served(tcp.getsockname()[1], folder / "api.sock")
    finally:
        end.set()
        thread.join()
        tcp.close()
        unix.close()
