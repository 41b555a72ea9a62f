"""An executor: a process that holds one model on one accelerator, and nothing else.

Its worker puts inputs into shared memory and waits for outputs. If the accelerator crashes this process or hangs,
the worker goes on without it, and runs the window at hand elsewhere. ``limpet.wire.executor_records`` has what the
two send each other.
"""

from __future__ import annotations

import logging
import mmap
import os
from contextlib import ExitStack, suppress
from math import prod
from time import monotonic
from typing import TYPE_CHECKING, cast

import numpy as np

from limpet.contracts.delegate import CPU
from limpet.device import directories
from limpet.errors import LimpetError, ModelError, UnreadableError
from limpet.inference import admission, needs
from limpet.inference.delegates import delegates_of
from limpet.inference.input_fit import resized
from limpet.inference.planning import plan_pipeline, plan_source, source_plugin
from limpet.isolation import sandbox
from limpet.untrusted import reading
from limpet.wire.border import cleaned, cleaned_placed
from limpet.wire.channel import Channel
from limpet.wire.executor_records import LARGEST, Done, Opened, Recheck, Reset, Run, ToExecutor
from limpet.wire.memory_file import anonymous_file, seal
from limpet.wire.shared_arrays import put, view

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from limpet.contracts.assignment import Assignment
    from limpet.contracts.data import Array, TensorSpec
    from limpet.contracts.delegate import Choice
    from limpet.contracts.runtime import Storing
    from limpet.inference.plan import PipelinePlan
    from limpet.wire.fork_records import Open

log = logging.getLogger(__name__)

_ALIGN = 64
"""Bytes on which tensors are aligned in the shared memory."""
_WIDEST = 8
"""Largest size of a value, in bytes."""
_OPEN_SIZE = 1 << 20
"""Bytes for an output whose size depends on the data."""


def run(end: socket.socket, task: Open) -> None:
    """Serve the worker at the other end of the socket until it goes away.

    ``task`` comes from the supervisor. The worker may have been taken over, so it decides neither what is loaded
    nor what the sandbox leaves open.
    """
    np.seterr(all="ignore")
    worker: Channel[ToExecutor] = Channel(end, ToExecutor, largest=LARGEST)
    try:
        with ExitStack() as stack:
            _Executor(worker, task, stack).serve()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass
    except UnreadableError as error:
        log.error("its worker: %s", error)  # noqa: TRY400 - the text is enough
    except LimpetError as error:
        with suppress(OSError):
            worker.send(Done(cleaned(str(error))))


class _Executor:
    """The model, and the memory that this process shares with its worker."""

    def __init__(self, worker: Channel[ToExecutor], task: Open, stack: ExitStack) -> None:
        self._worker = worker
        assignment, name = task.assignment, task.pipeline
        (source,) = assignment.pipelines[name].sources
        self._choice = next(choice for choice in delegates_of(assignment, name) if choice.name == task.delegate)
        # Foreign bytes are parsed from here on: a recording's, a manifest's. Then it needs even less.
        planning = needs.of_planning(assignment, name, source_plugin(assignment, source), self._choice)
        sandbox.enter(planning, assignment.folders.state.resolve())
        self._plan = plan_pipeline(assignment, name, plan_source(assignment, source).spec)
        in_force = _confine(assignment, self._plan, self._choice)
        self._shapes = resized(self._plan)
        self._model, placed = stack.enter_context(admission.admitted(self._plan, self._choice, self._shapes))
        placed = cleaned_placed(placed)
        placed.sandbox = in_force
        places = lay_out([*self._model.inputs, *self._model.outputs])
        self._ins, self._outs = places[: len(self._model.inputs)], places[len(self._model.inputs) :]
        with anonymous_file() as file:
            file.truncate(places[-1][0] + places[-1][1])
            # The memory cannot shrink any more, so the worker can rely on what it has mapped.
            seal(file)
            self._memory = mmap.mmap(file.fileno(), 0)
            opened = Opened(placed, placed.run_us / 1e6, self._recheck(), places, len(self._outs))
            worker.send(opened, (file.fileno(),))

    def serve(self) -> None:
        """Do what the worker asks for until it is gone."""
        while True:
            for record in self._worker.receive():
                try:
                    done = self._do(record)
                except LimpetError as error:
                    done = Done(cleaned(str(error)))
                self._worker.send(done)

    def _do(self, record: ToExecutor) -> Done:
        if isinstance(record, Run):
            with reading("inputs"):
                inputs = [view(self._memory, *pair) for pair in zip(self._ins, record.inputs, strict=True)]
            outputs = self._run(inputs, record)
            return Done(outputs=[put(self._memory, *pair) for pair in zip(self._outs, outputs, strict=True)])
        if isinstance(record, Reset):
            self._model.reset()
        elif isinstance(record, Recheck):
            self._recheck()
        return Done()

    def _run(self, inputs: Sequence[Array], record: Run) -> Sequence[Array]:
        if not record.stored:
            return self._model.run(inputs)
        if not self._plan.runtime.abilities.stored:
            raise ModelError(f"the runtime {self._plan.runtime.kind!r} takes no stored values")
        return cast("Storing", self._model).run_stored(inputs, real=record.real)

    def _recheck(self) -> float:
        """Check that outputs are still right and come fast enough. Return how many seconds that took."""
        started = monotonic()
        with admission.opened(self._plan, CPU, self._shapes) as cpu:
            admission.examine(self._plan, self._choice, self._model, cpu, share=admission.THROTTLED)
        return monotonic() - started


def _confine(assignment: Assignment, plan: PipelinePlan, choice: Choice) -> list[str]:
    """Enter the sandbox, as from here on the code of strangers runs: a delegate's, its driver's and the model."""
    wanted = needs.of_executor(assignment, plan, choice)
    # Where drivers of GPUs keep what they compiled, instead of in the user's home.
    state = assignment.folders.state.resolve()
    os.environ["XDG_CACHE_HOME"] = str(directories.drivers_cache(state, plan.name))
    return sandbox.enter(wanted, state)


def lay_out(specs: Sequence[TensorSpec]) -> list[tuple[int, int]]:
    """Return an offset and a size in bytes for each tensor, whatever dtype its values come in."""
    places: list[tuple[int, int]] = []
    end = 0
    for spec in specs:
        size = _OPEN_SIZE if -1 in spec.shape else max(prod(spec.shape), 1) * _WIDEST
        places.append((end, size))
        end += -(-size // _ALIGN) * _ALIGN
    return places
