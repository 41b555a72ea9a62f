"""Clients of the gateway that use the models of this worker's pipelines, between the pipelines' own windows.

Samples go first. While any wait, requests get a small share of the time. They count in no figure of a pipeline.
"""

from __future__ import annotations

import logging
from collections import deque
from contextlib import ExitStack
from select import POLLIN, poll
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple, cast

from limpet.contracts.delegate import CPU
from limpet.errors import LimpetError, ModelError, UnreadableError
from limpet.inference import infer_request
from limpet.inference.admission import opened
from limpet.inference.inputs import complete
from limpet.inference.served_model import MOST_ROWS, Identity, ServedModel
from limpet.wakeup import Wakeup
from limpet.wire.border import cleaned
from limpet.wire.guest_records import MOST_WAITING, Inferred, Refused
from limpet.wire.guest_socket import GuestSocket, Wanted
from limpet.worker.delegation import DelegatedModel

if TYPE_CHECKING:
    import socket

    from limpet.contracts.runtime import Model, Storing
    from limpet.inference.pipeline import Pipeline
    from limpet.worker.mailbox import Mailbox

log = logging.getLogger(__name__)

SLICE = 0.005
"""Seconds for which requests run at a time. One request runs in any case."""
SHARE = 0.1
"""Share of the time that requests get if samples always wait."""
TOGETHER = 0.0002
"""Seconds for which an answer may wait for others, so that small models do not wake the gateway for each."""
MOST_OF_A_PIPELINE = 4
"""Sockets for one pipeline. One more ends the oldest."""


class _Waiting(NamedTuple):
    wanted: Wanted
    since: float


class _Guest:
    """The gateway on one socket, and what it wants of one pipeline's model."""

    def __init__(self, pipeline: Pipeline, served: ServedModel, link: GuestSocket, stack: ExitStack) -> None:
        self.pipeline = pipeline
        self.served = served
        self.link = link
        self.stack = stack
        self.waiting: deque[_Waiting] = deque()


