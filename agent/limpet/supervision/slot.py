"""The worker of one cell, as the supervisor sees it. Decides, without I/O: something happens, instructions follow.

``limpet.supervision.worker_process`` follows them.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from limpet.bucket import Bucket
from limpet.isolation.child import describe
from limpet.supervision.cell_pipelines import CellPipelines
from limpet.supervision.executors import Executors
from limpet.supervision.instructions import Kill, Report, Send, Start, StartExecutor
from limpet.supervision.open_objects import OpenObjects
from limpet.supervision.shadows import task_of
from limpet.supervision.traffic import Traffic
from limpet.updates.answers import Pairs
from limpet.wire.fork_records import Open
from limpet.wire.records import (
    Dismiss,
    EventDetected,
    Incident,
    Kept,
    KeptFile,
    Need,
    NeedShadow,
    Notice,
    RawAnswered,
    RawResults,
    ShadowFailed,
    Snapshot,
    Stop,
    SwapReport,
    Transition,
    WindowTimes,
)

if TYPE_CHECKING:
    from limpet.contracts.assignment import Assignment
    from limpet.supervision.executors import Executor
    from limpet.supervision.instructions import Instruction
    from limpet.wire.records import Ask, Assign, FromWorker

log = logging.getLogger(__name__)

WATCHING = ("running", "waiting")
"""States in which a worker knows the objects that it reported."""
ENDS_PER_SECOND, ENDS_AT_ONCE = 0.25, 5
"""Times that a process may end by itself, to be started again at once. More often counts as a crash."""


class Slot:
    """The place of one cell, whether a process fills it or not.

    Times are seconds on any steady clock.
    """

    def __init__(self, assignment: Assignment) -> None:
        self.name = assignment.cell
        self.pipelines = CellPipelines(assignment)
        self.executors = Executors()
        self.traffic = Traffic()
        self.objects = OpenObjects()
        self.alive = False
        """Whether there is a process, or one is being forked."""
        self.pid: int | None = None
        self.number = 0
        """The number of its fork."""
        self.heard = 0.0
        """When the process sent something last."""
        self.ending: str | None = None
        """Why the process is to end, if it is: it was sent ``Stop``, or killed."""
        self.condemned = False
        """Whether the process sent what it may not send. Nothing of it is read any more."""
        self._ends = Bucket(ENDS_PER_SECOND, ENDS_AT_ONCE)

    @property
    def assignment(self) -> Assignment:
        """What the cell should run."""
        return self.pipelines.assignment

    # --- what should run

    def want(self, assignment: Assignment, now: float) -> list[Instruction]:
        """Take another assignment of the same cell."""
        before = self.assignment
        self.traffic.leave(before.pipelines.keys() - assignment.pipelines.keys(), now)
        self.pipelines.want(assignment, alive=self.alive)
        if assignment.sources != before.sources:
            return self.end("its source changed")
        if not assignment.pipelines:
            return self.end("no longer configured")
        return [Send(self.assign(now))] if self.alive else []

    def restart(self, pipeline: str) -> list[Instruction]:
        """Forget what went wrong with a pipeline, and have the process end, so that another one is started."""
        self.pipelines.retry(pipeline)
        return self.end("a restart was requested")

    def end(self, reason: str) -> list[Instruction]:
        """Have the process hand over its last results, and end."""
        if not self.alive:
            return []
        self.ending = reason
        return [Send(Stop())]

    def ask(self, ask: Ask) -> list[Instruction]:
        """Have the process answer a question."""
        self.traffic.ask(ask)
        return [Send(ask)]

    def assign(self, now: float) -> Assign:
        """Return what the process is to run now, and note that it was sent."""
        self.heard = now
        return self.pipelines.assign(now)

    # --- time passes

    def tend(self, now: float) -> list[Instruction]:
        """Return what is due."""
        due: list[Instruction] = [Report(move) for move in self.traffic.postponed(now)]
        start, silent = self.next_start(), self.overdue(now)
        if start is not None and start <= now:
            due.append(Start())
        elif self.alive and self.pipelines.revived(now):
            due.append(Send(self.assign(now)))
        elif silent is not None:
            due += self.kill(f"no progress for {silent:.1f} s")
        return due

    def next_due(self, now: float) -> float:
        """Return when ``tend`` should be called next."""
        quarters = [pipeline.options.deadline / 4 for pipeline in self.assignment.pipelines.values()]
        times = [now + min([1.0, *quarters]), self.next_start(), self.traffic.paused_until]
        return min(time for time in times if time is not None)

    def next_start(self) -> float | None:
        """Return when a process should be started: in the past for now, ``None`` for not at all."""
        return None if self.alive else self.pipelines.next_start()

    def overdue(self, now: float) -> float | None:
        """Return for how many seconds the process has been silent, if that is longer than it may be."""
        if not self.alive or self.traffic.paused_until is not None:
            return None
        silent = now - self.heard
        return silent if silent > self.pipelines.longest_silence() else None

    # --- the process

    def started(self, number: int) -> None:
        """Take note that a process is being forked."""
        self.alive, self.number = True, number
        self.condemned = False
        self.traffic.restart()
        self.pipelines.started()

    def forked(self, number: int, pid: int) -> list[Instruction]:
        """Take note of the id of a process, if it is one of this slot: the worker, or an executor."""
        kill: int | None = None
        if self.alive and self.number == number:
            self.pid = pid
            kill = pid if self.condemned else None
        elif number in self.executors:
            kill = self.executors.forked(number, pid)
        return [Kill(kill)] if kill is not None else []

    def kill(self, reason: str) -> list[Instruction]:
        """Kill the process."""
        if self.pid is None:
            return []
        self.ending = self.ending or reason
        return [Kill(self.pid)]

    def condemn(self, reason: str) -> list[Instruction]:
        """Kill a process that sent what it may not send, and its executors."""
        self.condemned, self.ending, self.traffic.paused_until = True, reason, None
        return [*self._dismiss(), *self.kill(reason)]

    def check(self, record: FromWorker, now: float) -> None:
        """Check that the process may send this. ``UnreadableError`` says why not."""
        self.traffic.check(record, self.assignment.pipelines, now)
        self.pipelines.check(record)

    def hear(self, record: FromWorker | KeptFile, now: float) -> list[Instruction]:
        """Take a record that the process may send. ``UnreadableError`` if it requests what it may not have."""
        self.heard = now
        if isinstance(record, Need):
            return self._start_executor(record, now)
        if isinstance(record, NeedShadow):
            return self._start_shadow(record, now)
        if isinstance(record, Dismiss):
            return self._dismiss(record.number)
        reports = self._take(record, now)
        again: list[Instruction] = [Send(self.assign(now))] if self.pipelines.outdated and self.alive else []
        return [*map(Report, self.pipelines.take_incidents()), *reports, *again]

    def _take(self, record: FromWorker | KeptFile, now: float) -> list[Report]:
        """Take a record about the pipelines, and return what is passed on of it."""
        if isinstance(record, SwapReport):
            self.pipelines.hear_swap(record)
            return (
                self._end_objects(record.pipeline, "another model took over", now) if record.step == "done" else []
            )
        if isinstance(record, EventDetected):
            return [Report(event) for event in self.objects.take(record, now)]
        if isinstance(record, Transition | Notice):
            ended: list[Report] = []
            if isinstance(record, Transition):
                if record.state not in WATCHING:
                    ended = self._end_objects(record.pipeline, f"the pipeline is {record.state}", now)
                self.pipelines.hear_transition(record)
            passed = self.traffic.admit(record, now)
            return [*ended, Report(passed)] if passed else ended
        if isinstance(record, Snapshot | KeptFile | WindowTimes) and not self._is_wanted(record):
            return []  # They were switched off meanwhile, or never on.
        if isinstance(record, Pairs):
            admitted = self.traffic.admit_pairs(record, now)
            return [Report(admitted)] if admitted else []
        if isinstance(record, RawResults):
            self.pipelines.hear_results(record)
        elif isinstance(record, RawAnswered):
            self.traffic.answered(record)
        return [] if isinstance(record, Need | NeedShadow | Dismiss | Kept) else [Report(record)]

    def _end_objects(self, pipeline: str, reason: str, now: float) -> list[Report]:
        """Report that all objects of a pipeline are gone: what comes next knows nothing of them."""
        return [Report(event) for event in self.objects.end(pipeline, reason, now)]

    def _is_wanted(self, record: Snapshot | KeptFile | WindowTimes) -> bool:
        """Whether pictures, windows and traces may leave the worker: the configuration decides, not the worker."""
        if isinstance(record, WindowTimes):
            return self.assignment.traces > 0
        wanted = self.assignment.pipelines.get(record.pipeline)
        options = None if wanted is None else wanted.options
        if isinstance(record, KeptFile):
            return options is not None and options.keep is not None
        return options is not None and options.snapshots is not None

    def _start_executor(self, need: Need, now: float) -> list[Instruction]:
        revision = self.pipelines.revision_of(need)
        wanted = revision.pipeline if revision else None
        if refusal := self.executors.refusal(need, wanted, len(self.assignment.pipelines), now):
            log.warning("pipeline %s gets no executor: %s", need.pipeline, refusal)
            return []
        assert revision is not None
        return [StartExecutor(Open(revision.assignment, need.pipeline, need.delegate), need)]

    def _start_shadow(self, need: NeedShadow, now: float) -> list[Instruction]:
        shadow = self.assignment.shadows.get(need.pipeline)
        refusal = self.executors.refusal_of_shadow(need, len(self.assignment.pipelines), now)
        if refusal or shadow is None or need.pipeline not in self.assignment.pipelines:
            log.warning("pipeline %s gets no shadow: %s", need.pipeline, refusal or "none is wanted")
            return []
        return [StartExecutor(task_of(self.assignment, need.pipeline, shadow), need, shadow.model)]

    def shadow_ended(self, ended: Executor, status: int) -> list[Instruction]:
        """Report that the process of a shadow has ended, unless it was to."""
        if ended.shadow is None or ended.dismissed:
            return []
        reason = describe(status) if status else "its process ended by itself"
        return [Report(ShadowFailed(ended.pipeline, ended.shadow.name, ended.shadow.version, reason))]

    def _dismiss(self, number: int | None = None) -> list[Instruction]:
        """Kill executors: one that hangs does not notice that its worker let go of it."""
        return [Kill(pid) for pid in self.executors.dismiss(number)]

    # --- the process is gone

    def exited(self, status: int, now: float) -> list[Instruction]:
        """Take note that the process is gone, and that nothing of it is left to be read."""
        instructions = self._dismiss()
        instructions += map(Report, self.traffic.last_moves())
        instructions += map(Report, self.objects.end_all("its worker ended", now))
        for move in self.ended(status, now):
            crash = Incident(move.pipeline, "crashed", f"worker {self.name}: {move.reason}")
            instructions += [Report(crash), Report(move)]
        return [*instructions, *map(Report, self.pipelines.take_incidents())]

    def ended(self, status: int, now: float) -> list[Transition]:
        """Return what the end of the process means for the pipelines that it broke."""
        reason, intended = self.ending or describe(status), self.ending is not None
        self.alive, self.pid, self.ending = False, None, None
        self.traffic.paused_until = None
        if status == 0 and not self.condemned and (intended or self._may_end(now)):
            return []
        return self.pipelines.crashed(reason, now, condemned=self.condemned)

    def _may_end(self, now: float) -> bool:
        """Whether the process may end by itself, as one does whose sandbox lacks what it is to do now."""
        if not self.pipelines.running():
            return True
        allowed = self._ends.level(now) >= 1
        self._ends.spend(1)
        return allowed
