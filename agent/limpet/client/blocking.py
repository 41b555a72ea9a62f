"""The client for programs without asyncio."""

from __future__ import annotations

from contextlib import suppress
from select import POLLIN, poll
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from limpet.client import addresses, calls, stream
from limpet.client.errors import RefusedError, UnavailableError
from limpet.client.http import CHUNK, Collector, Conversation
from limpet.client.regions import SMALLEST, UNKNOWN, Regions
from limpet.client.shared_memory import Region, abandoned
from limpet.errors import LimpetError

if TYPE_CHECKING:
    import os
    import socket
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


class Client:
    """The daemon on this device. Several threads can use one client.

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

    def __enter__(self) -> Self:
        """Return the client itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close all connections of calls, and give shared memory back. Streams are closed on their own."""
        for region in self._regions.take_all():
            self._discard(region)
        while self._idle:
            self._idle.pop().close()

    def device(self) -> DeviceHealth:
        """Return the health of the device."""
        return self._call(calls.device())

    def pipelines(self) -> list[PipelineView]:
        """Return all pipelines, with their health and model."""
        return self._call(calls.pipelines())

    def pipeline(self, name: str) -> PipelineView:
        """Return one pipeline."""
        return self._call(calls.pipeline(name))

    def results(self, *pipelines: str) -> Stream[ResultMessage]:
        """Return results as they come, of these pipelines. Default: of all."""
        return Stream(self._paths, self._timeout, stream.results(pipelines))

    def events(self, *pipelines: str) -> Stream[EventMessage]:
        """Return the last events, and then those that come, of these pipelines. Default: of all and the device."""
        return Stream(self._paths, self._timeout, stream.events(pipelines))

    def health(self, *pipelines: str) -> Stream[Health]:
        """Return health as it is now, and then each second, of these pipelines. Default: of all and the device."""
        return Stream(self._paths, self._timeout, stream.health(pipelines))

    def last_results(self, pipeline: str, most: int = 20) -> list[ResultMessage]:
        """Return the last results of a pipeline, oldest first. Maximum: 100."""
        return self._call(calls.last_results(pipeline, most))

    def last_events(self, most: int = 20) -> list[EventMessage]:
        """Return the last events of the device and its pipelines, oldest first."""
        return self._call(calls.last_events(most))

    def picture(self, pipeline: str) -> bytes:
        """Return the last result of a pipeline, drawn on its picture, as a JPEG."""
        return self._call(calls.picture(pipeline))

    def command(self, name: str, **arguments: Any) -> Any:
        """Send a command, such as ``command("threshold", pipeline="press", value=0.7)``. Return its result."""
        return self._call(calls.command(name, arguments))

    def models(self) -> list[Model]:
        """Return all models that can be used or loaded."""
        return self._call(calls.models())

    def load(self, model: str) -> None:
        """Load a model of the device's store."""
        self._call(calls.load(model))

    def unload(self, model: str) -> None:
        """Unload a model that ``load`` loaded."""
        self._call(calls.unload(model))

    def model(self, name: str, version: int | None = None) -> ModelFacts:
        """Return what a model takes and returns. Default: the version that runs, or the highest."""
        return self._call(calls.model_facts(name, version))

    def infer(
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
            facts = self._facts[model, version] = self.model(model, version)
        arrays = tensors.inputs_of(facts, inputs)
        try:
            return self._infer(facts, version, arrays)
        except RefusedError:
            self._facts.pop((model, version), None)  # another version, with other inputs, may run by now
            raise

    def _infer(self, facts: ModelFacts, version: int | None, inputs: Inputs) -> dict[str, Array]:
        from limpet.client import tensors

        size = tensors.region_size(facts, inputs)
        if size and (region := self._region(size)) is not None:
            try:
                placed = tensors.place(region, facts, inputs)
                outputs = self._call(tensors.infer(facts, version, inputs, placed=placed))
            except RefusedError as error:
                if error.status != UNKNOWN:
                    self._give_back(region)
                    raise
                self._discard(region)  # the gateway was started again: it does not know the region
            except BaseException:
                self._discard(region)
                raise
            else:
                self._give_back(region)
                return outputs
        return self._call(tensors.infer(facts, version, inputs))

    def _region(self, size: int) -> Region | None:
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
                self._tidy()
            self._call(calls.register_region(region.name, region.key, region.size))
        except BaseException as error:
            region.close()
            if not isinstance(error, RefusedError):
                raise
            self._regions.usable = error.busy
            return None
        region.unlink()
        return region

    def _give_back(self, region: Region) -> None:
        if (surplus := self._regions.give_back(region)) is not None:
            self._discard(surplus)

    def _tidy(self) -> None:
        """Give back what programs that crashed have left registered."""
        self._regions.tidied = True
        for name in abandoned(self._call(calls.region_names())):
            with suppress(RefusedError):  # another program does the same
                self._call(calls.unregister_region(name))

    def _discard(self, region: Region) -> None:
        """Close shared memory. The daemon may be gone."""
        with suppress(LimpetError):
            self._call(calls.unregister_region(region.name))
        region.close()

    def _call(self, call: Call[T]) -> T:
        connection = self._connection()
        try:
            response = connection.exchange(call.request)
        except BaseException:
            connection.close()
            raise
        if connection.reusable and len(self._idle) < MOST_IDLE:
            self._idle.append(connection)
        else:
            connection.close()
        return call.read(response)

    def _connection(self) -> _Connection:
        while self._idle:
            with suppress(IndexError):  # another thread was faster
                connection = self._idle.pop()
                if connection.alive:
                    return connection
                connection.close()
        return _Connection(_connect(self._paths, self._timeout))


def _connect(paths: Sequence[Path], timeout: float) -> socket.socket:
    end = monotonic() + timeout
    while monotonic() < end:
        if (connection := addresses.attempt(paths)) is not None:
            connection.settimeout(timeout)
            return connection
        sleep(addresses.PAUSE)
    raise UnavailableError("the daemon accepts no connection; it has too many, or was stopped")


class _Connection:
    """A connection for calls, one after the other."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._conversation = Conversation()
        self._poll = poll()
        self._poll.register(connection, POLLIN)
        self.reusable = False

    @property
    def alive(self) -> bool:
        """Whether the daemon has not closed it while it was idle."""
        return not self._poll.poll(0)

    def exchange(self, request: Request) -> Response:
        """Send a request, and return the answer."""
        collector = Collector()
        with suppress(ConnectionError):  # The daemon may refuse a body before it has it all. Its answer says why.
            _send(self._socket, self._conversation.send(request))
        while (response := collector.add(self._conversation.take(_receive(self._socket)))) is None:
            pass
        self.reusable = collector.end is not None and collector.end.reusable
        return response

    def close(self) -> None:
        self._socket.close()


def _send(connection: socket.socket, parts: Sequence[Buffer]) -> None:
    try:
        for part in parts:
            connection.sendall(part)
    except TimeoutError as error:
        raise UnavailableError("the daemon did not take the request in time") from error


def _receive(connection: socket.socket) -> bytes:
    try:
        return connection.recv(CHUNK)
    except TimeoutError as error:
        raise UnavailableError("the daemon did not answer in time") from error
    except OSError as error:
        raise UnavailableError(f"the connection to the daemon broke: {error.strerror}") from error


class Stream(Generic[M]):
    """Messages as they come, for a ``for`` loop. ``close``, or the end of a ``with`` block, ends it.

    It subscribes when its ``with`` block or the loop begins. ``UnavailableError`` if the daemon ends the stream.
    """

    def __init__(self, paths: Sequence[Path], timeout: float, subscription: stream.Subscription[M]) -> None:
        self._paths = paths
        self._timeout = timeout
        self._reader = stream.Reader(subscription)
        self._socket: socket.socket | None = None

    @property
    def missed(self) -> int:
        """How many messages the daemon left out, as this program was too slow for them."""
        return self._reader.missed

    def __enter__(self) -> Self:
        """Subscribe."""
        self._subscribe()
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def __iter__(self) -> Self:
        """Return itself."""
        return self

    def __next__(self) -> M:
        """Wait for the next message."""
        connection = self._subscribe()
        while (message := self._reader.take()) is None:
            self._reader.feed(_receive(connection))
        return message

    def close(self) -> None:
        """End the stream."""
        if self._socket is not None:
            self._socket.close()

    def _subscribe(self) -> socket.socket:
        if self._socket is None:
            self._socket = _connect(self._paths, self._timeout)
            try:
                _send(self._socket, self._reader.begin())
                while not self._reader.begun:
                    self._reader.feed(_receive(self._socket))
            except BaseException:
                self.close()
                raise
            self._socket.settimeout(None)
        return self._socket
