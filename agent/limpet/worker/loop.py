"""The main loop of a worker: samples go from its source through its pipelines, commands come in between."""

from __future__ import annotations

import socket
from select import select
from time import sleep
from typing import TYPE_CHECKING, Any

from limpet.inference import needs
from limpet.wire.border import cleaned
from limpet.wire.records import (
    Answered,
    Ask,
    Assign,
    ExecutorSocket,
    KeepWindows,
    Kept,
    ModelSocket,
    Result,
    RunWindows,
    Snapshot,
    ToWorker,
)
from limpet.worker.commands import answer
from limpet.worker.explanations import Explanations
from limpet.worker.inference_requests import InferenceRequests
from limpet.worker.intake import Intake
from limpet.worker.keeping import Keeping
from limpet.worker.pipelines import Pipelines
from limpet.worker.reports import Reports
from limpet.worker.result_sender import BATCH_AGE, ResultSender
from limpet.worker.served_models import ServedModels
from limpet.worker.snapshots import Snapshots

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.data import Samples
    from limpet.inference.plan import SourcePlan
    from limpet.inference.resolving import Configured
    from limpet.isolation.permissions import Permissions
    from limpet.isolation.places import Places
    from limpet.worker.device_watch import DeviceWatch
    from limpet.worker.result_sender import SupervisorChannel

IDLE = 0.1
"""Seconds to wait for samples before looking after other things."""
SETTLING = 0.002
"""Seconds between two looks at whether delegates have opened, at the start."""


def needs_of(assigned: Assign, source: Configured) -> Permissions:
    """Return what a worker needs for what it is assigned. Nothing is opened."""
    permissions = needs.of_worker(assigned.assignment, source)
    for proven in assigned.proven.values():
        permissions = permissions.joined(needs.of_worker(proven, source))
    return permissions


