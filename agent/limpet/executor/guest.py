"""A guest: a process with a model that no pipeline runs, for clients of the gateway.

It has a lower priority than the pipelines. Whatever a model or a client does to it, it ends alone.
``limpet.wire.guest_records`` has what it says to the supervisor and to the gateway.
"""

from __future__ import annotations

import logging
import signal
import socket
from contextlib import ExitStack, suppress
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from limpet.errors import LimpetError, UnreadableError
from limpet.executor.priority import yield_to_pipelines
from limpet.inference import needs
from limpet.inference.delegates import delegates_of
from limpet.inference.guest_plan import plan_guest, serve_guest
from limpet.isolation import sandbox
from limpet.untrusted import reading
from limpet.wire.border import cleaned
from limpet.wire.channel import Channel
from limpet.wire.guest_records import Connect, Loaded, NotLoaded
from limpet.wire.guest_socket import GuestSocket
from limpet.wire.guest_sockets import GuestSockets

if TYPE_CHECKING:
    from limpet.inference.served_model import ServedModel
    from limpet.wire.fork_records import OpenGuest

log = logging.getLogger(__name__)

SLICE = 0.02
"""Seconds for which requests run until new sockets are looked at."""
LONGEST_RUN = 30
"""Seconds after which the kernel ends a guest whose model does not return. It is started again."""
MOST_SOCKETS = 16
"""Sockets to the gateway. One more ends the oldest."""


def run(end: socket.socket, task: OpenGuest) -> None:
    """Serve the gateway on the sockets that the supervisor hands over, until the supervisor goes away."""
    np.seterr(all="ignore")
    yield_to_pipelines()
    supervisor: Channel[Connect] = Channel(end, Connect, fds=MOST_SOCKETS)
    with ExitStack() as stack, suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            served, in_force = _open(task, stack)
        except LimpetError as error:
            supervisor.send(NotLoaded(cleaned(str(error))))
            return
        supervisor.send(Loaded(served.serving().delegate, in_force))
        try:
            _serve(supervisor, served)
        except UnreadableError as error:
            log.error("the supervisor: %s", error)  # noqa: TRY400 - the text is enough


def _open(task: OpenGuest, stack: ExitStack) -> tuple[ServedModel, list[str]]:
    """Enter the sandbox and load the model. Return also what is in force. ``LimpetError`` says why not."""
    assignment, name = task.assignment, task.pipeline
    state = assignment.folders.state.resolve()
    choices = delegates_of(assignment, name)
    sandbox.enter(needs.of_guest_planning(assignment, name, choices), state)
    with reading(f"the model {name}"):
        plan = plan_guest(assignment, name)
        in_force = sandbox.enter(needs.of_guest(assignment, name, plan.bundle, choices), state)
        return serve_guest(plan, stack), in_force


def _serve(supervisor: Channel[Connect], served: ServedModel) -> None:
    sockets = GuestSockets()
    sockets.watch(supervisor.fileno())
    while True:
        if sockets.poll(0.0 if sockets.waiting else None):
            for _ in supervisor.receive():
                link = GuestSocket(socket.socket(fileno=supervisor.received_fds.pop(0)))
                sockets.add(link, served, served, lambda: None, MOST_SOCKETS)
        signal.alarm(LONGEST_RUN)
        sockets.run(perf_counter() + SLICE, lambda: False)
        signal.alarm(0)
