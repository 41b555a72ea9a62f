"""A worker as the supervisor sees it: the place of one cell, whether a process fills it or not. No I/O."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from limpet.bucket import Bucket
from limpet.isolation.child import describe
from limpet.supervision.executors import Executors
from limpet.supervision.restarts import Restarts
from limpet.supervision.revisions import Revisions
from limpet.wire import border
from limpet.wire.records import Ask, Assign, Notice, RawAnswered, RawResults, SwapReport, Transition

if TYPE_CHECKING:
    from limpet.contracts.assignment import Assignment
    from limpet.contracts.messages import State
    from limpet.supervision.revisions import Revision
    from limpet.wire.channel import Channel
    from limpet.wire.records import FromWorker, Incident, Need

LOADING_DEADLINE = 120.0
"""Seconds that loading models may take: a GPU's first compilation takes most of a minute."""
OVER: tuple[State, ...] = ("failed", "finished")
AT_WORK: tuple[State, ...] = ("running", "waiting")
BYTES_PER_SECOND, BYTES_AT_ONCE = 8 << 20, 8 << 20
"""Bytes that are read of a worker, and made of what it sends, in the long run and in a burst. Then it waits."""
OVERHEAD = 1024
"""Bytes that a record counts in addition to its own: so many small ones cost as much time."""
NOTICES_PER_SECOND, NOTICES_AT_ONCE = 0.5, 10
"""Notices of a pipeline that become events. The others are counted."""
MOVES_PER_SECOND, MOVES_AT_ONCE = 1.0, 20
"""Transitions of a pipeline that take effect at once. The last one of the others does so a little later."""
LEAVING = 10.0
"""Seconds for which a worker may still speak about a pipeline that was taken from it."""
ENDS_PER_SECOND, ENDS_AT_ONCE = 0.25, 5
"""Times that a process may end of its own accord, to be started again at once. More often counts as a crash."""
MOST_ASKED = 256
"""Questions whose answers are waited for."""


