"""A candidate check: a short-lived process that tries a model before a pipeline runs it.

It plans the pipeline on the source's samples, loads the model, and runs golden vectors and windows that are made
up. It does so on the CPU and on the delegate that the pipeline will use. The model may crash the runtime, hang or
eat memory: this process ends then, and nothing else. No sensor is opened: a source says what its samples are
without that, and workers rely on the same description.
"""

from __future__ import annotations

import errno
import faulthandler
import os
import resource
import sys
from contextlib import contextmanager, suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec.structs import replace

from limpet.accelerators.delegate_kinds import KINDS
from limpet.accelerators.inventory import missing
from limpet.contracts.delegate import CPU
from limpet.device import directories
from limpet.device.host import Host
from limpet.device.machine import Machine
from limpet.device.system_files import MB
from limpet.errors import LimpetError, ModelError, WrongOutputsError
from limpet.inference import admission, needs
from limpet.inference.delegates import delegates_of
from limpet.inference.pipeline import Pipeline
from limpet.inference.planning import plan_pipeline, plan_source, source_plugin
from limpet.inference.proving import check_golden_vectors, run_one_window
from limpet.isolation import sandbox
from limpet.isolation.child import die_before_parent
from limpet.untrusted import reading
from limpet.wire.border import cleaned
from limpet.wire.channel import Channel
from limpet.wire.fork_records import MOST_NOTES, CheckStep, Verdict

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from limpet.contracts.assignment import Assignment
    from limpet.contracts.delegate import Choice
    from limpet.contracts.runtime import Model
    from limpet.device.host import ProcessMemory
    from limpet.inference.admission import Load
    from limpet.inference.plan import PipelinePlan
    from limpet.isolation.permissions import Permissions
    from limpet.models.manifest import Limits
    from limpet.wire.fork_records import Admit, CandidateStep

NICE = 10
"""What is added to the nice value, so that pipelines at work get the CPU first."""
MOST_MEMORY, MEMORY_SHARE = 2 << 30, 0.75
"""Bytes that the process may allocate, but never more than this share of what the device has available."""
LARGEST_OUTPUT = 1 << 20
"""Bytes that the runtime may print or write, once the bundle is unpacked."""
_PASSING = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.EROFS, errno.ENOTDIR}
"""Errors of the system that say nothing about a model."""
MEASURED, LEAST_MEASURED, MEASURING = 200, 5, 3.0
"""Windows whose latency is measured: so many at most, and at least; and after so many seconds no more."""


def run(end: socket.socket, task: Admit) -> None:
    """Try the model, and send what came of it."""
    with suppress(OSError):  # The service's filter of system calls refuses it.
        os.nice(NICE)
    die_before_parent()  # The fork server has done so once. After the second time, this process dies first.
    _redirect_output(task.output)
    resource.setrlimit(resource.RLIMIT_CPU, (task.seconds, task.seconds + 1))
    np.seterr(all="ignore")
    supervisor: Channel[Any] = Channel(end, Verdict)
    check = _Check(supervisor, task)
    try:
        with reading("the model"):
            _try(check)
    except LimpetError as error:
        check.verdict.problem = cleaned(str(error)) or type(error).__name__
        check.verdict.passing = _passes(error)
    supervisor.send(check.verdict)


