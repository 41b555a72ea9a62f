"""What the stream begins with, for clients that want no stream: the last events, and the last lines of the log."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
from starlette.routing import Route

from limpet.gateway.api.device import LastQuery
from limpet.gateway.http.json_answers import answer, query

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from limpet.gateway.context import Context
    from limpet.gateway.feed import Feed, Item, Subscription

PATIENCE = 2.0
"""Seconds to wait for the start of the stream, if no client has one."""
QUIET = 0.1
"""Seconds without a further message after which the start is over."""
_STATE = frozenset({"health", "model", "input"})
"""Kinds that are at the start of each stream. Events come before them, and lines of the log after them."""


class _Line(msgspec.Struct):
    """What is read of a message."""

    message: msgspec.Raw


_line = msgspec.json.Decoder(_Line)


def routes(context: Context) -> list[BaseRoute]:
    """Return the routes of this module."""

    async def events(request: Request) -> Response:
        most = query(request.query_params, LastQuery).last
        return answer(await _last(context.feed, "event", most))

    async def log(request: Request) -> Response:
        most = query(request.query_params, LastQuery).last
        return answer(await _last(context.feed, "log", most))

    return [Route("/api/events", events), Route("/api/log", log)]


async def _last(feed: Feed, kind: str, most: int) -> list[msgspec.Raw]:
    """Return the last messages of a kind, oldest first."""
    found: list[Item] = []
    wanted = _STATE | {kind}
    # A daemon without a pipeline has nothing else to say.
    with feed.subscribe(lambda item: item.kind in wanted) as subscription, suppress(asyncio.TimeoutError):
        await asyncio.wait_for(_read_begin(subscription, found), PATIENCE)
    return [_line.decode(item.line).message for item in found if item.kind == kind][-most:]


async def _read_begin(subscription: Subscription, found: list[Item]) -> None:
    while not any(item.kind in _STATE for item in found):
        found += await subscription.read()
    with suppress(asyncio.TimeoutError):
        while True:
            found += await asyncio.wait_for(subscription.read(), QUIET)
