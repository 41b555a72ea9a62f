"""The models of this worker's pipelines, for clients of the gateway, between the pipelines' own windows.

Samples go first. While any wait, requests get a small share of the time. They count in no figure of a pipeline.
"""

from __future__ import annotations

from collections import deque
from contextlib import ExitStack
from time import perf_counter
from typing import TYPE_CHECKING, cast

from limpet.contracts.delegate import CPU
from limpet.errors import LimpetError, ModelError
from limpet.inference import infer_request
from limpet.inference.admission import opened
from limpet.inference.guest_plan import rows_of
from limpet.inference.inputs import complete
from limpet.inference.served_model import MOST_ROWS, Identity, ServedModel
from limpet.wakeup import Wakeup
from limpet.wire.border import cleaned
from limpet.wire.guest_records import Refused
from limpet.wire.guest_socket import GuestSocket
from limpet.wire.guest_sockets import GuestSockets
from limpet.worker.delegation import DelegatedModel
from limpet.worker.spare_time import SLICE, SpareTime

if TYPE_CHECKING:
    import socket

    from limpet.contracts.runtime import Model, Storing
    from limpet.inference.pipeline import Pipeline
    from limpet.worker.mailbox import Mailbox

MOST_OF_A_PIPELINE = 4
"""Sockets for one pipeline. One more ends the oldest."""


class ServedModels:
    """Serves models on sockets to the gateway. ``mailbox``: whose samples go first."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._sockets = GuestSockets()
        self._arrived: deque[tuple[Pipeline | None, socket.socket]] = deque()
        self._time = SpareTime()
        self._received = 0.0
        """Seconds of receiving that were counted as time for requests."""
        self._wakeup: Wakeup | None = None

    @property
    def waiting(self) -> bool:
        """Whether there is something to do: a new socket, or requests."""
        return bool(self._arrived) or self._sockets.waiting

    def __bool__(self) -> bool:
        """Whether there is any gateway to listen to."""
        return bool(self._sockets)

    def attach(self, pipeline: Pipeline | None, end: socket.socket) -> None:
        """Serve the model of a pipeline on a socket, or say there why that is not possible.

        That may take a while, so it is done with the requests.
        """
        self._arrived.append((pipeline, end))

    def _attach(self, pipeline: Pipeline | None, end: socket.socket) -> None:
        stack = ExitStack()
        served: ServedModel | Refused
        if pipeline is None:
            served = Refused("the pipeline does not run", busy=True)
        else:
            try:
                served = _served(pipeline, stack)
            except LimpetError as error:
                served = Refused(cleaned(str(error)))
        self._sockets.add(GuestSocket(end), served, pipeline, stack.close, MOST_OF_A_PIPELINE)
        if self._sockets and self._wakeup is None:
            self._wakeup = Wakeup()
            self._sockets.watch(self._wakeup.socket.fileno())
            self._mailbox.watch(self._wakeup.wake)

    def cancel(self, pipeline: Pipeline) -> None:
        """Answer the requests for a pipeline that is about to be closed, and end its sockets."""
        self._sockets.end(pipeline, "the pipeline was closed meanwhile")
        self._arrived = deque((None if one is pipeline else one, end) for one, end in self._arrived)

    def close(self) -> None:
        """End all sockets."""
        for _, end in self._arrived:
            end.close()
        self._arrived.clear()
        self._sockets.close()
        self._rest()

    def run_slice(self) -> None:
        """Run requests for a moment, unless samples wait and requests had their share."""
        begin = perf_counter()
        if not (self._sockets or self._arrived):
            self._rest()
            return
        if not self._time.may_run(busy=len(self._mailbox) > 0):
            return
        until, used = begin + SLICE, 0.0
        if self._arrived:
            self._attach(*self._arrived.popleft())
            used = perf_counter() - begin
        self._sockets.poll(0.0)
        while self._sockets.waiting:
            used += self._sockets.run(until, self._mailbox.__len__)
            left = until - perf_counter()
            if left <= 0 or len(self._mailbox):
                break
            self._sockets.poll(0.0 if self._sockets.waiting else left)
        used += self._sockets.receiving - self._received  # also since the last slice
        self._received = self._sockets.receiving
        if used:
            self._time.spent(used)

    def wait(self, longest: float) -> None:
        """Wait until requests or samples come, for so many seconds at most."""
        if not len(self._mailbox) and not self._mailbox.closed:
            self._sockets.poll(longest)
            if self._wakeup is not None:
                self._wakeup.clear()

    def _rest(self) -> None:
        """Listen to the mailbox no more: without sockets, nothing waits here."""
        if self._wakeup is not None:
            self._mailbox.watch(None)
            self._sockets.unwatch(self._wakeup.socket.fileno())
            self._wakeup.close()
            self._wakeup = None


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
    if isinstance(loaded, DelegatedModel) and any(-1 in spec.shape for spec in loaded.inputs):
        # An accelerator may refuse another size, and the pipeline would lose it.
        raise ModelError("the size of its inputs is open, so clients cannot run it on an accelerator")
    if plan.state:
        loaded = stack.enter_context(opened(plan, CPU, pipeline.shapes))
    model = complete(loaded, plan.inputs, plan.state)
    manifest = plan.bundle.manifest
    rows = not plan.state and _batched(pipeline, model)
    identity = Identity(
        manifest.name,
        manifest.version,
        infer_request.digest_of_loaded(plan, model.delegate),
        infer_request.runtime(plan),
        rows=MOST_ROWS if rows else 1,
        forgets=bool(plan.state),
    )
    if not able.stored or model is not loaded:
        return ServedModel(identity, model)
    batch = rows_of(plan, pipeline.shapes, stack) if rows and plan.delegates == (CPU,) else None
    return ServedModel(identity, model, cast("Storing", loaded), batch)


def _batched(pipeline: Pipeline, model: Model) -> bool:
    """Whether the model's file leaves the batch open, and each window is one row of it."""
    opens = [one.shape[:1] == (-1,) for one in pipeline.plan.inputs if one.windowed]
    return bool(opens) and all(opens) and all(spec.shape[:1] == (1,) for spec in (*model.inputs, *model.outputs))
