"""What a client can do over HTTP, one entry for each path and method: the OpenAPI document is made from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from limpet.contracts.api import PipelineView, SessionView
from limpet.contracts.commands import REQUESTS
from limpet.contracts.messages import DeviceHealth, EventMessage, LogMessage, Reply, ResultMessage
from limpet.gateway.api.device import LastQuery, NoQuery
from limpet.gateway.api.session import Login
from limpet.gateway.api.streams import StreamQuery
from limpet.gateway.open_inference.descriptions import (
    Indexed,
    ModelConfiguration,
    ModelMetadata,
    Ready,
    Statistics,
)
from limpet.gateway.open_inference.health_routes import Server
from limpet.gateway.open_inference.json_requests import JsonAnswer, JsonRequest
from limpet.gateway.open_inference.repository_routes import IndexRequest, LoadRequest
from limpet.gateway.open_inference.shared_memory_routes import RegionStatus, Registration

if TYPE_CHECKING:
    from collections.abc import Iterator

JSON, JPEG, EVENTS, TEXT = "application/json", "image/jpeg", "text/event-stream", "text/plain"
OPEN_METRICS = "application/openmetrics-text"
PIPELINE = "/api/pipelines/{pipeline}"
REGIONS = "/v2/systemsharedmemory"


class Media:
    """Content that is no JSON, in one of these media types."""

    def __init__(self, *kinds: str) -> None:
        self.kinds = kinds


class Operation(NamedTuple):
    """A method of a path.

    ``query``: the struct of its parameters. ``body`` and ``answer``: types of JSON, or media. ``answer`` is
    ``None`` if it has no content. ``status``: of success. ``optional``: the request may have no body.
    """

    path: str
    tag: str
    summary: str
    answer: Any
    query: type[msgspec.Struct] = NoQuery
    body: Any = None
    method: Literal["get", "post"] = "get"
    status: int = 200
    optional: bool = False


def operations() -> Iterator[Operation]:
    """Yield all of them but the page and WebSockets, which OpenAPI does not have."""
    yield from _device()
    yield from _others()
    yield from _sessions()
    yield from _models()
    yield from _repository()
    yield from _shared_memory()


def _device() -> Iterator[Operation]:
    yield Operation("/api/device", "device", "Health of the device, measured now", DeviceHealth)
    yield Operation("/api/pipelines", "device", "All pipelines", list[PipelineView])
    yield Operation(PIPELINE, "device", "Health of a pipeline, and the model that it runs", PipelineView)
    yield Operation(
        f"{PIPELINE}/results", "device", "Its last results, oldest first", list[ResultMessage], LastQuery
    )
    yield Operation(f"{PIPELINE}/picture.jpg", "device", "Its last result, drawn on the picture", Media(JPEG))
    yield Operation("/api/events", "device", "The last events, oldest first", list[EventMessage], LastQuery)
    yield Operation("/api/log", "device", "The last lines of the log, oldest first", list[LogMessage], LastQuery)


def _others() -> Iterator[Operation]:
    yield Operation(
        "/api/stream", "streams", "Messages as they come, as server-sent events", Media(EVENTS), StreamQuery
    )
    for name, request in REQUESTS.items():
        optional = not any(field.required for field in msgspec.structs.fields(request))
        path = f"/api/commands/{name}"
        yield Operation(
            path, "commands", f"The command {name}", Reply, body=request, method="post", optional=optional
        )
    yield Operation("/metrics", "metrics", "Figures for Prometheus", Media(TEXT, OPEN_METRICS))
    yield Operation("/openapi.json", "documentation", "This document", dict[str, Any])


def _sessions() -> Iterator[Operation]:
    yield Operation("/api/session", "sessions", "What this client may do", SessionView)
    yield Operation(
        "/api/login", "sessions", "Exchange a token for a cookie", None, body=Login, method="post", status=204
    )
    yield Operation("/api/logout", "sessions", "End the session of the cookie", None, method="post", status=204)


def _models() -> Iterator[Operation]:
    tag = "inference"
    yield Operation("/v2", tag, "The server and its extensions", Server)
    yield Operation("/v2/health/live", tag, "Whether the server is alive", dict[str, Any])
    yield Operation("/v2/health/ready", tag, "Whether the server is ready", dict[str, Any])
    yield Operation("/v2/models/stats", tag, "Statistics of all models", Statistics)
    for model in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        yield Operation(model, tag, "Inputs and outputs of a model", ModelMetadata)
        yield Operation(f"{model}/ready", tag, "Whether a model is ready", Ready)
        yield Operation(f"{model}/config", tag, "Configuration of a model", ModelConfiguration)
        yield Operation(f"{model}/stats", tag, "Statistics of a model", Statistics)
        yield Operation(f"{model}/infer", tag, "Run a model", JsonAnswer, body=JsonRequest, method="post")


def _repository() -> Iterator[Operation]:
    tag = "repository"
    yield Operation(
        "/v2/repository/index",
        tag,
        "Models that can be used",
        list[Indexed],
        body=IndexRequest,
        method="post",
        optional=True,
    )
    for what in ("load", "unload"):
        yield Operation(
            f"/v2/repository/models/{{model}}/{what}",
            tag,
            f"{what.title()} a model of the store",
            None,
            body=LoadRequest,
            method="post",
            optional=True,
        )


def _shared_memory() -> Iterator[Operation]:
    tag = "shared memory"
    region = f"{REGIONS}/region/{{region}}"
    yield Operation(f"{REGIONS}/status", tag, "The regions of this client", list[RegionStatus])
    yield Operation(f"{region}/status", tag, "A region of this client", list[RegionStatus])
    yield Operation(f"{region}/register", tag, "Use shared memory", None, body=Registration, method="post")
    yield Operation(f"{region}/unregister", tag, "Use a region no longer", None, method="post")
    yield Operation(f"{REGIONS}/unregister", tag, "Use no region any longer", None, method="post")
