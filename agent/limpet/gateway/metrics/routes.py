"""``/metrics``: the device's figures for Prometheus, as they are now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import Route

from limpet.gateway.metrics.exposition import accepted, write
from limpet.gateway.metrics.families import families
from limpet.gateway.metrics.inference import inference_families

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from limpet.gateway.context import Context
    from limpet.gateway.metrics.exposition import Format
    from limpet.gateway.open_inference.statistics import ModelStatistics
    from limpet.wire.gateway_records import Figures


class Page:
    """The text, written once for all clients that get the same figures: a flood of them takes no more time."""

    def __init__(self, statistics: Mapping[tuple[str, str], ModelStatistics]) -> None:
        """``statistics``: what clients had models do."""
        self._statistics = statistics
        self._figures: Figures | None = None
        self._texts: dict[Format, bytes] = {}

    def text(self, figures: Figures, form: Format) -> bytes:
        """Return the metrics in a format."""
        if figures is not self._figures:
            self._figures, self._texts = figures, {}
        if form not in self._texts:
            self._texts[form] = write([*families(figures), *inference_families(self._statistics)], form)
        return self._texts[form]


def routes(context: Context) -> list[BaseRoute]:
    """Return the routes of this module."""
    page = Page(context.open_inference.statistics)

    async def metrics(request: Request) -> Response:
        form = accepted(request.headers.get("accept", ""))
        text = page.text(await context.supervisor.figures(), form)
        return Response(text, headers={"content-type": form.media_type})

    return [Route("/metrics", metrics)]
