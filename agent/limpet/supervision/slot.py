"""The worker of one cell, as the supervisor sees it. Decides, without I/O: something happens, instructions follow.

``limpet.supervision.worker_process`` follows them.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from limpet.bucket import Bucket
from limpet.isolation.child import describe
from limpet.supervision.executors import Executors
from limpet.supervision.instructions import Kill, Report, Send, Start, StartExecutor
from limpet.supervision.restarts import Restarts
from limpet.supervision.revisions import Revisions
from limpet.supervision.traffic import Traffic
from limpet.wire.records import (
    Assign,
    Dismiss,
    Incident,
    Need,
    Notice,
    Open,
    RawAnswered,
    RawResults,
    Stop,
    SwapReport,
    Transition,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.contracts.assignment import Assignment
    from limpet.contracts.messages import State
    from limpet.supervision.instructions import Instruction
    from limpet.wire.records import Ask, FromWorker

log = logging.getLogger(__name__)

LOADING_DEADLINE = 120.0
"""Seconds that loading models may take: a GPU's first compilation takes most of a minute."""
OVER: tuple[State, ...] = ("failed", "finished")
AT_WORK: tuple[State, ...] = ("running", "waiting")
ENDS_PER_SECOND, ENDS_AT_ONCE = 0.25, 5
"""Times that a process may end of its own accord, to be started again at once. More often counts as a crash."""