def _passes(error: BaseException | None) -> bool:
    """Whether an error is one of the device, and may be over later."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _PASSING:
            return True
        error = error.__cause__
    return False


def _try(check: _Check) -> None:
    try:
        check.run()
    except MemoryError as error:
        raise ModelError("the model takes more memory than is available") from error


class _Check:
    """One check. ``verdict`` has what is known so far."""

    def __init__(self, supervisor: Channel[Any], task: Admit) -> None:
        self.verdict = Verdict()
        self._supervisor = supervisor
        self._assignment = task.assignment
        self._name = task.pipeline
        self._timed = True
        """Whether the latency is measured on the delegate that the pipeline will use."""

    def run(self) -> None:
        """Try the model. ``LimpetError`` says why it is not admitted."""
        self._begin("plan")
        assignment, name = self._assignment, self._name
        (source,) = assignment.pipelines[name].sources
        plugin = source_plugin(assignment, source)
        usable = self._usable(delegates_of(assignment, name))
        state = assignment.folders.state.resolve()
        planning = needs.of_candidate(assignment, plugin)
        for choice in usable:
            planning = planning.joined(needs.of_planning(assignment, name, plugin, choice))
        sandbox.enter(planning, state)
        plan = plan_pipeline(assignment, name, plan_source(assignment, source).spec)
        available = _confine(assignment, plan, usable)
        self._try_on_cpu(plan)
        self._try_on_delegates(plan, usable)
        limits = plan.bundle.manifest.limits
        if limits.latency_ms is not None and not self._timed:
            limits = replace(limits, latency_ms=None)
            self._note("the latency was not compared with the manifest's limit")
        problems = beyond_limits(limits, self.verdict, available)
        if problems:
            raise ModelError("; ".join(problems))

    def _begin(self, step: CandidateStep) -> None:
        self._supervisor.send(CheckStep(step))

    def _note(self, text: str) -> None:
        if len(self.verdict.notes) < MOST_NOTES:
            self.verdict.notes.append(cleaned(text))

    def _usable(self, delegates: Sequence[Choice]) -> list[Choice]:
        """Return the accelerators that can be tried here, beside the worker that may be using them."""
        usable = []
        for choice in delegates:
            if choice == CPU:
                continue
            lacking = missing(Machine(), choice)[0]
            if reason := why_not_tried(choice, lacking):
                self._note(f"not checked on {choice.name!r}: {reason}")
                self._timed &= bool(lacking)
            else:
                usable.append(choice)
        return usable

    def _try_on_cpu(self, plan: PipelinePlan) -> None:
        self._begin("load")
        before, began = Host().memory_of_this_process(), monotonic()
        with Pipeline(plan, admission.judge if plan.accelerators else admission.load) as pipeline:
            self.verdict.load_s = monotonic() - began
            self._begin("golden")
            self._take_error(check_golden_vectors(plan, pipeline.model))
            if plan.bundle.golden is None:
                self._note("the outputs were not checked: the bundle has no golden vectors")
            self._measure(pipeline, CPU.name)
            self.verdict.memory_bytes = _grown(before, Host().memory_of_this_process(), plan)

    def _try_on_delegates(self, plan: PipelinePlan, usable: Sequence[Choice]) -> None:
        """Run the model on the first delegate that takes it, as its executor does.

        Wrong outputs refuse the model. A delegate that does not want it does so only if the CPU may not run it.
        """
        for choice in usable:
            self._begin("delegate")
            try:
                with Pipeline(plan, self._loader(choice)) as pipeline:
                    self._measure(pipeline, choice.name)
            except WrongOutputsError:
                raise
            except ModelError as error:
                if CPU not in plan.delegates and choice == usable[-1]:
                    raise
                self._note(f"{choice.name!r} does not run it: {error}")
            else:
                return

    def _loader(self, choice: Choice) -> Load:
        @contextmanager
        def load(plan: PipelinePlan, shapes: Sequence[tuple[int, ...]] | None) -> Iterator[Model]:
            with admission.admitted(plan, choice, shapes) as (model, placed):
                if plan.bundle.golden is not None:
                    self._take_error(placed.error)
                yield model

        return load

    def _take_error(self, error: float | None) -> None:
        if error is not None:
            self.verdict.golden_error = max(error, self.verdict.golden_error or 0.0)

    def _measure(self, pipeline: Pipeline, delegate: str) -> None:
        """Run one window, and then more of them to measure how long one takes."""
        self._begin("window")
        run_one_window(pipeline)
        self._begin("latency")
        times: list[float] = []
        alone: list[float] = []
        until = monotonic() + MEASURING
        while len(times) < LEAST_MEASURED or (len(times) < MEASURED and monotonic() < until):
            before = _switches()
            times.append(pipeline.try_once(noise=True) / 1000)
            if _switches() == before:
                alone.append(times[-1])
        if len(alone) >= LEAST_MEASURED:  # Time in which another process has the CPU says nothing about the model.
            times = alone
        times.sort()
        self.verdict.delegate = delegate
        self.verdict.windows = len(times)
        self.verdict.latency_p50_us = times[len(times) // 2]
        self.verdict.latency_p95_us = times[min(len(times) - 1, len(times) * 95 // 100)]


def why_not_tried(choice: Choice, lacking: str) -> str:
    """Return why an accelerator cannot run the candidate beside a worker; empty if it can.

    ``lacking``: what this machine lacks for it.
    """
    if not lacking and KINDS[choice.kind].exclusive:
        return "one process at a time can have it. The pipeline checks the model there when it takes over"
    return lacking


def beyond_limits(limits: Limits, figures: Verdict, available: int | None) -> list[str]:
    """Return what the model takes more of than its manifest allows, or than the device has available."""
    problems = []
    if limits.load_seconds is not None and figures.load_s > limits.load_seconds:
        problems.append(f"it takes {figures.load_s:.3g} s to load; its manifest allows {limits.load_seconds:g} s")
    p95 = figures.latency_p95_us / 1000
    if limits.latency_ms is not None and p95 > limits.latency_ms:
        problems.append(
            f"95 of 100 windows take up to {p95:.3g} ms on {figures.delegate!r}; "
            f"its manifest allows {limits.latency_ms:g} ms"
        )
    if limits.memory_bytes is not None and figures.memory_bytes > limits.memory_bytes:
        problems.append(
            f"it takes {figures.memory_bytes} bytes of memory; its manifest allows {limits.memory_bytes}"
        )
    if available is not None and figures.memory_bytes > available:
        problems.append(
            f"it takes {figures.memory_bytes} bytes of memory; this device can spare {available} for it"
        )
    return problems


def _confine(assignment: Assignment, plan: PipelinePlan, usable: Sequence[Choice]) -> int | None:
    """Enter the sandbox in which the code of strangers runs. Return the bytes of memory that it may have.

    The bundle has been unpacked, so only what drivers compile may be written: nothing at all for the CPU.
    """
    state = assignment.folders.state.resolve()
    cache = directories.drivers_cache(state, plan.name)
    os.environ["XDG_CACHE_HOME"] = str(cache)
    wanted = needs.of_executor(assignment, plan, CPU)._replace(change=frozenset())
    for choice in usable:
        wanted = wanted.joined(_without_caches(needs.of_executor(assignment, plan, choice), cache))
    sandbox.enter(wanted, state)
    if not usable:
        resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_OUTPUT, LARGEST_OUTPUT))
    host = Host()
    free, used = host.memory_available_mb(), host.address_space_mb()
    available = None if free is None else int(free * MEMORY_SHARE * MB)
    most = MOST_MEMORY if available is None else min(MOST_MEMORY, available)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    if used is not None and not usable:  # Drivers of GPUs reserve more addresses than there is memory.
        most += int(used * MB) + plan.bundle.model.stat().st_size
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    return available


def _without_caches(wanted: Permissions, cache: Path) -> Permissions:
    """Return the permissions of an executor without folders that outlive the check: it may read those."""
    return wanted._replace(change=wanted.change & {cache}, read=wanted.read | wanted.change)


def _grown(before: ProcessMemory, now: ProcessMemory, plan: PipelinePlan) -> int:
    """Return the bytes that a model takes: what the process allocated at most since then, and the model's file.

    Pages of libraries do not count: all workers share them.
    """
    released = now.peak_mb - now.resident_mb
    allocated = now.anonymous_mb - before.anonymous_mb + released
    return int(max(0.0, allocated) * MB) + plan.bundle.model.stat().st_size


def _switches() -> int:
    """Return how often the kernel has given the CPU of this process to another one."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def _redirect_output(path: Path) -> None:
    """Write what runtimes, drivers and this process print into a file, from which the supervisor reads the end."""
    faulthandler.disable()
    with suppress(OSError):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_APPEND, 0o600)
        sys.stdout.flush()
        for descriptor in (1, 2):
            os.dup2(file, descriptor)
        os.close(file)
