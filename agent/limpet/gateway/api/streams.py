"""What happens on the device, as it happens: server-sent events and WebSocket, with the same messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from time import monotonic
from typing import TYPE_CHECKING

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocketDisconnect

from limpet.contracts.api import Kind
from limpet.gateway.access.credentials import WrongTokenError
from limpet.gateway.access.rights import Rights, client_of
from limpet.gateway.api.device import no_pipeline
from limpet.gateway.http.guard import CLIENT
from limpet.gateway.http.json_answers import query

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.requests import HTTPConnection, Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute
    from starlette.types import Receive, Scope, Send
    from starlette.websockets import WebSocket

    from limpet.gateway.access.credentials import Credentials
    from limpet.gateway.access.rights import Client
    from limpet.gateway.context import Context
    from limpet.gateway.feed import Item

PULSE = 10.0
"""Seconds without a message after which an event ``pulse`` is sent, so that no proxy takes the stream for dead.

A browser shows it to a page, but no comment: so the page notices a dead connection. So often it is also looked
whether the client's session still exists.
"""
UNASKED: frozenset[str] = frozenset({"log"})
"""Kinds that only those get who ask for them, and who may."""
POLICY = 1008
"""Code with which a WebSocket is closed whose client sends something, or whose session ended. See RFC 6455."""
_PULSE = b"event: pulse\ndata:\n\n"


class StreamQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Which messages a client wants. Empty: all of them, but no lines of the log."""

    pipeline: list[str] = []
    kind: list[Kind] = []


def routes(context: Context) -> list[BaseRoute]:
    """Return the routes of this module."""

    async def stream(request: Request) -> Response:
        wants = await _wanted(context, request)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return _EventStream(_events(_batches(context, request, wants)), 200, headers, "text/event-stream")

    async def websocket(socket: WebSocket) -> None:
        wants = await _wanted(context, socket)
        await socket.accept()
        await _serve(socket, _batches(context, socket, wants))

    return [Route("/api/stream", stream), WebSocketRoute("/api/ws", websocket)]


def filter_of(wanted: StreamQuery) -> Callable[[Item], bool]:
    """Return which messages a client wants."""
    pipelines, kinds = frozenset(wanted.pipeline), frozenset(wanted.kind)

    def wants(item: Item) -> bool:
        right_kind = item.kind in kinds if kinds else item.kind not in UNASKED
        return right_kind and (not pipelines or not pipelines.isdisjoint(item.pipelines))

    return wants


async def _wanted(context: Context, connection: HTTPConnection) -> Callable[[Item], bool]:
    """Return which messages a client wants. ``HTTPException`` if it may not have them, or if they do not exist."""
    wanted = query(connection.query_params, StreamQuery)
    if "log" in wanted.kind and connection.scope[CLIENT].rights < Rights.CONTROL:
        raise HTTPException(403, "the log is for clients that may control this device")
    if wanted.pipeline:
        figures = await context.supervisor.figures()
        names = [health.pipeline for health in figures.pipelines]
        for name in wanted.pipeline:
            if name not in names:
                raise HTTPException(404, no_pipeline(name, names))
    return filter_of(wanted)


async def _batches(
    context: Context, connection: HTTPConnection, wants: Callable[[Item], bool]
) -> AsyncGenerator[list[Item], None]:
    """Yield messages as they come, and an empty list if none come for a while. The client's session ends it."""
    look_at = monotonic() + PULSE
    with context.feed.subscribe(wants) as subscription:
        while True:
            try:
                items = await asyncio.wait_for(subscription.read(), PULSE)
            except asyncio.TimeoutError:
                items = []
            if monotonic() >= look_at:
                if not _may_go_on(context.credentials, connection):
                    return
                look_at = monotonic() + PULSE
            yield items


def _may_go_on(credentials: Credentials, connection: HTTPConnection) -> bool:
    """Whether a client has the rights that it began with. A session may have ended."""
    client: Client = connection.scope[CLIENT]
    try:
        name = credentials.of_headers(client.connection, connection.headers)
    except WrongTokenError:
        return False
    return client_of(client.connection, name, protected=credentials.protected).rights >= client.rights


async def _events(batches: AsyncGenerator[list[Item], None]) -> AsyncIterator[bytes]:
    """Yield server-sent events until the client's session ends."""
    async with aclosing(batches):
        async for items in batches:
            yield b"".join(b"data: %b\n\n" % item.line for item in items) or _PULSE


class _EventStream(StreamingResponse):
    """Ends the subscription as soon as the client is gone, also if it did not read."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert isinstance(self.body_iterator, AsyncGenerator)
        async with aclosing(self.body_iterator):
            await super().__call__(scope, receive, send)


async def _serve(socket: WebSocket, batches: AsyncGenerator[list[Item], None]) -> None:
    """Send messages until the client is gone, sends something, or has no session any more."""
    sending = asyncio.ensure_future(_send(socket, batches))
    hearing = asyncio.ensure_future(socket.receive())
    try:
        await asyncio.wait({sending, hearing}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        sending.cancel()
        with suppress(asyncio.CancelledError, WebSocketDisconnect):
            await sending
    if not hearing.done():
        hearing.cancel()
        await socket.close(POLICY, "the session ended")
    elif hearing.result()["type"] == "websocket.receive":
        await socket.close(POLICY, "this stream takes no messages")


async def _send(socket: WebSocket, batches: AsyncGenerator[list[Item], None]) -> None:
    async with aclosing(batches):
        async for items in batches:
            for item in items:
                await socket.send_text(item.line.decode())
