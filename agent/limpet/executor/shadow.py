"""A shadow: a process that runs a pipeline whole, on single windows, beside the one that reports.

Transforms, model and decoder are all in here. So whatever a new model does, crash, hang or take memory, the
pipeline at work goes on. ``limpet.wire.shadow_records`` has what a shadow and its worker send each other.
"""

from __future__ import annotations

import os
from contextlib import suppress
from math import prod
from time import monotonic_ns, process_time_ns
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from limpet.contracts.data import Window
from limpet.contracts.delegate import CPU
from limpet.errors import LimpetError, ModelError
from limpet.executor.priority import yield_to_pipelines
from limpet.inference import needs, unpacking
from limpet.inference.agreement import kind_of
from limpet.inference.pipeline import Pipeline
from limpet.inference.planning import plan_pipeline, plan_source, source_plugin
from limpet.inference.proving import run_one_window
from limpet.isolation import sandbox
from limpet.pictures.frame import as_frames
from limpet.untrusted import reading
from limpet.wire.border import cleaned
from limpet.wire.channel import Channel
from limpet.wire.records import LARGEST_OUTPUT
from limpet.wire.shadow_records import LARGEST_TO_SHADOW, NotOpened, Ran, RunWindow, ShadowOpened

if TYPE_CHECKING:
    import socket

    from limpet.contracts.data import Array
    from limpet.wire.fork_records import OpenShadow


def run(end: socket.socket, task: OpenShadow) -> None:
    """Serve the worker at the other end of the socket until it goes away.

    ``task`` comes from the supervisor. The worker may have been taken over, so it does not decide what is loaded.
    """
    np.seterr(all="ignore")
    yield_to_pipelines()
    worker: Channel[RunWindow] = Channel(end, RunWindow, largest=LARGEST_TO_SHADOW, fds=1)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            pipeline = _open(task)
        except LimpetError as error:
            worker.send(NotOpened(cleaned(str(error))))
            return
        with pipeline:
            worker.send(ShadowOpened(pipeline.plan.window, pipeline.plan.columns))
            _Shadow(worker, pipeline).serve()


def _open(task: OpenShadow) -> Pipeline:
    """Enter the sandbox, open the pipeline and run one window that is made up. ``LimpetError`` says why not."""
    assignment, name = task.assignment, task.pipeline
    (source,) = assignment.pipelines[name].sources
    state = assignment.folders.state.resolve()
    planning = needs.of_planning(assignment, name, source_plugin(assignment, source), CPU)
    sandbox.enter(planning._replace(change=unpacking.all_folders(assignment)), state)
    with reading(f"the model beside pipeline {name}"):
        plan = plan_pipeline(assignment, name, plan_source(assignment, source).spec)
        wanted = needs.of_executor(assignment, plan, CPU)
        sandbox.enter(wanted._replace(change=frozenset(), devices=frozenset()), state)
        pipeline = Pipeline(plan)
        try:
            run_one_window(pipeline)
        except BaseException:
            pipeline.close()
            raise
        return pipeline


class _Shadow:
    """Runs one window after the other."""

    def __init__(self, worker: Channel[RunWindow], pipeline: Pipeline) -> None:
        self._worker = worker
        self._pipeline = pipeline
        self._encoder = msgspec.msgpack.Encoder()
        self._file = -1

    def serve(self) -> None:
        while True:
            for record in self._worker.receive():
                if self._worker.received_fds:
                    self._file = self._worker.received_fds.pop()
                self._worker.send(self._run(record))

    def _run(self, record: RunWindow) -> Ran:
        values = self._values(record)
        window = Window(values, record.monotonic_ns, record.wall_ns, record.ordinal, record.gap)
        window.recorded_ns = record.recorded_ns
        started, used = monotonic_ns(), process_time_ns()
        error, kind, output = "", "", msgspec.Raw(b"\xc0")
        try:
            result, _ = self._pipeline.graph.infer(window)
            kind, output = kind_of(result.output), self._encoded(result.output)
        except LimpetError as failure:
            error = cleaned(str(failure))
        cpu = process_time_ns() - used
        # Of several programs on one CPU, each waits for the others. That says nothing of the model.
        return Ran(record.ordinal, min(monotonic_ns() - started, cpu or 1), cpu, error, kind, output)

    def _values(self, record: RunWindow) -> Array:
        with reading("a window"):
            dtype, count = np.dtype(record.dtype), prod(record.shape)
            data = os.pread(self._file, count * dtype.itemsize, 0)
            values: Array = np.frombuffer(data, dtype, count).reshape(record.shape)
            return as_frames(values) if record.frames else values

    def _encoded(self, output: object) -> msgspec.Raw:
        try:
            data = self._encoder.encode(output)
        except Exception as error:
            raise ModelError(f"an output cannot be encoded: {error}") from error
        if len(data) > LARGEST_OUTPUT:
            raise ModelError(f"an output has {len(data)} bytes; the limit is {LARGEST_OUTPUT}")
        return msgspec.Raw(data)
