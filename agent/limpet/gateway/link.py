"""The gateway's end of the socket to the supervisor: requests go out, answers come by their number."""

from __future__ import annotations

import asyncio
import os
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from limpet.errors import LimpetError, UnreadableError
from limpet.untrusted import reading
from limpet.wire.gateway_records import Alive, Answer, Begin, Figures, GetFigures, NotFound, Opened, Ping, Watching

if TYPE_CHECKING:
    from collections.abc import Callable

    from limpet.wire.channel import Channel
    from limpet.wire.gateway_records import FromGateway, Request, ToGateway

A = TypeVar("A", bound=Answer)

PATIENCE = 35.0
"""Seconds to wait for an answer: a command may take 30."""
MOST_WAITING = 256
"""Requests that may wait for the supervisor."""
FRESH = 0.05
"""Seconds for which figures are shared: the daemon's main thread makes them."""
MOST_OUTGOING = 1 << 23
"""Bytes of records that may wait to be sent."""


class BusyError(LimpetError):
    """The supervisor has too many requests already, or did not answer in time."""


class NotFoundError(LimpetError):
    """The request is about something that does not exist."""


class SupervisorLink:
    """Requests to the supervisor. ``gone`` is called once when the supervisor is gone.

    It may read late, as it limits how much it does for the gateway. Then records wait here.
    """

    def __init__(self, channel: Channel[ToGateway], gone: Callable[[], None]) -> None:
        self._channel = channel
        self._gone = gone
        self._numbers = count(1)
        self._outgoing = bytearray()
        self._figures: asyncio.Task[Figures] | None = None
        self._figures_until = 0.0
        self._waiting: dict[int, asyncio.Future[tuple[Answer, int | None]]] = {}
        channel.socket.setblocking(False)
        asyncio.get_running_loop().add_reader(channel.fileno(), self._read)

    def say(self, record: FromGateway) -> None:
        """Send a record that has no answer. ``BusyError`` if too much waits."""
        data = self._channel.encode(record)
        if len(self._outgoing) + len(data) > MOST_OUTGOING:
            raise BusyError("the daemon has too much to do")
        if not self._outgoing:
            asyncio.get_running_loop().add_writer(self._channel.fileno(), self._flush)
        self._outgoing += data
        self._flush()

    def _flush(self) -> None:
        try:
            sent = self._channel.socket.send(self._outgoing)
        except BlockingIOError:
            return
        except OSError:
            self._end()
            return
        del self._outgoing[:sent]
        if not self._outgoing:
            asyncio.get_running_loop().remove_writer(self._channel.fileno())

    def _end(self) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._channel.fileno())
        loop.remove_writer(self._channel.fileno())
        self._gone()

    async def ask(self, request: Callable[[int], Request], kind: type[A]) -> A:
        """Send the request that ``request`` makes with its number. Return the answer.

        ``BusyError``, or ``NotFoundError`` if it names something that does not exist.
        """
        answer, fd = await self._exchange(request)
        if fd is not None:
            os.close(fd)
        if isinstance(answer, NotFound):
            raise NotFoundError(answer.problem)
        assert isinstance(answer, kind)
        return answer

    async def figures(self) -> Figures:
        """Return figures that are at most ``FRESH`` seconds old. Clients that want them at once share them.

        ``BusyError``.
        """
        now = asyncio.get_running_loop().time()
        task = self._figures
        if task is None or (task.done() and (now > self._figures_until or task.exception() is not None)):
            task = asyncio.get_running_loop().create_task(self._new_figures())
            self._figures = task
        return await asyncio.shield(task)

    async def _new_figures(self) -> Figures:
        figures = await self.ask(GetFigures, Figures)
        self._figures_until = asyncio.get_running_loop().time() + FRESH
        return figures

    async def ask_socket(self, request: Callable[[int], Request]) -> tuple[Any, int | None]:
        """As ``ask``, for an answer with a file descriptor, which is the caller's to close."""
        return await self._exchange(request)

    async def _exchange(self, request: Callable[[int], Request]) -> tuple[Answer, int | None]:
        if len(self._waiting) >= MOST_WAITING:
            raise BusyError("too many requests wait for the daemon")
        number = next(self._numbers)
        future: asyncio.Future[tuple[Answer, int | None]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            self.say(_possible(request(number)))
            return await asyncio.wait_for(future, PATIENCE)
        except asyncio.TimeoutError as error:
            raise BusyError("the daemon did not answer in time") from error
        finally:
            self._waiting.pop(number, None)

    def _read(self) -> None:
        try:
            for record in self._channel.receive():
                if isinstance(record, Ping):
                    self.say(Alive())
                elif not isinstance(record, Begin):
                    self._take(record)
        except EOFError:
            self._end()

    def _take(self, answer: Answer) -> None:
        fd = None
        if isinstance(answer, Watching | Opened) and not answer.problem:
            fd = self._channel.received_fds.pop(0)
        future = self._waiting.get(answer.number)
        if future is not None and not future.done():
            future.set_result((answer, fd))
        elif fd is not None:
            os.close(fd)


def _possible(request: Request) -> Request:
    """Return a request if the supervisor takes it. If a gateway sends it anything else, it ends the gateway.

    ``NotFoundError``: the names and versions of clients are the only parts that can be wrong.
    """
    kind = type(request)
    try:
        with reading("the name or the version"):
            return msgspec.msgpack.decode(msgspec.msgpack.encode(request), type=kind)
    except UnreadableError as error:
        raise NotFoundError(f"nothing has this name or version: {error}"[:300]) from error
