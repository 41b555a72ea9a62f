"""The methods of the service over gRPC: messages in, messages out, by the same protocol as over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import msgspec

from limpet.gateway.errors import RequestError
from limpet.gateway.open_inference.descriptions import configuration, indexed, metadata, statistics
from limpet.gateway.open_inference.grpc_messages import DATA_TYPES, MESSAGES
from limpet.gateway.open_inference.grpc_requests import LONGEST_NAME, infer_request, infer_response
from limpet.gateway.open_inference.health_routes import EXTENSIONS, Server

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from limpet.gateway.open_inference.service import OpenInference

    Answer: TypeAlias = Callable[[Any, "Caller"], Awaitable[Any]]


class Caller(NamedTuple):
    """Who calls. ``uid``: user id, if the kernel says so. ``patience``: seconds that the client still waits."""

    uid: Callable[[], int | None]
    patience: float


class Method(NamedTuple):
    """A method. ``path``: the one over HTTP that needs the same right. ``stream``: it answers many messages."""

    request: Any
    path: str
    answer: Answer
    stream: bool = False


class Methods:
    """What each method does. ``RequestError`` says why not."""

    def __init__(self, protocol: OpenInference) -> None:
        self._protocol = protocol

    def by_name(self) -> Mapping[str, Method]:
        """Return all methods."""
        models, repository = "/v2/models", "/v2/repository/models"
        memory = "/v2/systemsharedmemory"
        found = {
            "ServerLive": ("/v2/health/live", self._live),
            "ServerReady": ("/v2/health/ready", self._ready),
            "ServerMetadata": ("/v2", self._server),
            "ModelReady": (models, self._model_ready),
            "ModelMetadata": (models, self._metadata),
            "ModelInfer": (models, self._infer),
            "ModelConfig": (models, self._configuration),
            "ModelStatistics": (models, self._statistics),
            "RepositoryIndex": ("/v2/repository/index", self._index),
            "RepositoryModelLoad": (repository, self._load),
            "RepositoryModelUnload": (repository, self._unload),
            "SystemSharedMemoryStatus": (memory, self._regions),
            "SystemSharedMemoryRegister": (memory, self._register),
            "SystemSharedMemoryUnregister": (memory, self._unregister),
            "CudaSharedMemoryStatus": (memory, _no_cuda_regions),
            "CudaSharedMemoryUnregister": (memory, _no_cuda_region),
        }
        methods = {
            name: Method(MESSAGES[f"{name}Request"], path, answer) for name, (path, answer) in found.items()
        }
        methods["ModelStreamInfer"] = Method(
            MESSAGES["ModelInferRequest"], models, self._infer_in_stream, stream=True
        )
        return methods

    async def _live(self, _message: Any, _caller: Caller) -> Any:
        return MESSAGES["ServerLiveResponse"](live=True)

    async def _ready(self, _message: Any, _caller: Caller) -> Any:
        return MESSAGES["ServerReadyResponse"](ready=True)

    async def _server(self, _message: Any, _caller: Caller) -> Any:
        server = Server()
        return MESSAGES["ServerMetadataResponse"](name=server.name, version=server.version, extensions=EXTENSIONS)

    async def _model_ready(self, message: Any, _caller: Caller) -> Any:
        try:
            ready = await self._protocol.ready(*_which(message))
        except RequestError as error:
            if error.cause != "unknown":
                raise
            ready = False
        return MESSAGES["ModelReadyResponse"](ready=ready)

    async def _metadata(self, message: Any, _caller: Caller) -> Any:
        name, version = _which(message)
        protocol = self._protocol
        found = metadata(name, await protocol.versions(name), *await protocol.describe(name, version))
        return MESSAGES["ModelMetadataResponse"](**msgspec.to_builtins(found))

    async def _configuration(self, message: Any, _caller: Caller) -> Any:
        name, version = _which(message)
        found = configuration(name, *await self._protocol.describe(name, version))
        tensors = {
            kind: [{"name": one.name, "data_type": _data_type(one.data_type), "dims": one.dims} for one in each]
            for kind, each in (("input", found.input), ("output", found.output))
        }
        config = MESSAGES["ModelConfig"](
            name=found.name,
            platform=found.platform,
            backend=found.backend,
            max_batch_size=found.max_batch_size,
            **tensors,
        )
        return MESSAGES["ModelConfigResponse"](config=config)

    async def _statistics(self, message: Any, _caller: Caller) -> Any:
        name, version = _which(message)
        counted = self._protocol.statistics
        if name:
            await self._protocol.ready(name, version)
            counted = {key: one for key, one in counted.items() if key[0] == name and version in ("", key[1])}
        found = msgspec.to_builtins(statistics(counted))
        for one in found["model_stats"]:
            del one["batch_stats"]  # none are counted
        return MESSAGES["ModelStatisticsResponse"](**found)

    async def _infer(self, message: Any, caller: Caller) -> Any:
        uid = caller.uid() if _uses_shared_memory(message) else None
        return infer_response(await self._protocol.infer(infer_request(message, uid, caller.patience)))

    async def _infer_in_stream(self, message: Any, caller: Caller) -> Any:
        response = MESSAGES["ModelStreamInferResponse"]
        try:
            return response(infer_response=await self._infer(message, caller))
        except RequestError as error:
            return response(error_message=str(error), infer_response={"id": message.id[:LONGEST_NAME]})

    async def _index(self, message: Any, _caller: Caller) -> Any:
        found = indexed(await self._protocol.index(), ready=message.ready)
        return MESSAGES["RepositoryIndexResponse"](models=msgspec.to_builtins(found))

    async def _load(self, message: Any, _caller: Caller) -> Any:
        await self._protocol.models.load(message.model_name, _version_to_load(message))
        return MESSAGES["RepositoryModelLoadResponse"]()

    async def _unload(self, message: Any, _caller: Caller) -> Any:
        await self._protocol.models.unload(message.model_name, _version_to_load(message))
        return MESSAGES["RepositoryModelUnloadResponse"]()

    async def _regions(self, message: Any, caller: Caller) -> Any:
        response = MESSAGES["SystemSharedMemoryStatusResponse"]()
        for one in self._protocol.shared.registered(caller.uid(), message.name):
            region = response.regions[one.name]
            region.name, region.key, region.offset, region.byte_size = one.name, one.key, one.offset, one.byte_size
        return response

    async def _register(self, message: Any, caller: Caller) -> Any:
        self._protocol.shared.register(caller.uid(), message.name, message.key, message.offset, message.byte_size)
        return MESSAGES["SystemSharedMemoryRegisterResponse"]()

    async def _unregister(self, message: Any, caller: Caller) -> Any:
        self._protocol.shared.unregister(caller.uid(), message.name)
        return MESSAGES["SystemSharedMemoryUnregisterResponse"]()


async def _no_cuda_regions(_message: Any, _caller: Caller) -> Any:
    return MESSAGES["CudaSharedMemoryStatusResponse"]()


async def _no_cuda_region(_message: Any, _caller: Caller) -> Any:
    """Do nothing: programs for Triton unregister whatever there is before they begin."""
    return MESSAGES["CudaSharedMemoryUnregisterResponse"]()


def _which(message: Any) -> tuple[str, str]:
    """Return name and version of the model that a request names."""
    for text in (message.name, message.version):
        if len(text) > LONGEST_NAME:
            raise RequestError("unknown", "a name or version of a model is too long")
    return message.name, message.version


def _version_to_load(message: Any) -> int | None:
    """Return the version that a request to load or unload names. Others of Triton's parameters are refused."""
    others = set(message.parameters) - {"version", "unload_dependents"}
    if others:
        raise RequestError(
            "invalid", "models come from the device's store alone: the only parameter is version, a number"
        )
    return message.parameters["version"].int64_param if "version" in message.parameters else None


def _data_type(name: str) -> int:
    """Return the number of a datatype such as ``TYPE_FP32``."""
    return DATA_TYPES.index(name.removeprefix("TYPE_"))


def _uses_shared_memory(message: Any) -> bool:
    return any("shared_memory_region" in one.parameters for one in (*message.inputs, *message.outputs))
