"""The model repository over HTTP: which models there are, and loading those of the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from starlette.responses import Response
from starlette.routing import Route

from limpet.errors import UnreadableError
from limpet.gateway.errors import RequestError
from limpet.gateway.http.json_answers import answer
from limpet.gateway.open_inference.descriptions import indexed
from limpet.gateway.open_inference.infer_route import whole_body
from limpet.untrusted import reading
from limpet.wire.gateway_records import Version

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from limpet.gateway.open_inference.service import OpenInference

R = TypeVar("R", bound=msgspec.Struct)

LARGEST = 1 << 16
"""Bytes of a request that has no tensors."""


class IndexRequest(msgspec.Struct):
    """``ready``: only models that can be used now."""

    ready: bool | None = None


class LoadParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``version``: of the model. Limpet loads models of its store alone, so neither files nor settings can come.

    ``unload_dependents`` changes nothing: no model depends on another.
    """

    version: Version | None = None
    unload_dependents: bool | None = None


class LoadRequest(msgspec.Struct):
    """Load or unload a model."""

    parameters: LoadParameters | None = None

    @property
    def version(self) -> int | None:
        """The version that is wanted. ``None`` for the newest."""
        return self.parameters.version if self.parameters else None


def routes(protocol: OpenInference) -> list[BaseRoute]:
    """Return the routes of this module."""

    async def index(request: Request) -> Response:
        wanted = await json_body(request, IndexRequest)
        return answer(indexed(await protocol.index(), ready=bool(wanted.ready)))

    async def load(request: Request) -> Response:
        wanted = await json_body(request, LoadRequest)
        await protocol.models.load(request.path_params["model"], wanted.version)
        return Response()

    async def unload(request: Request) -> Response:
        wanted = await json_body(request, LoadRequest)
        await protocol.models.unload(request.path_params["model"], wanted.version)
        return Response()

    return [
        Route("/v2/repository/index", index, methods=["POST"]),
        Route("/v2/repository/models/{model}/load", load, methods=["POST"]),
        Route("/v2/repository/models/{model}/unload", unload, methods=["POST"]),
    ]


async def json_body(request: Request, kind: type[R]) -> R:
    """Return the body of a request, or the defaults if it is empty. ``RequestError`` if it is no such thing."""
    body: Any = await whole_body(request.receive, LARGEST)
    try:
        with reading("the body"):
            return msgspec.json.decode(body or b"{}", type=kind)
    except UnreadableError as error:
        raise RequestError("invalid", str(error)) from error
