"""What the client asks for, without I/O: each call is a request, and a function that reads its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import quote

import msgspec

from limpet.client.errors import RefusedError
from limpet.client.http import Request
from limpet.client.messages import Model, ModelFacts
from limpet.client.refusals import refusal
from limpet.contracts.api import PipelineView
from limpet.contracts.messages import DeviceHealth, EventMessage, Reply, ResultMessage
from limpet.untrusted import printable, reading

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from limpet.client.http import Response

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_JSON = (("Content-Type", "application/json"),)


class Call(Generic[T_co]):
    """A request, and what its answer means."""

    def __init__(self, request: Request, read: Callable[[Response], T_co]) -> None:
        self.request = request
        self._read = read

    def read(self, response: Response) -> T_co:
        """Return what the answer says. ``RefusedError`` if it is no success, ``UnreadableError`` if damaged."""
        if response.status != 200:
            raise refusal(response)
        with reading("an answer of the daemon"):
            return self._read(response)


def _get(target: str, kind: type[T]) -> Call[T]:
    return Call(Request("GET", target), lambda response: msgspec.json.decode(response.body, type=kind))


def _post(target: str, body: Any, read: Callable[[Response], T]) -> Call[T]:
    return Call(Request("POST", target, _JSON, (msgspec.json.encode(body),)), read)


def _nothing(_: Response) -> None:
    return None


def device() -> Call[DeviceHealth]:
    """Return health of the device."""
    return _get("/api/device", DeviceHealth)


def pipelines() -> Call[list[PipelineView]]:
    """Return all pipelines."""
    return _get("/api/pipelines", list[PipelineView])


def pipeline(name: str) -> Call[PipelineView]:
    """Return one pipeline."""
    return _get(f"/api/pipelines/{_part(name)}", PipelineView)


def last_results(pipeline: str, most: int) -> Call[list[ResultMessage]]:
    """Return the last results of a pipeline."""
    return _get(f"/api/pipelines/{_part(pipeline)}/results?last={most}", list[ResultMessage])


def last_events(most: int) -> Call[list[EventMessage]]:
    """Return the last events."""
    return _get(f"/api/events?last={most}", list[EventMessage])


def picture(pipeline: str) -> Call[bytes]:
    """Return the last result on its picture."""
    target = f"/api/pipelines/{_part(pipeline)}/picture.jpg"
    return Call(Request("GET", target), lambda response: bytes(response.body))


def command(name: str, arguments: Mapping[str, Any]) -> Call[Any]:
    """Send a command, and return its result."""
    return _post(f"/api/commands/{_part(name)}", arguments, _reply)


def _reply(response: Response) -> Any:
    reply = msgspec.json.decode(response.body, type=Reply)
    if not reply.ok:
        raise RefusedError(printable(reply.error[:500]))
    return reply.result


def models() -> Call[list[Model]]:
    """Return all models that clients can use or load."""
    return _post("/v2/repository/index", {}, lambda response: msgspec.json.decode(response.body, type=list[Model]))


def load(model: str) -> Call[None]:
    """Load a model."""
    return _post(f"/v2/repository/models/{_part(model)}/load", {}, _nothing)


def unload(model: str) -> Call[None]:
    """Unload a model."""
    return _post(f"/v2/repository/models/{_part(model)}/unload", {}, _nothing)


def model_facts(model: str, version: int | None) -> Call[ModelFacts]:
    """Return inputs and outputs of a model."""
    return _get(model_target(model, version), ModelFacts)


def model_target(model: str, version: int | None) -> str:
    """Return the path of a model."""
    target = f"/v2/models/{_part(model)}"
    return target if version is None else f"{target}/versions/{version}"


class _Region(msgspec.Struct):
    """A region of shared memory that this user registered."""

    name: str


def region_names() -> Call[list[str]]:
    """Return the names of the regions that programs of this user registered."""

    def names(response: Response) -> list[str]:
        return [one.name for one in msgspec.json.decode(response.body, type=list[_Region])]

    return Call(Request("GET", "/v2/systemsharedmemory/status"), names)


def register_region(name: str, key: str, size: int) -> Call[None]:
    """Let the daemon read and write a file of shared memory."""
    body = {"key": key, "offset": 0, "byte_size": size}
    return _post(f"/v2/systemsharedmemory/region/{_part(name)}/register", body, _nothing)


def unregister_region(name: str) -> Call[None]:
    """Undo ``register_region``."""
    return _post(f"/v2/systemsharedmemory/region/{_part(name)}/unregister", {}, _nothing)


def _part(name: str) -> str:
    """Return a name as one part of a path. It may have any character."""
    return quote(name, safe="")
