"""System shared memory over HTTP: registering regions, and listing them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta
from starlette.responses import Response
from starlette.routing import Route

from limpet.gateway.errors import RequestError
from limpet.gateway.http.guard import CLIENT
from limpet.gateway.http.json_answers import answer
from limpet.gateway.open_inference.repository_routes import json_body

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from limpet.gateway.open_inference.service import OpenInference

_SYSTEM = "/v2/systemsharedmemory"
_KEY = r"^/?[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}$"
"""For the OpenAPI document. The error of a wrong key says it in words."""


class Registration(msgspec.Struct):
    """Shared memory ``key``, and the bytes of it that make the region."""

    key: Annotated[str, Meta(max_length=256, extra_json_schema={"pattern": _KEY})]
    byte_size: Annotated[int, Meta(ge=1, le=1 << 40)]
    offset: Annotated[int, Meta(ge=0, le=1 << 40)] = 0


class RegionStatus(msgspec.Struct):
    """A region in an answer."""

    name: str
    key: str
    offset: int
    byte_size: int


def routes(protocol: OpenInference) -> list[BaseRoute]:
    """Return the routes of this module."""
    shared = protocol.shared

    async def status(request: Request) -> Response:
        found = shared.registered(_uid(request), request.path_params.get("region", ""))
        return answer([RegionStatus(one.name, one.key, one.offset, one.byte_size) for one in found])

    async def register(request: Request) -> Response:
        wanted = await json_body(request, Registration)
        shared.register(_uid(request), request.path_params["region"], wanted.key, wanted.offset, wanted.byte_size)
        return Response()

    async def unregister(request: Request) -> Response:
        shared.unregister(_uid(request), request.path_params.get("region", ""))
        return Response()

    async def no_cuda(_request: Request) -> Response:
        return answer([])

    async def refuse_cuda(_request: Request) -> Response:
        raise RequestError("invalid", "CUDA shared memory is not supported; use system shared memory")

    post = ["POST"]
    return [
        Route(f"{_SYSTEM}/status", status),
        Route(f"{_SYSTEM}/region/{{region}}/status", status),
        Route(f"{_SYSTEM}/region/{{region}}/register", register, methods=post),
        Route(f"{_SYSTEM}/region/{{region}}/unregister", unregister, methods=post),
        Route(f"{_SYSTEM}/unregister", unregister, methods=post),
        Route("/v2/cudasharedmemory/status", no_cuda),
        Route("/v2/cudasharedmemory/region/{region}/register", refuse_cuda, methods=post),
        Route("/v2/cudasharedmemory/unregister", no_cuda, methods=post),
    ]


def _uid(request: Request) -> int | None:
    uid: int | None = request.scope[CLIENT].uid
    return uid