class Slot:
    """The worker of one cell: what it should run, when it was heard, when it may be restarted.

    Times are seconds on any steady clock.
    """

    def __init__(self, assignment: Assignment) -> None:
        self.name = assignment.cell
        self.assignment = assignment
        self.channel: Channel[FromWorker] | None = None
        self.pid: int | None = None
        self.heard = 0.0
        self.ending: str | None = None
        """Why this process was told to end, or was killed, if it was."""
        self.condemned = False
        """Whether this process sent what it may not send: nothing of it is read any more."""
        self.number = 0
        """The number under which the fork server was asked for this process."""
        self.executors = Executors()
        self.budget = Bucket(BYTES_PER_SECOND, BYTES_AT_ONCE)
        self.paused_until: float | None = None
        """When the process is read again, if it has sent too much."""
        self._ends = Bucket(ENDS_PER_SECOND, ENDS_AT_ONCE)
        self._leaving: dict[str, float] = {}
        self._asked: dict[int, border.Question] = {}
        self._times: Counter[int] = Counter()
        self._rates: dict[str, Rates] = {}
        self._states: dict[str, State] = {}
        self._restarts: dict[str, Restarts] = {}
        self._revisions: dict[str, Revisions] = {}
        self._incidents: list[Incident] = []
        self._outdated = False
        self.want(assignment)

    def want(self, assignment: Assignment, now: float = 0.0) -> None:
        """Take another assignment of the same cell."""
        before, names = self.assignment, assignment.pipelines.keys()
        self._leaving |= dict.fromkeys(before.pipelines.keys() - names, now + LEAVING)
        known = self._revisions if assignment.sources == before.sources else {}
        self._revisions = {name: known.get(name) or Revisions(assignment.only([name])) for name in names}
        changed = {
            name
            for name, revisions in self._revisions.items()
            if revisions.want(assignment.only([name])) or name not in known
        }
        swapped = {name for name in changed & known.keys() if self.channel and self._states[name] in AT_WORK}
        self._restarts = {name: Restarts() if name in changed else self._restarts[name] for name in names}
        self._states = {name: "starting" if name in changed - swapped else self._states[name] for name in names}
        self.assignment = assignment

    def retry(self, pipeline: str) -> None:
        """Forget what went wrong with a pipeline."""
        self._restarts[pipeline] = Restarts()
        self._states[pipeline] = "starting"
        self._revisions[pipeline].retry()

    def runnable(self, now: float) -> list[str]:
        """Return the pipelines that should run and may: those whose circuit was open get one more try."""
        return [
            name
            for name, restarts in self._restarts.items()
            if (restarts.open or self._states[name] not in OVER) and restarts.not_before <= now
        ]

    def revived(self, now: float) -> bool:
        """Whether a pipeline's circuit has cooled off while the process ran the others."""
        return self.channel is not None and any(
            restarts.open and restarts.not_before <= now and self._states[name] == "failed"
            for name, restarts in self._restarts.items()
        )

    def next_start(self) -> float | None:
        """Return when a process should be started: in the past for now, ``None`` for not at all.

        Pipelines whose circuit is open do not hold up the others.
        """
        if self.channel is not None:
            return None
        closed = [
            restarts.not_before
            for name, restarts in self._restarts.items()
            if not restarts.open and self._states[name] not in OVER
        ]
        if closed:
            return max(closed)
        return min((restarts.not_before for restarts in self._restarts.values() if restarts.open), default=None)

    def assign(self, now: float) -> Assign:
        """Return what the process is to run now, and take note that it is told so."""
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

    @property
    def outdated(self) -> bool:
        """Whether the process is to be told again what to run, as what it was told has failed."""
        return self._outdated and self.channel is not None

    def take_incidents(self) -> list[Incident]:
        """Return the events that this slot found since it was last asked."""
        found, self._incidents = self._incidents, []
        return found

    def revision_of(self, need: Need) -> Revision | None:
        """Return what the executor is to run that a worker requests, ``None`` if it was given no such thing."""
        return self._revisions[need.pipeline].find(need.revision) if need.pipeline in self._revisions else None

    def started(self, channel: Channel[FromWorker], number: int) -> None:
        """Take note of a new process."""
        self.channel, self.number = channel, number
        self.condemned = False
        self.paused_until = None
        self._leaving, self._asked, self._rates = {}, {}, {}
        self._times = Counter()
        for revisions in self._revisions.values():
            revisions.started()

    def asks(self, ask: Ask) -> None:
        """Take note of a question to the process."""
        while len(self._asked) >= MOST_ASKED:
            number = next(iter(self._asked))
            del self._asked[number], self._times[number]
        self._asked[ask.number] = type(ask.what)
        self._times[ask.number] += 1

    def check(self, record: FromWorker, now: float) -> None:
        """See that the process may say this. ``UnreadableError`` says why not."""
        self._leaving = {name: until for name, until in self._leaving.items() if until > now}
        border.check(record, {*self.assignment.pipelines, *self._leaving}, self._asked)

    def hear(self, record: FromWorker, now: float) -> None:
        """Take note of a record."""
        self.heard = now
        if isinstance(record, Transition) and record.pipeline in self._states:
            self._hear_transition(record)
        elif isinstance(record, SwapReport) and record.pipeline in self._revisions:
            self._incidents += self._revisions[record.pipeline].swap(record)
        elif isinstance(record, RawResults):
            for name in {item.pipeline for item in record.items} & self._restarts.keys():
                self._restarts[name].open = False
                self._revisions[name].gave_results()
        elif isinstance(record, RawAnswered):
            self._times[record.number] -= 1
            if not self._times[record.number]:
                del self._asked[record.number], self._times[record.number]

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

    def admit(self, record: Notice | Transition, now: float) -> Notice | Transition | None:
        """Return what is passed on now, if anything: a worker cannot flood the others' events."""
        return self._rates_of(record.pipeline).admit(record, now)

    def postponed(self, now: float) -> list[Transition]:
        """Return transitions that had to wait and are due now."""
        return [move for rates in self._rates.values() if (move := rates.postponed(now))]

    def last_moves(self) -> list[Transition]:
        """Return transitions that had to wait, as the process is gone."""
        return [move for rates in self._rates.values() if (move := rates.take())]

    def spent(self, size: int, now: float) -> bool:
        """Take note of bytes that were read; return whether the process has to wait."""
        level = self.budget.level(now)
        self.budget.spend(size)
        if level >= size:
            return False
        self.paused_until = self.budget.full_at(1.0)
        return True

    def _rates_of(self, pipeline: str) -> Rates:
        if pipeline not in self._rates:
            self._rates[pipeline] = Rates()
        return self._rates[pipeline]

    def overdue(self, now: float) -> float | None:
        """Return for how many seconds the process has been silent, if that is longer than its deadline."""
        if self.channel is None or self.paused_until is not None:
            return None
        chosen = [revisions.chosen.pipeline.options for revisions in self._revisions.values()]
        deadline = min((options.deadline for options in chosen), default=LOADING_DEADLINE)
        if "starting" in self._states.values() or any(one.swapping for one in self._revisions.values()):
            deadline = max(deadline, LOADING_DEADLINE)
        silent = now - self.heard
        return silent if silent > deadline else None

    def ended(self, status: int, now: float) -> list[Transition]:
        """Take note that the process is gone; return what that means for the pipelines that it broke."""
        running = [name for name, state in self._states.items() if state not in OVER]
        reason, condemned, told = self.ending or describe(status), self.condemned, self.ending is not None
        self.channel = self.pid = self.ending = None
        if status == 0 and not condemned and (told or not running or self._may_end(now)):
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


class Rates:
    """How often one pipeline's worker may move it and report events."""

    def __init__(self) -> None:
        self._notices = Bucket(NOTICES_PER_SECOND, NOTICES_AT_ONCE)
        self._moves = Bucket(MOVES_PER_SECOND, MOVES_AT_ONCE)
        self._folded = 0
        self._last: Transition | None = None

    def admit(self, record: Notice | Transition, now: float) -> Notice | Transition | None:
        """Return what is passed on now."""
        if isinstance(record, Transition):
            self._last = record
            return self.postponed(now)
        if self._notices.level(now) < 1:
            self._folded += 1
            return None
        self._notices.spend(1)
        if self._folded:
            record.reason += f" (and {self._folded} more such notices that were not passed on)"
            self._folded = 0
        return record

    def postponed(self, now: float) -> Transition | None:
        """Return the last transition, if it has not been passed on and may be now."""
        if self._last is None or self._moves.level(now) < 1:
            return None
        self._moves.spend(1)
        return self.take()

    def take(self) -> Transition | None:
        """Return the last transition, if it has not been passed on."""
        last, self._last = self._last, None
        return last
