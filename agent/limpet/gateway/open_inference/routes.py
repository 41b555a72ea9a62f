"""All paths below ``/v2``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Route

from limpet.gateway.open_inference import health_routes, model_routes, repository_routes, shared_memory_routes
from limpet.gateway.open_inference.infer_route import InferRoute

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from limpet.gateway.open_inference.service import OpenInference


def routes(protocol: OpenInference, request_bytes: int) -> list[BaseRoute]:
    """Return the routes of the protocol over HTTP. The busiest ones come first."""
    infer = InferRoute(protocol, request_bytes)
    return [
        Route("/v2/models/{model}/infer", infer, methods=["POST"]),
        Route("/v2/models/{model}/versions/{version}/infer", infer, methods=["POST"]),
        *model_routes.routes(protocol),
        *health_routes.routes(),
        *repository_routes.routes(protocol),
        *shared_memory_routes.routes(protocol),
    ]
