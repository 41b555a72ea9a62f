"""All sockets to the gateway in a process with models, and the requests that wait there.

The process decides when requests run. ``limpet.wire.guest_socket`` has what one socket does.
"""

from __future__ import annotations

import logging
from collections import deque
from select import POLLIN, poll
from time import perf_counter
from typing import TYPE_CHECKING, Protocol

from limpet.errors import UnreadableError
from limpet.wire.border import cleaned
from limpet.wire.guest_records import MOST_WAITING, Inferred, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from limpet.wire.guest_records import Serving
    from limpet.wire.guest_socket import GuestSocket, Wanted

log = logging.getLogger(__name__)

TOGETHER = 0.0002
"""Seconds for which an answer may wait for others, so that small models do not wake the gateway for each."""


class Job(Protocol):
    """Requests that run, in steps."""

    @property
    def done(self) -> bool:
        """Whether all are answered."""

    @property
    def numbers(self) -> list[int]:
        """The requests that are not answered yet."""

    def step(self) -> list[Inferred]:
        """Run the model once. Return the answers that are known now."""


class Serves(Protocol):
    """A model that answers requests, at most ``together`` at a time."""

    together: int

    def serving(self) -> Serving:
        """Return the first record of each socket."""

    def begin(self, requests: Sequence[Wanted]) -> Job:
        """Begin to run requests."""


class _Socket:
    def __init__(self, owner: object, served: Serves, link: GuestSocket, close: Callable[[], None]) -> None:
        self.owner = owner
        self.served = served
        self.link = link
        self.close = close
        self.waiting: deque[Wanted] = deque()
        self.job: Job | None = None

    @property
    def busy(self) -> bool:
        return self.job is not None or bool(self.waiting)

    def step(self) -> None:
        """Run the model once."""
        if self.job is None:
            count = min(self.served.together, len(self.waiting))
            self.job = self.served.begin([self.waiting.popleft() for _ in range(count)])
        for answer in self.job.step():
            self.link.answer(answer)
        if self.job.done:
            self.job = None


class GuestSockets:
    """Sockets, each with a model and an ``owner``: whose model it is. Nothing here blocks but ``poll``."""

    def __init__(self) -> None:
        self._sockets: dict[int, _Socket] = {}
        self._poll = poll()
        self.receiving = 0.0
        """Seconds for which ``poll`` took what had come, since the start."""

    def __bool__(self) -> bool:
        """Whether there is any socket."""
        return bool(self._sockets)

    @property
    def waiting(self) -> bool:
        """Whether there are requests to run."""
        return any(socket.busy for socket in self._sockets.values())

    def add(
        self, link: GuestSocket, served: Serves | Refused, owner: object, close: Callable[[], None], most: int
    ) -> None:
        """Begin to serve a model on a socket, or say there why not. ``close`` is called at the end of it.

        Of one owner there are at most ``most`` sockets; one more ends the oldest.
        """
        try:
            link.begin(served if isinstance(served, Refused) else served.serving())
        except OSError:  # The gateway is gone.
            served = Refused("")
        if isinstance(served, Refused):
            link.close()
            close()
            return
        alike = [socket for socket in self._sockets.values() if socket.owner is owner]
        for socket in alike[: max(len(alike) - most + 1, 0)]:
            self._drop(socket)
        self._sockets[link.fileno()] = _Socket(owner, served, link, close)
        self._poll.register(link, POLLIN)

    def watch(self, fd: int) -> None:
        """Have ``poll`` end also if this can be read."""
        self._poll.register(fd, POLLIN)

    def unwatch(self, fd: int) -> None:
        """Watch it no more."""
        self._poll.unregister(fd)

    def poll(self, longest: float | None) -> set[int]:
        """Take what has come, or comes within so many seconds (``None``: ever). Return what else can be read."""
        others = set()
        ready = self._poll.poll(None if longest is None else longest * 1000)
        begin = perf_counter()
        for fd, _ in ready:
            if (socket := self._sockets.get(fd)) is None:
                others.add(fd)
            else:
                self._receive(socket)
        self.receiving += perf_counter() - begin
        return others

    def run(self, until: float, stop: Callable[[], object]) -> float:
        """Run requests of each socket in turn until none waits, ``stop`` says so, or the time is over.

        A model runs at least once. ``until`` is a time of ``perf_counter``. Return for how many seconds they ran.
        """
        begin = oldest = now = perf_counter()
        over = False
        while not over and self.waiting:
            for socket in list(self._sockets.values()):
                if not socket.busy:
                    continue
                socket.step()
                now = perf_counter()
                if now - oldest > TOGETHER:
                    self.flush()
                    oldest = now
                if over := bool(now > until or stop()):
                    break
        self.flush()
        return now - begin

    def flush(self) -> None:
        """Send all answers."""
        for socket in list(self._sockets.values()):
            self._flush(socket)

    def end(self, owner: object, reason: str) -> None:
        """End the sockets of an owner, and answer what waits with a reason that will pass."""
        for socket in [one for one in self._sockets.values() if one.owner is owner]:
            begun = [] if socket.job is None else socket.job.numbers
            for number in (*begun, *(wanted.infer.number for wanted in socket.waiting)):
                socket.link.answer(Inferred(number, problem=reason, busy=True))
            self._flush(socket)
            self._drop(socket)

    def close(self) -> None:
        """End all sockets."""
        for socket in list(self._sockets.values()):
            self._drop(socket)

    def _receive(self, socket: _Socket) -> None:
        try:
            for wanted in socket.link.receive():
                if len(socket.waiting) < MOST_WAITING:
                    socket.waiting.append(wanted)
                else:
                    problem = f"more than {MOST_WAITING} requests wait"
                    socket.link.answer(Inferred(wanted.infer.number, problem=problem, busy=True))
        except EOFError:
            self._drop(socket)
        except UnreadableError as error:
            log.warning("a socket of the local API is closed: %s", cleaned(str(error)))
            self._drop(socket)

    def _flush(self, socket: _Socket) -> None:
        try:
            socket.link.flush()
        except BlockingIOError:
            log.warning("a socket of the local API is closed: it does not read what it is sent")
            self._drop(socket)
        except OSError:
            self._drop(socket)

    def _drop(self, socket: _Socket) -> None:
        fd = socket.link.fileno()
        if self._sockets.pop(fd, None) is not None:
            self._poll.unregister(fd)
            socket.link.close()
            socket.close()
