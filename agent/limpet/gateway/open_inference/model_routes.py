"""Models over HTTP: what they are, whether they are ready, and what clients had them do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.routing import Route

from limpet.gateway.errors import RequestError
from limpet.gateway.http.json_answers import answer
from limpet.gateway.open_inference.descriptions import Ready, configuration, metadata, statistics
from limpet.wire.border import cleaned

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from limpet.gateway.open_inference.service import OpenInference


def routes(protocol: OpenInference) -> list[BaseRoute]:
    """Return the routes of this module."""

    async def described(request: Request) -> Response:
        name, version = which(request)
        return answer(metadata(name, await protocol.versions(name), *await protocol.describe(name, version)))

    async def configured(request: Request) -> Response:
        name, version = which(request)
        return answer(configuration(name, *await protocol.describe(name, version)))

    async def ready(request: Request) -> Response:
        name, version = which(request)
        found = await protocol.find(name, version)
        if not found.ready:
            raise RequestError("busy", f'model "{name}" is not ready: {cleaned(found.reason)}')
        return answer(Ready(name))

    async def all_counted(_request: Request) -> Response:
        return answer(statistics(protocol.statistics))

    async def counted(request: Request) -> Response:
        name, version = which(request)
        await protocol.find(name, version)
        found = {
            key: one for key, one in protocol.statistics.items() if key[0] == name and version in ("", key[1])
        }
        return answer(statistics(found))

    return [
        Route("/v2/models/stats", all_counted),
        *_both("", described),
        *_both("/config", configured),
        *_both("/ready", ready),
        *_both("/stats", counted),
    ]


def which(request: Request) -> tuple[str, str]:
    """Return name and version of the model in a path; an empty version for the one that runs."""
    return request.path_params["model"], request.path_params.get("version", "")


def _both(end: str, endpoint: Any) -> list[BaseRoute]:
    """Return routes with and without a version."""
    return [
        Route(f"/v2/models/{{model}}{end}", endpoint),
        Route(f"/v2/models/{{model}}/versions/{{version}}{end}", endpoint),
    ]
