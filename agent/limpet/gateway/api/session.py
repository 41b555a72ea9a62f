"""Who a client is, and sessions of browsers: ``/api/session``, ``/api/login``, ``/api/logout``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from limpet.contracts.api import SessionView
from limpet.gateway.access.credentials import TooManyWrongError, WrongTokenError
from limpet.gateway.access.rights import Rights
from limpet.gateway.access.sessions import SECONDS
from limpet.gateway.http.guard import CLIENT
from limpet.gateway.http.json_answers import answer

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from limpet.gateway.access.rights import Client
    from limpet.gateway.context import Context
    from limpet.wire.gateway_records import Begin

LARGEST_LOGIN = 1024
"""Bytes of the body of a login."""
_LOG_IN = "Log in with a token."
_CANNOT_LOG_IN = "The device has no token. Configure `token_file`, and run: limpet token NAME"


class Login(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a login."""

    token: str


def routes(context: Context) -> list[BaseRoute]:
    """Return the routes of this module."""
    credentials, begin = context.credentials, context.begin

    async def session(request: Request) -> Response:
        client: Client = request.scope[CLIENT]
        return answer(
            view(client, begin, can_log_in=credentials.has_tokens, logged_in=credentials.cookie in request.cookies)
        )

    async def login(request: Request) -> Response:
        client: Client = request.scope[CLIENT]
        if not credentials.has_tokens:
            raise HTTPException(409, _CANNOT_LOG_IN)
        token = await _token(request)
        try:
            secret = credentials.log_in(client.connection, token)
        except TooManyWrongError as error:
            raise HTTPException(429, str(error), {"Retry-After": "10"}) from error
        except WrongTokenError as error:
            raise HTTPException(403, str(error)) from error
        response = Response(status_code=204)
        response.set_cookie(
            credentials.cookie,
            secret,
            max_age=SECONDS,
            secure=request.scope["scheme"] == "https" or request.headers.get("origin", "").startswith("https://"),
            httponly=True,
            samesite="strict",
        )
        return response

    async def logout(request: Request) -> Response:
        credentials.log_out(request.headers)
        response = Response(status_code=204)
        response.delete_cookie(credentials.cookie, httponly=True, samesite="strict")
        return response

    return [
        Route("/api/session", session),
        Route("/api/login", login, methods=["POST"]),
        Route("/api/logout", logout, methods=["POST"]),
    ]


def view(client: Client, begin: Begin, *, can_log_in: bool, logged_in: bool) -> SessionView:
    """Return what a client may do. A client without rights does not see which device this is."""
    sees = client.rights >= Rights.VIEW
    controls = client.rights >= Rights.CONTROL
    return SessionView(
        device=begin.origin.device if sees else "",
        version=begin.origin.version if sees else "",
        view=sees,
        control=controls,
        login=can_log_in,
        logged_in=controls and logged_in,
        commands=list(begin.commands) if controls else [],
        reason="" if controls else _LOG_IN if can_log_in else _CANNOT_LOG_IN,
    )


async def _token(request: Request) -> str:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_LOGIN:
            raise HTTPException(413, f"a login has at most {LARGEST_LOGIN} bytes")
    try:
        return msgspec.json.decode(body, type=Login).token
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise HTTPException(400, f'send {{"token": "..."}}: {error}') from error
