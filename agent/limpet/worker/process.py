"""A worker process: one source and the pipelines on it.

A reader thread fills the mailbox. A pipeline that replaces another one opens in its own thread. The main
thread does everything else. A worker parses untrusted bytes, so it holds no secret, and no network that its source
does not need. Only records on its channel to the supervisor leave it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from limpet import plugins
from limpet.errors import LimpetError
from limpet.inference.planning import plan_source, source_plugin
from limpet.isolation import device_nodes, sandbox
from limpet.isolation.places import Places
from limpet.untrusted import reading
from limpet.wire.border import cleaned
from limpet.wire.channel import Channel
from limpet.wire.records import Assign, ToWorker, Transition
from limpet.worker.device_watch import DeviceWatch
from limpet.worker.loop import Worker, needs_of

if TYPE_CHECKING:
    import socket

    from limpet.wire.fork_records import Serve
    from limpet.worker.result_sender import SupervisorChannel

log = logging.getLogger(__name__)

MOST_FDS = 64
"""File descriptors that may wait: ends of sockets of executors, and windows from outside."""


def run(end: socket.socket, task: Serve) -> None:  # noqa: ARG001 - what it runs comes on the socket
    """Serve the supervisor at the other end of the socket until it says stop or goes away."""
    # What a sensor sends may overflow; decoders say what infinity and NaN mean.
    np.seterr(all="ignore")
    supervisor: SupervisorChannel = Channel(end, ToWorker, fds=MOST_FDS)
    try:
        first, *others = _first_records(supervisor)
        if isinstance(first, Assign) and (worker := _open(supervisor, first)):
            worker.serve([first, *others])
    except (EOFError, BrokenPipeError, ConnectionResetError):
        log.debug("the supervisor is gone")


def _first_records(supervisor: SupervisorChannel) -> list[ToWorker]:
    """Wait for what this worker is to run. Commands for it may follow in the same read."""
    while not (records := list(supervisor.receive())):
        pass
    return records


def _open(supervisor: SupervisorChannel, assigned: Assign) -> Worker | None:
    """Enter the sandbox and open the source. If that fails, its pipelines are failed."""
    assignment = assigned.assignment
    (name,) = assignment.sources
    try:
        plugin = source_plugin(assignment, name)
        allowed = needs_of(assigned, plugin)
        nodes = device_nodes.present(allowed.devices)
        in_force = sandbox.enter(allowed, assignment.folders.state.resolve())
        places = Places(allowed)
        # Without Landlock, it can open a device that comes back.
        devices = DeviceWatch(
            allowed.devices if sandbox.limits_devices(in_force) else (),
            nodes,
            lambda: plugins.needs_of(plugin.module, plugin.config).devices,
        )
        # From here on bytes are parsed that someone else wrote, those of a recording first.
        with reading(f"sources.{name}"):
            source = plan_source(assignment, name)
    except LimpetError as error:
        for pipeline, revision in assigned.revisions.items():
            supervisor.send(Transition(pipeline, "failed", cleaned(str(error)), revision=revision))
        return None
    return Worker(supervisor, source, places, devices, in_force)
