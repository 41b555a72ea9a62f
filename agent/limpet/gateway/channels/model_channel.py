"""The direct channel to one model's process: requests go out, outputs come into the memory that both share.

The process runs a model from outside, so it may have been taken over. What it says is checked against
what was wanted. If it is wrong, the channel ends, and its requests fail.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple, Protocol

from limpet.errors import UnreadableError
from limpet.gateway.channels.answers import check, succeeded
from limpet.gateway.channels.spans import Span, Spans
from limpet.gateway.errors import RequestError
from limpet.wire.border import cleaned
from limpet.wire.guest_records import (
    LARGEST,
    MOST_WAITING,
    FromGuest,
    Infer,
    Inferred,
    Placed,
    Serving,
)

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable, Sequence

    from limpet.wire.channel import Channel

PATIENCE = 60.0
"""Seconds to wait for outputs."""
LEAVING = 0.1
"""Seconds in which a process that had no time for a request ends its channel, if it is about to."""
MOST_UNSENT = 4 * LARGEST
"""Bytes that may wait for a process that does not read."""


class Waits(Protocol):
    """Who waits for an answer, such as a future. It is ``done`` before, if its client is gone."""

    def done(self) -> bool:
        """Whether nothing is awaited any more."""

    def set_result(self, result: Inferred, /) -> None:
        """Take the answer."""

    def set_exception(self, exception: RequestError, /) -> None:
        """Take the reason why there is none."""


class _Running(NamedTuple):
    """A request that the process has, and until when, in the event loop's time: ``patience`` seconds in all.

    If no client waits for it any more, the process may still have it. ``since``: by ``monotonic``.
    """

    span: Span
    answer: Waits
    until: float
    patience: float
    since: float


class ModelChannel:
    """One model. ``ended`` is called once, when the channel cannot be used any more."""

    def __init__(
        self,
        channel: Channel[FromGuest],
        serving: Serving,
        memory: mmap.mmap,
        ended: Callable[[ModelChannel], None],
    ) -> None:
        self.serving = serving
        self.memory = memoryview(memory)
        self.last_used = monotonic()
        self._channel = channel
        self._ended = ended
        self._spans = Spans(len(memory))
        self._numbers = count(1)
        self._running: dict[int, _Running] = {}
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._ready: list[bytes] = []
        self._unsent = bytearray()
        self._overdue: asyncio.TimerHandle | None = None
        self._end = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(channel.fileno(), self._read)

    async def ends(self) -> bool:
        """Whether it ends within a moment: its process answers what waits, and leaves."""
        try:
            await asyncio.wait_for(self._end.wait(), LEAVING)
        except asyncio.TimeoutError:
            return False
        return True

    @property
    def idle(self) -> bool:
        """Whether no request uses it."""
        return not self._spans and not self._waiting

    def is_stuck(self, now: float) -> bool:
        """Whether the process has not answered a request for too long. Its memory would never be free again."""
        oldest = next(iter(self._running.values()), None)
        return oldest is not None and oldest.since + PATIENCE <= now

    async def take(self, size: int) -> Span:
        """Return a part of the memory for one request, until ``give_back``. ``RequestError`` if there is none."""
        self.last_used = monotonic()
        if size > self._spans.size:
            raise RequestError(
                "invalid",
                f"the tensors of a request take {size} bytes; this model has {self._spans.size} for them",
            )
        if len(self._running) + len(self._waiting) >= MOST_WAITING:
            raise self._busy(f"{MOST_WAITING} requests wait for it already")
        span = self.take_now(size)
        while span is None:
            await self._free()
            span = self._spans.take(size)
        return span

    def take_now(self, size: int) -> Span | None:
        """Return a part of the memory, as ``take``. ``None`` if none is free now."""
        if self._waiting or len(self._running) >= MOST_WAITING:
            return None
        self.last_used = self._loop.time()
        return self._spans.take(size)

    async def _free(self) -> None:
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(future)
        try:
            await future
        finally:
            with suppress(ValueError):
                self._waiting.remove(future)

    def give_back(self, span: Span) -> None:
        """Free a part of the memory. If the process still writes there, it is free once it has answered."""
        if not any(running.span is span for running in self._running.values()):
            self._release(span)

    def _release(self, span: Span) -> None:
        self._spans.give_back(span)
        self.last_used = monotonic()
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
                break

    async def run(
        self, span: Span, inputs: Sequence[Placed], outputs: Span, *, real: bool, patience: float = PATIENCE
    ) -> Inferred:
        """Have the model run on inputs in the memory. Outputs are put into ``outputs``, a part of ``span``.

        ``RequestError`` if the model refuses, is busy, or is gone.
        """
        answer: asyncio.Future[Inferred] = self._loop.create_future()
        self.start(span, inputs, outputs, answer, real=real, patience=patience)
        return succeeded(await answer)

    def start(  # noqa: PLR0913 - a request has these parts
        self,
        span: Span,
        inputs: Sequence[Placed],
        outputs: Span,
        answer: Waits,
        *,
        real: bool,
        patience: float = PATIENCE,
    ) -> None:
        """Have the model run, as ``run``. ``answer`` gets what the process answers."""
        if self._end.is_set():
            raise self._busy("its process ended")
        number = next(self._numbers)
        until = self._loop.time() + patience
        self._running[number] = _Running(span, answer, until, patience, monotonic())
        self._send(Infer(number, list(inputs), outputs.offset, outputs.size, real))
        if self._overdue is None or until < self._overdue.when():
            self._look_again(until)

    def _look_again(self, at: float) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
        self._overdue = self._loop.call_at(at, self._refuse_overdue)

    def _refuse_overdue(self) -> None:
        """Fail what the process has for too long. One timer serves all requests: most never need it."""
        self._overdue = None
        now = self._loop.time()
        for running in self._running.values():
            if running.until <= now:
                self._fail(running.answer, f"it did not answer within {running.patience:g} s")
        left = [running.until for running in self._running.values() if not running.answer.done()]
        if left:
            self._look_again(min(left))

    def _fail(self, answer: Waits | asyncio.Future[None], reason: str) -> None:
        if not answer.done():
            answer.set_exception(self._busy(reason))

    def _busy(self, reason: str) -> RequestError:
        return RequestError("busy", f'model "{self.serving.model}" cannot be used now: {reason}; try again')

    def _send(self, record: Infer) -> None:
        """Send a request, together with those that begin at the same time."""
        if not self._ready:
            self._loop.call_soon(self._flush)
        self._ready.append(self._channel.encode(record))

    def _flush(self) -> None:
        data = b"".join(self._ready)
        self._ready.clear()
        if self._end.is_set():
            return
        if self._unsent:
            self._unsent += data
        else:
            with suppress(BlockingIOError, OSError):  # a process that is gone shows when it is read from
                data = data[self._channel.socket.send(data) :]
            if data:
                self._unsent += data
                self._loop.add_writer(self._channel.fileno(), self._write)
        if len(self._unsent) > MOST_UNSENT:
            self.close("it does not read")

    def _write(self) -> None:
        with suppress(OSError):
            del self._unsent[: self._channel.socket.send(self._unsent)]
        if not self._unsent:
            self._loop.remove_writer(self._channel.fileno())

    def _read(self) -> None:
        try:
            for record in self._channel.receive():
                self._take(record)
        except EOFError:
            self.close("its process ended")
        except (UnreadableError, OSError) as error:
            self.close(f"its process is damaged: {cleaned(str(error), 200)}")

    def _take(self, record: FromGuest) -> None:
        if not isinstance(record, Inferred) or record.number not in self._running:
            raise UnreadableError("it sent an answer that belongs to no request")
        running = self._running[record.number]
        if not record.problem:
            check(record, self.serving, running.span)
        del self._running[record.number]
        if running.answer.done():
            self._release(running.span)
        else:
            running.answer.set_result(record)

    def close(self, reason: str) -> None:
        """End the channel. Requests that run or wait fail for this reason, and may be tried again."""
        if self._end.is_set():
            return
        self._end.set()
        self._loop.remove_reader(self._channel.fileno())
        self._loop.remove_writer(self._channel.fileno())
        self._channel.close()
        if self._overdue is not None:
            self._overdue.cancel()
        for running in list(self._running.values()):
            self._fail(running.answer, reason)
        for waiting in self._waiting:
            self._fail(waiting, reason)
        self._running.clear()
        self._ended(self)
