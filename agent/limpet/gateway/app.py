"""All paths of the HTTP server. Each part has a module with its routes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette

from limpet.gateway import (
    command_routes,
    device_routes,
    metrics,
    openapi,
    page_routes,
    recent_routes,
    session_routes,
    stream_routes,
)
from limpet.gateway.json_answers import HANDLERS
from limpet.gateway.open_inference import routes as open_inference

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from limpet.gateway.context import Context


def app(context: Context) -> ASGIApp:
    """Return the application."""
    return Starlette(
        routes=[
            *open_inference.routes(context.open_inference, context.begin.table.request_bytes),
            *command_routes.routes(context),
            *device_routes.routes(context),
            *stream_routes.routes(context),
            *recent_routes.routes(context),
            *metrics.routes(context),
            *openapi.routes(context),
            *page_routes.routes(context),
            *session_routes.routes(context),
        ],
        exception_handlers=HANDLERS,
    )
