"""The main loop of a worker: samples go from its source through its pipelines, commands come in between."""

from __future__ import annotations

import logging
import socket
from contextlib import contextmanager
from select import select
from time import sleep
from typing import TYPE_CHECKING

from limpet.errors import LimpetError, ModelError, UnreadableError
from limpet.inference import needs
from limpet.inference.admission import judge, load
from limpet.inference.pipeline import Pipeline
from limpet.inference.planning import plan_pipeline
from limpet.untrusted import reading
from limpet.wire.border import cleaned
from limpet.wire.records import LARGEST_OUTPUT, Answered, Ask, Assign, Lent, Result, RunWindows, ToWorker
from limpet.worker.commands import answer
from limpet.worker.delegation import DelegatedModel
from limpet.worker.inference_requests import InferenceRequests
from limpet.worker.intake import Intake
from limpet.worker.reports import Reports
from limpet.worker.result_sender import BATCH_AGE, ResultSender
from limpet.worker.running import RunningPipeline

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from limpet.contracts.assignment import Assignment, DelegateTable
    from limpet.contracts.data import Samples
    from limpet.contracts.messages import State
    from limpet.contracts.runtime import Model
    from limpet.inference.admission import Load
    from limpet.inference.plan import PipelinePlan, SourcePlan
    from limpet.isolation.permissions import Permissions
    from limpet.worker.device_watch import DeviceWatch
    from limpet.worker.result_sender import Supervisor

log = logging.getLogger(__name__)

IDLE = 0.1
"""Seconds to wait for samples before looking after other things."""
SETTLING = 0.002
"""Seconds between two looks at whether delegates have opened, at the start."""


