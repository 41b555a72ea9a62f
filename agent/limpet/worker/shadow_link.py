"""A shadow's process as its worker sees it: it opens or says why not, then runs a window at a time.

It runs a model that is being tried. So what it sends is checked like anything from outside. A bad answer ends it
alone. Nothing here ever waits for it.
"""

from __future__ import annotations

from collections import deque
from select import select
from time import monotonic
from typing import TYPE_CHECKING, Any

import msgspec

from limpet.errors import ModelError, UnreadableError
from limpet.inference import agreement
from limpet.wire.border import check_output, cleaned
from limpet.wire.channel import Channel
from limpet.wire.memory_file import anonymous_file
from limpet.wire.shadow_records import LARGEST_FROM_SHADOW, FromShadow, NotOpened, Ran, RunWindow, ShadowOpened

if TYPE_CHECKING:
    import socket

    from limpet.contracts.data import Array

MOST_WAITING = 16
"""Windows that wait for the one at work."""
LARGEST_WAITING = 8 << 20
"""Bytes of the values of these windows. One window always fits."""
AFTER_END = 2.0
"""Seconds after which a process that has closed its socket is reported, unless the supervisor saw it end."""

_encode = msgspec.msgpack.Encoder().encode


class ShadowRan(msgspec.Struct):
    """What a shadow made of a window. ``output`` is of a type in ``limpet.contracts.outputs``, or a mapping.

    ``error`` says why there is none. Times are in seconds.
    """

    ordinal: int
    run: float
    cpu: float
    error: str = ""
    output: Any = None


class ShadowLink:
    """The process of one shadow. ``ModelError`` from any method means that it is lost, and why.

    ``opening`` and ``deadline``: seconds that opening and one window may take.
    """

    def __init__(self, opening: float, deadline: float) -> None:
        self.opened: ShadowOpened | None = None
        self._deadline = deadline
        self._until = monotonic() + opening
        self._channel: Channel[FromShadow] | None = None
        self._ended = 0.0
        self._file = anonymous_file()
        self._shared = False
        self._running: RunWindow | None = None
        self._waiting: deque[tuple[RunWindow, bytes]] = deque()
        self._waiting_size = 0

    def connect(self, end: socket.socket) -> None:
        """Take the socket that leads to it."""
        end.setblocking(False)
        self._channel = Channel(end, FromShadow, largest=LARGEST_FROM_SHADOW)

    @property
    def has_room(self) -> bool:
        """Whether another window can wait."""
        return len(self._waiting) < MOST_WAITING and self._waiting_size < LARGEST_WAITING

    def put(self, record: RunWindow, values: Array) -> None:
        """Have a window run, behind those that wait. The values are copied."""
        data = values.tobytes()
        self._waiting.append((record, data))
        self._waiting_size += len(data)
        self._start_next()

    def poll(self) -> list[ShadowRan]:
        """Return what came since the last call."""
        found: list[ShadowRan] = []
        if self._channel is not None and not self._ended and select([self._channel], [], [], 0)[0]:
            try:
                for record in self._channel.receive():
                    found += self._take(record)
            except EOFError:
                self._ended = monotonic()
            except UnreadableError as error:
                raise ModelError(f"its answer: {error}") from error
        self._refuse_late()
        return found

    def close(self) -> None:
        """Let go of it. A process that hangs does not notice."""
        if self._channel is not None:
            self._channel.close()
        self._file.close()

    def _take(self, record: FromShadow) -> list[ShadowRan]:
        if isinstance(record, NotOpened):
            raise ModelError(cleaned(record.reason) or "it did not open")
        if isinstance(record, ShadowOpened):
            if self.opened is not None:
                raise ModelError("it opened twice")
            self.opened = record
            return []
        if self._running is None or record.ordinal != self._running.ordinal:
            raise ModelError("it sent an answer to a window that it was not given")
        self._running = None
        self._start_next()
        return [_read(record)]

    def _refuse_late(self) -> None:
        now = monotonic()
        if self._ended:
            if now > self._ended + AFTER_END:
                raise ModelError("its process closed the connection")
        elif self.opened is None and now > self._until:
            raise ModelError("it did not open in time")
        elif self._running is not None and now > self._until:
            raise ModelError(f"no answer to a window within {self._deadline:g} s")

    def _start_next(self) -> None:
        if self._running is not None or not self._waiting or self._ended:
            return
        assert self._channel is not None
        record, data = self._waiting.popleft()
        self._waiting_size -= len(data)
        self._file.seek(0)
        self._file.write(data)
        self._file.flush()
        try:
            self._channel.send(record, () if self._shared else (self._file.fileno(),))
        except BlockingIOError as error:
            raise ModelError("it does not read what it is sent") from error
        except OSError:
            self._ended = monotonic()
            return
        self._shared = True
        self._running, self._until = record, monotonic() + self._deadline


def _read(record: Ran) -> ShadowRan:
    run, cpu = record.run_ns / 1e9, record.cpu_ns / 1e9
    if record.error:
        return ShadowRan(record.ordinal, run, cpu, cleaned(record.error))
    try:
        output = agreement.read(record.kind, bytes(record.output))
        check_output(_encode(output))
    except UnreadableError as error:
        raise ModelError(str(error)) from error
    return ShadowRan(record.ordinal, run, cpu, output=output)