class Slot:
    """The place of one cell, whether a process fills it or not.

    Times are seconds on any steady clock.
    """

    def __init__(self, assignment: Assignment) -> None:
        self.name = assignment.cell
        self.assignment = assignment
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
        self.executors = Executors()
        self.traffic = Traffic()
        self._ends = Bucket(ENDS_PER_SECOND, ENDS_AT_ONCE)
        self._states: dict[str, State] = {}
        self._restarts: dict[str, Restarts] = {}
        self._revisions: dict[str, Revisions] = {}
        self._incidents: list[Incident] = []
        self._outdated = False
        self._adopt(assignment)

    # --- what should run

    def want(self, assignment: Assignment, now: float) -> list[Instruction]:
        """Take another assignment of the same cell."""
        sources_changed = assignment.sources != self.assignment.sources
        self.traffic.leave(self.assignment.pipelines.keys() - assignment.pipelines.keys(), now)
        self._adopt(assignment)
        if sources_changed:
            return self.end("its source changed")
        if not assignment.pipelines:
            return self.end("no longer configured")
        return [Send(self.assign(now))] if self.alive else []

    def _adopt(self, assignment: Assignment) -> None:
        names = assignment.pipelines.keys()
        known = self._revisions if assignment.sources == self.assignment.sources else {}
        self._revisions = {name: known.get(name) or Revisions(assignment.only([name])) for name in names}
        changed = {
            name
            for name, revisions in self._revisions.items()
            if revisions.want(assignment.only([name])) or name not in known
        }
        swapped = {name for name in changed & known.keys() if self.alive and self._states[name] in AT_WORK}
        self._restarts = {name: Restarts() if name in changed else self._restarts[name] for name in names}
        self._states = {name: "starting" if name in changed - swapped else self._states[name] for name in names}
        self.assignment = assignment

    def restart(self, pipeline: str) -> list[Instruction]:
        """Forget what went wrong with a pipeline, and have the process end, so that another one is started."""
        self._restarts[pipeline] = Restarts()
        self._states[pipeline] = "starting"
        self._revisions[pipeline].retry()
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
        """Return what the process is to run now, and take note that it gets to know."""
        names = self.runnable(now)
        self.heard, self._outdated = now, False
        for name in names:
            if self._states[name] not in AT_WORK:
                self._states[name] = "starting"
        chosen = {name: self._revisions[name].chosen for name in names}
        wanted = [name for name in names if chosen[name] is self._revisions[name].wanted]
        return Assign(
            self.assignment.only(wanted),
            {name: revision.number for name, revision in chosen.items()},
            {name: revision.assignment for name, revision in chosen.items() if name not in wanted},
            [name for name in wanted if self._revisions[name].unproven],
        )

    def runnable(self, now: float) -> list[str]:
        """Return the pipelines that should run and may: those whose circuit was open get one more try."""
        return [
            name
            for name, restarts in self._restarts.items()
            if (restarts.open or self._states[name] not in OVER) and restarts.not_before <= now
        ]

    # --- time passes

    def tend(self, now: float) -> list[Instruction]:
        """Return what is due."""
        due: list[Instruction] = [Report(move) for move in self.traffic.postponed(now)]
        start, silent = self.next_start(), self.overdue(now)
        if start is not None and start <= now:
            due.append(Start())
        elif self.revived(now):
            due.append(Send(self.assign(now)))
        elif silent is not None:
            due += self.kill(f"no progress for {silent:.1f} s")
        return due

    def next_due(self, now: float) -> float:
        """Return when ``tend`` should be called next."""
        quarters = [pipeline.options.deadline / 4 for pipeline in self.assignment.pipelines.values()]
        times = [now + min([1.0, *quarters]), self.next_start(), self.traffic.paused_until]
        return min(time for time in times if time is not None)

    def revived(self, now: float) -> bool:
        """Whether a pipeline's circuit has cooled off while the process ran the others."""
        return self.alive and any(
            restarts.open and restarts.not_before <= now and self._states[name] == "failed"
            for name, restarts in self._restarts.items()
        )

    def next_start(self) -> float | None:
        """Return when a process should be started: in the past for now, ``None`` for not at all.

        Pipelines whose circuit is open do not hold up the others.
        """
        if self.alive:
            return None
        closed = [
            restarts.not_before
            for name, restarts in self._restarts.items()
            if not restarts.open and self._states[name] not in OVER
        ]
        if closed:
            return max(closed)
        return min((restarts.not_before for restarts in self._restarts.values() if restarts.open), default=None)

    def overdue(self, now: float) -> float | None:
        """Return for how many seconds the process has been silent, if that is longer than its deadline."""
        if not self.alive or self.traffic.paused_until is not None:
            return None
        chosen = [revisions.chosen.pipeline.options for revisions in self._revisions.values()]
        deadline = min((options.deadline for options in chosen), default=LOADING_DEADLINE)
        if "starting" in self._states.values() or any(one.swapping for one in self._revisions.values()):
            deadline = max(deadline, LOADING_DEADLINE)
        silent = now - self.heard
        return silent if silent > deadline else None

    # --- the process

    def started(self, number: int) -> None:
        """Take note that a process is being forked."""
        self.alive, self.number = True, number
        self.condemned = False
        self.traffic.restart()
        for revisions in self._revisions.values():
            revisions.started()

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

    def hear(self, record: FromWorker, now: float) -> list[Instruction]:
        """Take a record that the process may send. ``UnreadableError`` if it requests what it may not have."""
        self.heard = now
        if isinstance(record, Need):
            return self._start_executor(record, now)
        if isinstance(record, Dismiss):
            return self._dismiss(record.number)
        instructions: list[Instruction] = []
        if isinstance(record, SwapReport):
            self._hear_swap(record)
        elif isinstance(record, Transition | Notice):
            if isinstance(record, Transition) and record.pipeline in self._states:
                self._hear_transition(record)
            passed = self.traffic.admit(record, now)
            instructions += [Report(passed)] if passed else []
        else:
            self._hear_rest(record)
            instructions.append(Report(record))
        instructions = [*self._take_incidents(), *instructions]
        if self._outdated and self.alive:
            instructions.append(Send(self.assign(now)))
        return instructions

    def _hear_swap(self, record: SwapReport) -> None:
        if record.pipeline in self._revisions:
            self._incidents += self._revisions[record.pipeline].swap(record)

    def _hear_rest(self, record: FromWorker) -> None:
        if isinstance(record, RawResults):
            for name in {item.pipeline for item in record.items} & self._restarts.keys():
                self._restarts[name].open = False
                self._revisions[name].gave_results()
        elif isinstance(record, RawAnswered):
            self.traffic.answered(record)

    def _hear_transition(self, record: Transition) -> None:
        revisions = self._revisions[record.pipeline]
        revisions.runs(record.revision)
        if record.state == "failed" and revisions.not_opened(record.revision, record.reason):
            # The proven one is started instead.
            self._incidents.append(revisions.failure(record.reason))
            self._outdated, record.state = True, "starting"
        # A pipeline that stopped and is still wanted is to be started again.
        self._states[record.pipeline] = "starting" if record.state == "stopped" else record.state
        if record.state in OVER:
            self._restarts[record.pipeline].open = False

    def _start_executor(self, need: Need, now: float) -> list[Instruction]:
        known = self._revisions.get(need.pipeline)
        revision = known.find(need.revision) if known else None
        wanted = revision.pipeline if revision else None
        if refusal := self.executors.refusal(need, wanted, len(self.assignment.pipelines), now):
            log.warning("pipeline %s gets no executor: %s", need.pipeline, refusal)
            return []
        assert revision is not None
        return [StartExecutor(Open(revision.assignment, need.pipeline, need.delegate), need)]

    def _dismiss(self, number: int | None = None) -> list[Instruction]:
        """Kill executors: one that hangs does not notice that its worker let go of it."""
        return [Kill(pid) for pid in self.executors.dismiss(number)]

    def _take_incidents(self) -> Iterator[Report]:
        found, self._incidents = self._incidents, []
        return map(Report, found)

    # --- the process is gone

    def exited(self, status: int, now: float) -> list[Instruction]:
        """Take note that the process is gone, and that nothing of it is left to be read."""
        instructions = self._dismiss()
        instructions += map(Report, self.traffic.last_moves())
        for move in self.ended(status, now):
            crash = Incident(move.pipeline, "crashed", f"worker {self.name}: {move.reason}")
            instructions += [Report(crash), Report(move)]
        return [*instructions, *self._take_incidents()]

    def ended(self, status: int, now: float) -> list[Transition]:
        """Return what the end of the process means for the pipelines that it broke."""
        running = [name for name, state in self._states.items() if state not in OVER]
        reason, condemned, intended = self.ending or describe(status), self.condemned, self.ending is not None
        self.alive, self.pid, self.ending = False, None, None
        self.traffic.paused_until = None
        if status == 0 and not condemned and (intended or not running or self._may_end(now)):
            return []
        refused = self._refuse_successors(reason)
        blamed = list(self._states) if condemned else [] if refused else self._to_blame(running)
        for name in blamed:
            self._restarts[name].crashed(now)
            self._states[name] = "failed" if self._restarts[name].open else "starting"
        return [self._broken(name, reason, now) for name in dict.fromkeys([*refused, *blamed])]

    def _refuse_successors(self, reason: str) -> list[str]:
        """Return the pipelines whose successor is to blame for a crash. They go back to what is proven."""
        failed = {name: revisions.crashed(reason) for name, revisions in self._revisions.items()}
        self._incidents += [incident for incident in failed.values() if incident]
        for name in (refused := [name for name, incident in failed.items() if incident]):
            self._states[name] = "starting"
        return refused

    def _to_blame(self, running: list[str]) -> list[str]:
        """Return the pipelines to blame for a crash: those that were loading; if none was, all that ran."""
        return [name for name in running if self._states[name] == "starting"] or running

    def _may_end(self, now: float) -> bool:
        """Whether the process may end of its own accord, as one does whose sandbox lacks what it is to do now."""
        allowed = self._ends.level(now) >= 1
        self._ends.spend(1)
        return allowed

    def _broken(self, name: str, reason: str, now: float) -> Transition:
        restarts = self._restarts[name]
        pause = restarts.not_before - now
        if restarts.open:
            reason = f"crashed too often ({reason}); next try in {pause:.0f} s"
        return Transition(name, self._states[name], reason)
