"""The device and its pipelines as JSON, below ``/api``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from starlette.responses import Response
from starlette.routing import Route

from limpet.wire.gateway_records import Figures, GetFigures

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from limpet.gateway.context import Context


def routes(context: Context) -> list[BaseRoute]:
    """Return the routes of this module."""

    async def device(_request: Request) -> Response:
        figures = await context.supervisor.ask(GetFigures, Figures)
        return Response(msgspec.json.encode(figures.device), media_type="application/json")

    return [Route("/api/device", device)]
