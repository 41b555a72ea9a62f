"""All paths of the HTTP server. Each part has a module with its routes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette

from limpet.gateway import page_routes
from limpet.gateway.api import commands, device, openapi, recent, session, streams
from limpet.gateway.http.json_answers import HANDLERS
from limpet.gateway.metrics import routes as metrics
from limpet.gateway.open_inference import routes as open_inference

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from limpet.gateway.context import Context


def app(context: Context) -> ASGIApp:
    """Return the application."""
    return Starlette(
        routes=[
            *open_inference.routes(context.open_inference, context.begin.table.request_bytes),
            *commands.routes(context),
            *device.routes(context),
            *streams.routes(context),
            *recent.routes(context),
            *metrics.routes(context),
            *openapi.routes(context),
            *page_routes.routes(context),
            *session.routes(context),
        ],
        exception_handlers=HANDLERS,
    )
