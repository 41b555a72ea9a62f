"""The device and its pipelines as JSON, below ``/api``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from limpet.contracts.api import PipelineView
from limpet.contracts.fields import NAME_PATTERN
from limpet.gateway.http.json_answers import answer, query
from limpet.wire.gateway_records import (
    MOST_RECENT,
    Figures,
    GetPicture,
    GetRecent,
    Picture,
    Recent,
)

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from limpet.gateway.context import Context
    from limpet.gateway.link import SupervisorLink


NAME = re.compile(NAME_PATTERN)


class LastQuery(msgspec.Struct, forbid_unknown_fields=True):
    """``last``: how many at most, the newest."""

    last: Annotated[int, Meta(ge=1, le=MOST_RECENT)] = 20


class NoQuery(msgspec.Struct, forbid_unknown_fields=True):
    """A path without parameters."""


def routes(context: Context) -> list[BaseRoute]:
    """Return the routes of this module."""
    supervisor = context.supervisor

    async def device(request: Request) -> Response:
        query(request.query_params, NoQuery)
        return answer((await supervisor.figures()).device)

    async def pipelines(request: Request) -> Response:
        query(request.query_params, NoQuery)
        return answer(views(await supervisor.figures()))

    async def pipeline(request: Request) -> Response:
        query(request.query_params, NoQuery)
        return answer(await _view(supervisor, request))

    async def results(request: Request) -> Response:
        most = query(request.query_params, LastQuery).last
        name = _name(request)
        recent = await supervisor.ask(lambda number: GetRecent(number, name, most), Recent)
        return answer([msgspec.Raw(result) for result in recent.results])

    async def picture(request: Request) -> Response:
        query(request.query_params, NoQuery)
        name = _name(request)
        drawn = await supervisor.ask(lambda number: GetPicture(number, name), Picture)
        if not drawn.jpeg:
            raise HTTPException(404, f'pipeline "{name}" has no picture: {drawn.problem}')
        return Response(drawn.jpeg, media_type="image/jpeg", headers={"Cache-Control": "no-store"})

    return [
        Route("/api/device", device),
        Route("/api/pipelines", pipelines),
        Route("/api/pipelines/{pipeline}", pipeline),
        Route("/api/pipelines/{pipeline}/results", results),
        Route("/api/pipelines/{pipeline}/picture.jpg", picture),
    ]


def views(figures: Figures) -> list[PipelineView]:
    """Return each pipeline with the model that it runs."""
    models = {model.pipeline: model for model in figures.models}
    return [PipelineView(health=health, model=models.get(health.pipeline)) for health in figures.pipelines]


def _name(request: Request) -> str:
    """Return the pipeline that a path names, if it can be one: the supervisor takes no other names."""
    name: str = request.path_params["pipeline"]
    if not NAME.fullmatch(name):
        raise HTTPException(404, f"{name[:64]!a} is no name of a pipeline")
    return name


async def _view(supervisor: SupervisorLink, request: Request) -> PipelineView:
    """Return the pipeline that a path names."""
    wanted = request.path_params["pipeline"]
    found = views(await supervisor.figures())
    for view in found:
        if view.health.pipeline == wanted:
            return view
    raise HTTPException(404, no_pipeline(wanted, [view.health.pipeline for view in found]))


def no_pipeline(wanted: str, names: list[str]) -> str:
    """Return the error for a name that no pipeline has."""
    return f"no pipeline has the name {wanted[:64]!a}; the pipelines are: {', '.join(sorted(names)) or 'none'}"
