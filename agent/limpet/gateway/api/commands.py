"""Commands over HTTP, with the same checks as over MQTT: ``POST /api/commands/NAME``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from limpet.contracts.commands import BUSY, LARGEST, REQUESTS, TOO_MANY
from limpet.contracts.messages import Reply
from limpet.errors import UnreadableError
from limpet.gateway.http.guard import CLIENT
from limpet.gateway.http.json_answers import JSON
from limpet.untrusted import reading
from limpet.wire.border import cleaned
from limpet.wire.gateway_records import Obey, Replied

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from limpet.gateway.access.rights import Client
    from limpet.gateway.context import Context

_LONGEST_NAME, _LONGEST_SENDER = 64, 128
_reply = msgspec.json.Decoder(Reply)


def routes(context: Context) -> list[BaseRoute]:
    """Return the routes of this module."""

    async def command(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in context.begin.commands or len(name) > _LONGEST_NAME:
            raise HTTPException(404, "`commands` in [device] does not have this command")
        client: Client = request.scope[CLIENT]
        payload = await _payload(request)
        sender = cleaned(f"{client.name}, local API", _LONGEST_SENDER)
        replied = await context.supervisor.ask(lambda number: Obey(number, name, payload, sender), Replied)
        return Response(replied.reply, status_of(name, payload, replied.reply), media_type=JSON)

    return [Route("/api/commands/{name}", command, methods=["POST"])]


def status_of(name: str, payload: bytes, reply: bytes) -> int:
    """Return the status of HTTP for a reply, whose body is the reply itself. It comes from the supervisor."""
    found = _reply.decode(reply)
    if found.ok:
        return 200
    if found.error.startswith(TOO_MANY):
        return 429
    if found.error.startswith(BUSY):
        return 503
    try:
        with reading("the payload"):
            msgspec.json.decode(payload, type=REQUESTS[name])
    except UnreadableError:
        return 400
    return 409


async def _payload(request: Request) -> bytes:
    """Return the body. Without one, a command has no options."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LARGEST:
            raise HTTPException(413, f"a command has at most {LARGEST} bytes")
    return bytes(body) or b"{}"
