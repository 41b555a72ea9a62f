"""The client for asyncio."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from limpet.client import addresses, calls, stream
from limpet.client.errors import RefusedError, UnavailableError
from limpet.client.http import CHUNK, Collector, Conversation
from limpet.client.regions import SMALLEST, UNKNOWN, Regions
from limpet.client.shared_memory import Region, abandoned
from limpet.errors import LimpetError

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from typing_extensions import Self

    from limpet.client.calls import Call
    from limpet.client.http import Buffer, Request, Response
    from limpet.client.messages import Health, Model, ModelFacts
    from limpet.client.tensors import Array, Inputs
    from limpet.contracts.api import PipelineView
    from limpet.contracts.messages import DeviceHealth, EventMessage, ResultMessage

T = TypeVar("T")
M = TypeVar("M")

MOST_IDLE = 8
"""Connections that are kept for the next call."""


class AsyncClient:
    """The daemon on this device, for one event loop. Several tasks can use one client.

    All methods raise ``UnavailableError`` if the daemon cannot be reached, and ``RefusedError`` if it does not do
    what the call wants.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, *, timeout: float = 35.0) -> None:
        """Connect when it is first used. ``path``: the Unix socket. Default: the service's.

        ``timeout``: seconds to wait for an answer. Streams wait as long as it takes.
        """
        self._paths = addresses.candidates(path)
        self._timeout = timeout
        self._idle: list[_Connection] = []
        self._facts: dict[tuple[str, int | None], ModelFacts] = {}
        self._regions = Regions()

    async def __aenter__(self) -> Self:
        """Return the client itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections of calls, and give shared memory back. Streams are closed on their own."""
        for region in self._regions.take_all():
            await self._discard(region)
        while self._idle:
            self._idle.pop().close()

    async def device(self) -> DeviceHealth:
        """Return the health of the device."""
        return await self._call(calls.device())

    async def pipelines(self) -> list[PipelineView]:
        """Return all pipelines, with their health and model."""
        return await self._call(calls.pipelines())

    async def pipeline(self, name: str) -> PipelineView:
        """Return one pipeline."""
        return await self._call(calls.pipeline(name))

    def results(self, *pipelines: str) -> AsyncStream[ResultMessage]:
        """Return results as they come, of these pipelines. Default: of all."""
        return AsyncStream(self._paths, self._timeout, stream.results(pipelines))

    def events(self, *pipelines: str) -> AsyncStream[EventMessage]:
        """Return the last events, and then those that come, of these pipelines. Default: of all and the device."""
        return AsyncStream(self._paths, self._timeout, stream.events(pipelines))

    def health(self, *pipelines: str) -> AsyncStream[Health]:
        """Return health as it is now, and then each second, of these pipelines. Default: of all and the device."""
        return AsyncStream(self._paths, self._timeout, stream.health(pipelines))

    async def last_results(self, pipeline: str, most: int = 20) -> list[ResultMessage]:
        """Return the last results of a pipeline, oldest first. Maximum: 100."""
        return await self._call(calls.last_results(pipeline, most))

    async def last_events(self, most: int = 20) -> list[EventMessage]:
        """Return the last events of the device and its pipelines, oldest first."""
        return await self._call(calls.last_events(most))

    async def picture(self, pipeline: str) -> bytes:
        """Return the last result of a pipeline, drawn on its picture, as a JPEG."""
        return await self._call(calls.picture(pipeline))

    async def command(self, name: str, **arguments: Any) -> Any:
        """Send a command, such as ``command("threshold", pipeline="press", value=0.7)``. Return its result."""
        return await self._call(calls.command(name, arguments))

    async def models(self) -> list[Model]:
        """Return all models that can be used or loaded."""
        return await self._call(calls.models())

    async def load(self, model: str) -> None:
        """Load a model of the device's store."""
        await self._call(calls.load(model))

    async def unload(self, model: str) -> None:
        """Unload a model that ``load`` loaded."""
        await self._call(calls.unload(model))

    async def model(self, name: str, version: int | None = None) -> ModelFacts:
        """Return what a model takes and returns. Default: the version that runs, or the highest."""
        return await self._call(calls.model_facts(name, version))

    async def infer(
        self, model: str, inputs: Mapping[str, Any] | Any, *, version: int | None = None
    ) -> dict[str, Array]:
        """Run a model on arrays. Return its outputs by name.

        ``inputs``: an array, or whatever numpy makes one of; or a dict of them by the input's name. If all are
        floats, a quantized model takes and returns real values as float32; otherwise, its own integers. Large
        tensors go through shared memory.
        ``ClientError`` if the model has no such inputs.
        """
        from limpet.client import tensors

        facts = self._facts.get((model, version))
        if facts is None:
            facts = self._facts[model, version] = await self.model(model, version)
        arrays = tensors.inputs_of(facts, inputs)
        try:
            return await self._infer(facts, version, arrays)
        except RefusedError:
            self._facts.pop((model, version), None)  # another version, with other inputs, may run by now
            raise

    async def _infer(self, facts: ModelFacts, version: int | None, inputs: Inputs) -> dict[str, Array]:
        from limpet.client import tensors

        size = tensors.region_size(facts, inputs)
        if size and (region := await self._region(size)) is not None:
            try:
                placed = tensors.place(region, facts, inputs)
                outputs = await self._call(tensors.infer(facts, version, inputs, placed=placed))
            except RefusedError as error:
                if error.status != UNKNOWN:
                    await self._give_back(region)
                    raise
                await self._discard(region)  # the gateway was started again: it does not know the region
            except BaseException:
                await self._discard(region)
                raise
            else:
                await self._give_back(region)
                return outputs
        return await self._call(tensors.infer(facts, version, inputs))

    async def _region(self, size: int) -> Region | None:
        """Return shared memory that the daemon knows; ``None`` if there is none to be had."""
        if not self._regions.usable or (found := self._regions.take(size)) is not None:
            return found if self._regions.usable else None
        try:
            region = Region(max(size, SMALLEST), addresses.group(self._paths))
        except OSError:
            self._regions.usable = False
            return None
        try:
            if not self._regions.tidied:
                await self._tidy()
            await self._call(calls.register_region(region.name, region.key, region.size))
        except BaseException as error:
            region.close()
            if not isinstance(error, RefusedError):
                raise
            self._regions.usable = error.busy
            return None
        region.unlink()
        return region

    async def _give_back(self, region: Region) -> None:
        if (surplus := self._regions.give_back(region)) is not None:
            await self._discard(surplus)

    async def _tidy(self) -> None:
        """Give back what programs that crashed have left registered."""
        self._regions.tidied = True
        for name in abandoned(await self._call(calls.region_names())):
            with suppress(RefusedError):  # another program does the same
                await self._call(calls.unregister_region(name))

    async def _discard(self, region: Region) -> None:
        """Close shared memory. The daemon may be gone."""
        try:
            with suppress(LimpetError):
                await self._call(calls.unregister_region(region.name))
        finally:
            region.close()

    async def _call(self, call: Call[T]) -> T:
        connection = await self._connection()
        try:
            response = await asyncio.wait_for(connection.exchange(call.request), self._timeout)
        except asyncio.TimeoutError as error:
            connection.close()
            raise UnavailableError("the daemon did not answer in time") from error
        except BaseException:
            connection.close()
            raise
        if connection.reusable and len(self._idle) < MOST_IDLE:
            self._idle.append(connection)
        else:
            connection.close()
        return call.read(response)

    async def _connection(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.alive:
                return connection
            connection.close()
        return _Connection(*await _connect(self._paths, self._timeout))


async def _connect(paths: Sequence[Path], timeout: float) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout
    while loop.time() < end:
        if (connection := addresses.attempt(paths)) is not None:
            return await asyncio.open_unix_connection(sock=connection, limit=CHUNK)
        await asyncio.sleep(addresses.PAUSE)
    raise UnavailableError("the daemon accepts no connection; it has too many, or was stopped")


class _Connection:
    """A connection for calls, one after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._conversation = Conversation()
        self.reusable = False

    @property
    def alive(self) -> bool:
        """Whether the daemon has not closed it while it was idle."""
        return not self._reader.at_eof() and not self._writer.is_closing()

    async def exchange(self, request: Request) -> Response:
        """Send a request, and return the answer."""
        collector = Collector()
        with suppress(ConnectionError):  # The daemon may refuse a body before it has it all. Its answer says why.
            await _send(self._writer, self._conversation.send(request))
        while (response := collector.add(self._conversation.take(await _receive(self._reader)))) is None:
            pass
        self.reusable = collector.end is not None and collector.end.reusable
        return response

    def close(self) -> None:
        self._writer.transport.abort()


async def _send(writer: asyncio.StreamWriter, parts: Sequence[Buffer]) -> None:
    writer.writelines(parts)
    await writer.drain()


async def _receive(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(CHUNK)
    except OSError as error:
        raise UnavailableError(f"the connection to the daemon broke: {error.strerror}") from error


class AsyncStream(Generic[M]):
    """Messages as they come, for an ``async for`` loop. ``aclose``, or the end of ``async with``, ends it.

    It subscribes when its ``async with`` block or the loop begins. ``UnavailableError`` if the daemon ends the
    stream.
    """

    def __init__(self, paths: Sequence[Path], timeout: float, subscription: stream.Subscription[M]) -> None:
        self._paths = paths
        self._timeout = timeout
        self._reader = stream.Reader(subscription)
        self._connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    @property
    def missed(self) -> int:
        """How many messages the daemon left out, as this program was too slow for them."""
        return self._reader.missed

    async def __aenter__(self) -> Self:
        """Subscribe."""
        await self._subscribe()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        await self.aclose()

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> M:
        """Wait for the next message."""
        reader = await self._subscribe()
        while (message := self._reader.take()) is None:
            self._reader.feed(await _receive(reader))
        return message

    async def aclose(self) -> None:
        """End the stream."""
        if self._connection is not None:
            self._connection[1].transport.abort()

    async def _subscribe(self) -> asyncio.StreamReader:
        if self._connection is None:
            self._connection = await _connect(self._paths, self._timeout)
            try:
                await asyncio.wait_for(self._begin(*self._connection), self._timeout)
            except asyncio.TimeoutError as error:
                await self.aclose()
                raise UnavailableError("the daemon did not answer in time") from error
            except BaseException:
                await self.aclose()
                raise
        return self._connection[0]

    async def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _send(writer, self._reader.begin())
        while not self._reader.begun:
            self._reader.feed(await _receive(reader))
