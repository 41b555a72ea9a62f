"""All paths below ``/v2``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet.gateway.open_inference import health_routes

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from limpet.gateway.context import Context


def routes(context: Context) -> list[BaseRoute]:
    """Return the routes of the protocol over HTTP."""
    return [*health_routes.routes(context)]