class Worker:
    """The pipelines of one source."""

    def __init__(
        self,
        supervisor: Supervisor,
        source: SourcePlan,
        allowed: Permissions,
        devices: DeviceWatch,
        in_force: list[str],
    ) -> None:
        self._supervisor = supervisor
        self._source = source
        self._allowed = allowed
        self._devices = devices
        self._intake = Intake(source, allowed)
        self._reports = Reports(supervisor, source.name, self._intake, in_force)
        self._results = ResultSender(supervisor, self._leave_out)
        self._requests = InferenceRequests(self._send_answer)
        self._pipelines: dict[str, RunningPipeline] = {}
        self._delegates: dict[str, DelegateTable] = {}

    def assign(self, assignment: Assignment) -> None:
        """Close the pipelines that changed or are gone, open those that are new or changed."""
        for name in list(self._pipelines):
            if name not in assignment.pipelines:
                self._close(name, "stopped", "no longer configured")
            elif not self._runs(assignment, name):
                self._release(name)
        for name in assignment.pipelines:
            if name not in self._pipelines:
                self._open(assignment, name)
        self._delegates = assignment.delegates
        deadlines = [running.assigned.options.deadline for running in self._pipelines.values()]
        self._reports.deadline = min(deadlines, default=self._reports.deadline)

    def _runs(self, assignment: Assignment, name: str) -> bool:
        """Whether a pipeline already runs as an assignment says."""
        same = assignment.pipelines[name] == self._pipelines[name].assigned
        return same and assignment.delegates == self._delegates

    def serve(self, records: Sequence[ToWorker] = ()) -> None:
        """Turn samples into results until told to stop, the source ends or no pipeline is left.

        ``records`` were received from the supervisor before.
        """
        try:
            while self._pipelines and all(map(self._obey, (*records, *self._receive()))):
                records = ()
                self._turn()
                if self._device_came_back():
                    break
        except EOFError:
            if self._intake.crash:
                raise self._intake.crash from None
            self._close_all("finished")
        else:
            self._close_all("stopped")

    def _turn(self) -> None:
        """Look after everything once: the source, delegates, commands, and the next block of samples."""
        self._watch_source()
        self._watch_delegates()
        if not all(running.reported for running in self._pipelines.values()):
            sleep(SETTLING)
            self._reports.heartbeat(self._pipelines.values())
            return
        self._requests.run_slice(busy=len(self._intake.mailbox) > 0)
        longest = BATCH_AGE if self._results.pending else IDLE
        samples = self._intake.mailbox.get(0.0 if self._requests else longest)
        if samples is not None:
            self._reports.count_gaps(samples)
            self._feed(samples)
        self._results.flush_if_due()
        self._reports.heartbeat(self._pipelines.values())

    # --- what the supervisor says

    def _receive(self) -> list[ToWorker]:
        return list(self._supervisor.receive()) if select([self._supervisor], [], [], 0)[0] else []

    def _obey(self, record: ToWorker) -> bool:
        """Do what the supervisor says. Return False if this process is to end."""
        if isinstance(record, Assign):
            if not self._allowed.covers(needs.of_worker(record.assignment, self._source.plugin)):
                return False  # A sandbox cannot be widened: a new worker is started.
            self.assign(record.assignment)
        elif isinstance(record, Ask):
            self._answer(record)
        elif isinstance(record, Lent):
            self._connect_executor(record.number, self._supervisor.received_fds.pop(0))
        else:
            return False
        return True

    def _answer(self, ask: Ask) -> None:
        pipelines = {name: running.pipeline for name, running in self._pipelines.items()}
        if isinstance(ask.what, RunWindows):
            file = self._supervisor.received_fds.pop(0)
            self._requests.accept(ask.number, pipelines.get(ask.what.pipeline), file)
        else:
            answer(ask, pipelines, self._send_answer)

    def _send_answer(self, answered: Answered) -> None:
        answered.error = cleaned(answered.error)
        self._supervisor.send(answered)

    def _connect_executor(self, number: int, fd: int) -> None:
        end = socket.socket(fileno=fd)
        delegated = [running.delegated for running in self._pipelines.values()]
        if not any(model is not None and model.connect_executor(number, end) for model in delegated):
            end.close()

    # --- pipelines open and close

    def _open(self, assignment: Assignment, name: str) -> None:
        self._reports.starting(name)
        try:
            # A model comes from elsewhere: whatever goes wrong with it fails its pipeline alone.
            with reading(f"the model of pipeline {name}"):
                plan = plan_pipeline(assignment, name, self._source.spec)
                pipeline = Pipeline(plan, self._with_executors(assignment) if plan.accelerators else load)
        except LimpetError as error:
            if isinstance(error, UnreadableError):
                log.error("pipeline %s: %s", name, error, exc_info=error.__cause__)  # noqa: TRY400 - of the cause
            self._reports.not_opened(name, error)
        else:
            self._pipelines[name] = RunningPipeline(pipeline, assignment.pipelines[name])
            for warning in plan.warnings:
                self._reports.notice(name, "warning", warning)
            self._watch_delegates()

    def _with_executors(self, assignment: Assignment) -> Load:
        @contextmanager
        def load(plan: PipelinePlan, shapes: Sequence[tuple[int, ...]] | None) -> Iterator[Model]:
            with judge(plan, shapes) as cpu:
                options = assignment.pipelines[plan.name].options
                model = DelegatedModel(plan, cpu, options, self._supervisor.send)
                try:
                    yield model
                finally:
                    model.close()

        return load

    def _close(self, name: str, state: State, reason: str) -> None:
        """Send all that a pipeline has still to report, then close it."""
        self._results.flush()
        self._reports.heartbeat(self._pipelines.values(), now=True)
        self._reports.state(self._pipelines[name], state, reason)
        self._release(name)

    def _close_all(self, state: State) -> None:
        for name, running in list(self._pipelines.items()):
            self._close(name, state, running.end_reason() if state == "finished" else "")

    def _release(self, name: str) -> None:
        pipeline = self._pipelines.pop(name).pipeline
        self._requests.cancel(pipeline)
        pipeline.close()

    # --- while they run

    def _watch_source(self) -> None:
        if self._reports.source_changed():
            for running in self._pipelines.values():
                self._reports.at_work(running)

    def _device_came_back(self) -> bool:
        """Whether the source's device is there again as a node that only a new worker can open."""
        node = self._devices.replaced() if self._intake.reader.away is not None else None
        for name in self._pipelines if node else ():
            self._reports.notice(
                name, "gap", f"the worker starts again: {node} is a new device node; samples are missing"
            )
        return node is not None

    def _watch_delegates(self) -> None:
        """Report pipelines that have just started, and those that moved to another delegate."""
        for running in self._pipelines.values():
            moved = running.delegated is not None and running.delegated.poll()
            if running.settled and (moved or not running.reported):
                running.reported = True
                self._reports.at_work(running)

    def _feed(self, samples: Samples) -> None:
        for name, running in list(self._pipelines.items()):
            if (block := running.accept(samples)) is None:
                continue
            self._reports.check_rate(running, block)
            try:
                for result in running.pipeline.feed(block, running.count_error):
                    running.count_result()
                    self._results.add(result)
                    self._reports.heartbeat(self._pipelines.values())
            except ModelError as error:
                self._close(name, "failed", str(error))

    def _leave_out(self, result: Result, size: int) -> None:
        if result.pipeline in self._pipelines:
            self._pipelines[result.pipeline].count_too_large(size, LARGEST_OUTPUT)