class Worker:
    """Serves the supervisor. ``places``: what the sandbox leaves open, ``in_force``: what it has given up."""

    def __init__(
        self,
        supervisor: SupervisorChannel,
        source: SourcePlan,
        places: Places,
        devices: DeviceWatch,
        in_force: list[str],
    ) -> None:
        self._supervisor = supervisor
        self._source = source
        self._places = places
        self._devices = devices
        self._intake = Intake(source, places.allowed)
        self._reports = Reports(supervisor, source.name, source.spec, self._intake, in_force)
        self._results = ResultSender(supervisor, self._leave_out)
        self._requests = InferenceRequests(self._send_answer)
        self._explanations = Explanations(self._send_answer)
        self._served = ServedModels(self._intake.mailbox)
        self._snapshots = Snapshots(self._send_snapshot)
        self._keeping = Keeping(self._send_kept, self._send_answer)
        self._pipelines = Pipelines(
            supervisor,
            source.spec,
            reports=self._reports,
            results=self._results,
            requests=self._requests,
            explanations=self._explanations,
            served=self._served,
            snapshots=self._snapshots,
            keeping=self._keeping,
        )

    def serve(self, records: Sequence[ToWorker]) -> None:
        """Turn samples into results until a ``Stop`` comes, the source ends or no pipeline is left.

        ``records`` were received from the supervisor before; the first one assigns pipelines.
        """
        try:
            while all(map(self._obey, (*records, *self._receive()))) and self._pipelines.at_work:
                records = ()
                self._turn()
                if self._device_came_back():
                    break
        except EOFError:
            if self._intake.crash:
                raise self._intake.crash from None
            self._pipelines.close_all("finished")
        else:
            self._pipelines.close_all("stopped")
        finally:
            self._served.close()
            self._intake.close()

    def _turn(self) -> None:
        """Look after everything once: the source, delegates, swaps, commands, and the next block of samples."""
        pipelines = self._pipelines
        if self._reports.source_changed():
            for running in pipelines.running.values():
                self._reports.at_work(running)
                self._reports.remark(running.name)
        self._reports.check_progress(pipelines.running.values())
        pipelines.watch_delegates()
        pipelines.advance()
        if not all(running.reported for running in pipelines.running.values()):
            sleep(SETTLING)
            self._reports.heartbeat(pipelines.running.values())
            return
        self._requests.run_slice(busy=len(self._intake.mailbox) > 0)
        self._explanations.run_slice(busy=len(self._intake.mailbox) > 0)
        self._served.run_slice()
        longest = BATCH_AGE if self._results.pending or pipelines.wait_for_shadow else IDLE
        at_work = self._requests or self._explanations or self._served.waiting
        samples = self._next_samples(0.0 if at_work else longest)
        if samples is not None:
            self._reports.see(samples)
            pipelines.feed(samples, busy=self._source.spec.live and len(self._intake.mailbox) > 0)
        pipelines.idle()
        self._snapshots.take()
        self._keeping.take()
        self._results.flush_if_due()
        pipelines.tend_monitors()
        self._reports.heartbeat(pipelines.running.values())

    def _next_samples(self, longest: float) -> Samples | None:
        """Return the next block of samples; ``None`` if a client's request came first, or nothing in that time."""
        if self._served and longest:
            self._served.wait(longest)
            longest = 0.0
        return self._intake.mailbox.get(longest)

    def _device_came_back(self) -> bool:
        """Whether the source's device is there again as a node that only a new worker can open."""
        node = self._devices.replaced() if self._intake.reader.away is not None else None
        for name in self._pipelines.running if node else ():
            self._reports.notice(
                name, "gap", f"the worker starts again: {node} is a new device node; samples are missing"
            )
        return node is not None

    # --- what the supervisor says

    def _receive(self) -> list[ToWorker]:
        return list(self._supervisor.receive()) if select([self._supervisor], [], [], 0)[0] else []

    def _obey(self, record: ToWorker) -> bool:
        """Do what the supervisor says. Return False if this process is to end."""
        if isinstance(record, Assign):
            if not self._can_open(record):
                return False  # A sandbox cannot be widened: a new worker is started.
            self._pipelines.assign(record)
        elif isinstance(record, Ask):
            self._answer(record)
        elif isinstance(record, ExecutorSocket):
            self._pipelines.connect_executor(record.number, self._supervisor.received_fds.pop(0))
        elif isinstance(record, ModelSocket):
            end = socket.socket(fileno=self._supervisor.received_fds.pop(0))
            self._served.attach(self._pipelines.by_name.get(record.pipeline), end)
        else:
            return False
        return True

    def _can_open(self, assigned: Assign) -> bool:
        """Whether the sandbox leaves open what is assigned. Files and folders may have been replaced."""
        if not self._places.allowed.covers(needs_of(assigned, self._source.plugin)):
            return False
        new = self._pipelines.to_open(assigned) if self._pipelines.at_work else []
        files = {file for name in new for file in needs.of_pipelines(assigned.of(name).only([name]))}
        return not new or self._places.open(files)

    def _answer(self, ask: Ask) -> None:
        if isinstance(ask.what, RunWindows):
            file, pipelines = self._supervisor.received_fds.pop(0), self._pipelines.by_name
            self._requests.accept(ask.number, pipelines.get(ask.what.pipeline), file)
        elif isinstance(ask.what, KeepWindows) and ask.what.pipeline in self._pipelines.running:
            self._keeping.command(ask.number, ask.what.pipeline, ask.what.windows)
        else:
            running = self._pipelines.running
            answer(ask, running, self._snapshots, self._explanations, self._send_answer)

    def _send_snapshot(self, record: Snapshot | Answered) -> None:
        """Send a picture behind the result that it shows, or the answer to a command."""
        if isinstance(record, Answered):
            self._send_answer(record)
        else:
            self._results.flush()
            self._supervisor.send(record)

    def _send_kept(self, record: Kept, files: tuple[int, ...]) -> None:
        """Send a window for the ring of captures behind its result."""
        self._results.flush()
        self._supervisor.send(record, files)

    def _send_answer(self, answered: Answered) -> None:
        answered.error = cleaned(answered.error)
        self._supervisor.send(answered)

    def _leave_out(self, result: Result[Any], reason: str) -> None:
        self._pipelines.leave_out(result, reason)
