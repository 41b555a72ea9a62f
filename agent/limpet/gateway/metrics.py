"""``/metrics``: the device's figures for Prometheus, measured at each request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import Route

from limpet.gateway.exposition import accepted, write
from limpet.gateway.inference_metrics import inference_families
from limpet.gateway.metric_families import families

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from limpet.gateway.context import Context


def routes(context: Context) -> list[BaseRoute]:
    """Return the routes of this module."""

    async def metrics(request: Request) -> Response:
        figures = await context.supervisor.figures()
        form = accepted(request.headers.get("accept", ""))
        found = [*families(figures), *inference_families(context.open_inference.statistics)]
        return Response(write(found, form), headers={"content-type": form.media_type})

    return [Route("/metrics", metrics)]
