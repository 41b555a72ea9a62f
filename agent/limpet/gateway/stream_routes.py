"""What happens on the device, as it happens: server-sent events and WebSocket, with the same messages."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocketDisconnect

from limpet.contracts.api import Kind
from limpet.gateway.access import Rights
from limpet.gateway.device_routes import no_pipeline
from limpet.gateway.json_answers import query

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.requests import HTTPConnection, Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute
    from starlette.websockets import WebSocket

    from limpet.gateway.context import Context
    from limpet.gateway.feed import Feed, Item, Subscription

KEEP_ALIVE = 15.0
"""Seconds without a message after which a comment is sent, so that no proxy takes the stream for dead."""
UNASKED: frozenset[str] = frozenset({"log"})
"""Kinds that only those get who ask for them, and who may."""
TAKES_NOTHING = 1008
"""Code with which a WebSocket is closed whose client sends something, see RFC 6455: a policy."""
_COMMENT = b":\n\n"


class StreamQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Which messages a client wants. Empty: all of them, but no lines of the log."""

    pipeline: list[str] = []
    kind: list[Kind] = []


def routes(context: Context) -> list[BaseRoute]:
    """Return the routes of this module."""

    async def stream(request: Request) -> Response:
        wants = await _wanted(context, request)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(_events(context.feed, wants), 200, headers, "text/event-stream")

    async def websocket(socket: WebSocket) -> None:
        wants = await _wanted(context, socket)
        await socket.accept()
        with context.feed.subscribe(wants) as subscription:
            await _serve(socket, subscription)

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
    if "log" in wanted.kind and connection.scope["limpet.client"].rights < Rights.CONTROL:
        raise HTTPException(403, "the log is for clients that may control this device")
    if wanted.pipeline:
        figures = await context.supervisor.figures()
        names = [health.pipeline for health in figures.pipelines]
        for name in wanted.pipeline:
            if name not in names:
                raise HTTPException(404, no_pipeline(name, names))
    return filter_of(wanted)


async def _events(feed: Feed, wants: Callable[[Item], bool]) -> AsyncIterator[bytes]:
    """Yield server-sent events until the client is gone."""
    with feed.subscribe(wants) as subscription:
        while True:
            try:
                items = await asyncio.wait_for(subscription.read(), KEEP_ALIVE)
            except asyncio.TimeoutError:
                yield _COMMENT
            else:
                yield b"".join(b"data: %b\n\n" % item.line for item in items)


async def _serve(socket: WebSocket, subscription: Subscription) -> None:
    """Send messages until the client is gone, or sends something."""
    sending = asyncio.ensure_future(_send(socket, subscription))
    hearing = asyncio.ensure_future(socket.receive())
    try:
        await asyncio.wait({sending, hearing}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        sending.cancel()
        hearing.cancel()
        with suppress(asyncio.CancelledError, WebSocketDisconnect):
            await sending
    if not hearing.cancelled() and hearing.result()["type"] == "websocket.receive":
        await socket.close(TAKES_NOTHING, "this stream takes no messages")


async def _send(socket: WebSocket, subscription: Subscription) -> None:
    while True:
        for item in await subscription.read():
            await socket.send_text(item.line.decode())