class Guests:
    """All sockets to the gateway. ``mailbox``: whose samples go first."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._guests: dict[int, _Guest] = {}
        self._next = 0.0
        self._poll = poll()
        self._wakeup: Wakeup | None = None

    @property
    def waiting(self) -> bool:
        """Whether there are requests to run."""
        return any(guest.waiting for guest in self._guests.values())

    def __bool__(self) -> bool:
        """Whether there is any gateway to listen to."""
        return bool(self._guests)

    def attach(self, pipeline: Pipeline | None, end: socket.socket) -> None:
        """Serve the model of a pipeline on a socket, or say there why that is not possible."""
        link = GuestSocket(end)
        stack = ExitStack()
        stack.callback(link.close)
        try:
            try:
                if pipeline is None:
                    raise ModelError("the pipeline does not run")
                served = _served(pipeline, stack)
                link.begin(served.serving())
            except LimpetError as error:
                link.begin(Refused(cleaned(str(error)), busy=pipeline is None))
                stack.close()
                return
        except OSError:
            stack.close()
            return
        alike = [guest for guest in self._guests.values() if guest.pipeline is pipeline]
        for guest in alike[: len(alike) - MOST_OF_A_PIPELINE + 1]:
            self._drop(guest)
        self._watch()
        self._guests[link.fileno()] = _Guest(pipeline, served, link, stack)
        self._poll.register(link, POLLIN)

    def cancel(self, pipeline: Pipeline) -> None:
        """Answer the requests for a pipeline that is about to be closed, and end its sockets."""
        for guest in [one for one in self._guests.values() if one.pipeline is pipeline]:
            for request in guest.waiting:
                number = request.wanted.infer.number
                guest.link.answer(Inferred(number, problem="the pipeline was closed meanwhile", busy=True))
            self._flush(guest)
            self._drop(guest)

    def close(self) -> None:
        """End all sockets."""
        for guest in list(self._guests.values()):
            self._drop(guest)

    def run_slice(self) -> None:
        """Run requests for a moment, unless samples wait and have not had their share."""
        begin = perf_counter()
        if not self._guests or (len(self._mailbox) and begin < self._next):
            return
        used = 0.0
        ready = self._read(0.0)
        while ready and (served := self._run_round(begin + SLICE)):
            used += served
            left = begin + SLICE - perf_counter()
            if left <= 0 or len(self._mailbox):
                break
            ready = self._read(0.0 if self.waiting else left)
        if used:
            self._next = perf_counter() + used * (1 / SHARE - 1)

    def wait(self, longest: float) -> None:
        """Wait until requests or samples come, for so many seconds at most."""
        if not len(self._mailbox) and not self._mailbox.closed:
            self._poll.poll(longest * 1000)
            assert self._wakeup is not None
            self._wakeup.clear()

    # --- one socket

    def _read(self, longest: float) -> bool:
        """Take what has come, or comes within so many seconds. Return whether there is something to run."""
        for fd, _ in self._poll.poll(longest * 1000):
            if (guest := self._guests.get(fd)) is not None:
                self._receive(guest)
        return self.waiting

    def _receive(self, guest: _Guest) -> None:
        now = perf_counter()
        try:
            for wanted in guest.link.receive():
                if len(guest.waiting) < MOST_WAITING:
                    guest.waiting.append(_Waiting(wanted, now))
                else:
                    problem = f"more than {MOST_WAITING} requests wait"
                    guest.link.answer(Inferred(wanted.infer.number, problem=problem, busy=True))
        except EOFError:
            self._drop(guest)
        except UnreadableError as error:
            log.warning("a client's channel is closed: %s", cleaned(str(error)))
            self._drop(guest)

    def _run_round(self, until: float) -> float:
        """Run a request of each gateway in turn while time is left. Return for how many seconds that ran."""
        begin = oldest = perf_counter()
        while True:
            for guest in list(self._guests.values()):
                if guest.waiting:
                    wanted, since = guest.waiting.popleft()
                    guest.link.answer(guest.served.answer(*wanted, since))
                now = perf_counter()
                if now - oldest > TOGETHER:
                    self._flush_all()
                    oldest = now
                if now > until or len(self._mailbox):
                    break
            if now > until or len(self._mailbox) or not self.waiting:
                break
        self._flush_all()
        return perf_counter() - begin

    def _flush_all(self) -> None:
        for guest in list(self._guests.values()):
            self._flush(guest)

    def _flush(self, guest: _Guest) -> None:
        try:
            guest.link.flush()
        except BlockingIOError:
            log.warning("a client's channel is closed: it does not read what it is sent")
            self._drop(guest)
        except OSError:
            self._drop(guest)

    def _drop(self, guest: _Guest) -> None:
        fd = guest.link.fileno()
        if self._guests.pop(fd, None) is None:
            return
        self._poll.unregister(fd)
        guest.stack.close()
        if not self._guests and self._wakeup is not None:
            self._mailbox.watch(None)
            self._poll.unregister(self._wakeup.socket)
            self._wakeup.close()
            self._wakeup = None

    def _watch(self) -> None:
        """Have samples that come end a wait."""
        if self._wakeup is None:
            self._wakeup = Wakeup()
            self._poll.register(self._wakeup.socket, POLLIN)
            self._mailbox.watch(self._wakeup.wake)


def _served(pipeline: Pipeline, stack: ExitStack) -> ServedModel:
    """Return the model of a pipeline as clients use it. ``ModelError`` if they cannot.

    It is the pipeline's own, unless that keeps state. Then it is another one on the CPU, so that neither sees the
    other's windows.
    """
    plan = pipeline.plan
    able = plan.runtime.abilities
    if able.learns:
        raise ModelError("the model learns on this device from what it runs, so clients cannot run it")
    loaded: Model = pipeline.model
    if plan.state:
        loaded = stack.enter_context(opened(plan, CPU, pipeline.shapes))
    model = complete(loaded, plan.inputs, plan.state)
    stores = able.stored and model is loaded and not isinstance(loaded, DelegatedModel)
    manifest = plan.bundle.manifest
    identity = Identity(
        manifest.name,
        manifest.version,
        infer_request.digest(plan, model.delegate),
        infer_request.runtime(plan),
        rows=MOST_ROWS if _batched(pipeline, model) else 1,
        forgets=bool(plan.state),
        each=bool(plan.state) and not plan.state.lasting,
    )
    return ServedModel(identity, model, cast("Storing", loaded) if stores else None)


def _batched(pipeline: Pipeline, model: Model) -> bool:
    """Whether the model's file leaves the batch open, and each window is one row of it."""
    opens = [one.shape[:1] == (-1,) for one in pipeline.plan.inputs if one.windowed]
    return bool(opens) and all(opens) and all(spec.shape[:1] == (1,) for spec in (*model.inputs, *model.outputs))
