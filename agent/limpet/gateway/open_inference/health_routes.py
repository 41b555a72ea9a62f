"""Whether the server is alive, and what it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from starlette.responses import Response
from starlette.routing import Route

from limpet import __version__

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute

NAME = "limpet"
EXTENSIONS = (
    "binary_tensor_data",
    "model_configuration",
    "model_repository",
    "model_repository(unload_dependents)",
    "statistics",
    "system_shared_memory",
)


class Server(msgspec.Struct):
    """The answer to ``GET /v2``."""

    name: str = NAME
    version: str = __version__
    extensions: tuple[str, ...] = EXTENSIONS


def routes() -> list[BaseRoute]:
    """Return the routes of this module."""

    async def alive(_request: Request) -> Response:
        return Response(b"{}", media_type="application/json")

    async def server(_request: Request) -> Response:
        return Response(msgspec.json.encode(Server()), media_type="application/json")

    return [Route("/v2", server), Route("/v2/health/live", alive), Route("/v2/health/ready", alive)]
