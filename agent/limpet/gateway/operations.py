"""What a client can do over HTTP, one entry for each path and method: the OpenAPI document is made from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from limpet.contracts.api import PipelineView
from limpet.contracts.commands import REQUESTS
from limpet.contracts.messages import DeviceHealth, Reply, ResultMessage
from limpet.gateway.device_routes import LastQuery, NoQuery
from limpet.gateway.stream_routes import StreamQuery

if TYPE_CHECKING:
    from collections.abc import Iterator

    import msgspec

JSON, JPEG, EVENTS, TEXT = "application/json", "image/jpeg", "text/event-stream", "text/plain"
PIPELINE = "/api/pipelines/{pipeline}"


class Media(NamedTuple):
    """Content that is no JSON."""

    kind: str


class Operation(NamedTuple):
    """A method of a path.

    ``query``: the struct of its parameters. ``body`` and ``answer``: types of JSON, or media. ``answer`` is
    ``None`` if it has no content.
    """

    path: str
    tag: str
    summary: str
    answer: Any
    query: type[msgspec.Struct] = NoQuery
    body: Any = None
    method: Literal["get", "post", "put"] = "get"


def operations() -> Iterator[Operation]:
    """Yield all of them but WebSockets, which OpenAPI does not have."""
    yield Operation("/api/device", "device", "Health of the device, measured now", DeviceHealth)
    yield Operation("/api/pipelines", "device", "All pipelines", list[PipelineView])
    yield Operation(PIPELINE, "device", "Health of a pipeline, and the model that it runs", PipelineView)
    yield Operation(
        f"{PIPELINE}/results", "device", "Its last results, oldest first", list[ResultMessage], LastQuery
    )
    yield Operation(f"{PIPELINE}/picture.jpg", "device", "Its last result, drawn on the picture", Media(JPEG))
    yield Operation(
        "/api/stream", "streams", "Messages as they come, as server-sent events", Media(EVENTS), StreamQuery
    )
    for name, request in REQUESTS.items():
        yield Operation(
            f"/api/commands/{name}", "commands", f"The command {name}", Reply, body=request, method="post"
        )
    yield Operation("/openapi.json", "documentation", "This document", dict[str, Any])
