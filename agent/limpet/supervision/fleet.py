"""The worker processes: forked, heard, killed when silent, restarted when they crash.

What workers say, and what their ends mean, goes to one listener: the name of the cell, and a record. It raises
``UnreadableError`` for what the worker may not say. That worker is killed, and no other one with it. One selector,
no thread.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING

from limpet.errors import UnreadableError
from limpet.isolation.child import describe
from limpet.plugins import built_in
from limpet.supervision.checking import Checking
from limpet.supervision.forks import Forks
from limpet.supervision.helpers import Helpers
from limpet.supervision.slot import OVERHEAD, Slot
from limpet.wire.border import cleaned
from limpet.wire.channel import Channel
from limpet.wire.records import (
    LARGEST_RECORD,
    Ask,
    Dismiss,
    Exited,
    Forked,
    FromWorker,
    Incident,
    Lent,
    Need,
    NotForked,
    Notice,
    Open,
    RawResults,
    Serve,
    Stop,
    SwapReport,
    ToSupervisor,
    Transition,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from limpet.config import Config
    from limpet.contracts.assignment import Assignment
    from limpet.fork.launch import ForkServerProcess
    from limpet.plugins import Group
    from limpet.supervision.executors import Executor
    from limpet.wire.records import ToWorker

log = logging.getLogger(__name__)

STOPPING = 5.0
"""Seconds that workers have to hand over their last results."""
LAST_WORDS = 64
"""Reads of the channel of a process that is gone."""


class Fleet:
    """The slots of all cells and the fork server that fills them."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        launched: ForkServerProcess,
        listener: Callable[[str, ToSupervisor], None],
    ) -> None:
        self._selector = selector
        self._listener = listener
        self._slots: dict[str, Slot] = {}
        self._forks = Forks(launched)
        self._helpers = Helpers(selector, self._forks)
        self._unwanted: set[int] = set()
        self._attach()

    def check(self, wanted: Config) -> Checking:
        """Begin to check a configuration: its options and its models. ``tend`` and the selector go on with it."""
        checking = Checking(self._helpers, wanted)
        # The fork server imports the runtime while those processes work.
        self._preload(wanted.sources[pipeline.source].kind for pipeline in wanted.pipelines.values())
        return checking

    def assign(self, cells: Mapping[str, Assignment]) -> None:
        """Bring the workers from whatever they run to these assignments, leaving alone what did not change."""
        self._preload(table.kind for cell in cells.values() for table in cell.sources.values())
        for name in self._slots.keys() - cells.keys():
            slot = self._slots[name]
            slot.want(slot.assignment.only(()), monotonic())
            self._end(slot, "no longer configured")
        for name, assignment in cells.items():
            self._assign_slot(name, assignment)
        self.tend()

    def _preload(self, kinds: Iterable[str]) -> None:
        """Have the fork server import what workers with these kinds of source need."""
        self._forks.preload(_modules(sorted(set(kinds))))

    def _assign_slot(self, name: str, assignment: Assignment) -> None:
        slot = self._slots.get(name)
        if slot is None:
            self._slots[name] = Slot(assignment)
            return
        sources_changed = assignment.sources != slot.assignment.sources
        slot.want(assignment, monotonic())
        if sources_changed:
            self._end(slot, "its source changed")
        elif slot.channel is not None:
            self._tell(slot)

    def tend(self) -> None:
        """Start what is due, kill what is silent, and read again what had to wait."""
        if self._forks.replace():
            self._attach()
        now = monotonic()
        self._helpers.tend(now)
        for slot in self._slots.values():
            self._resume(slot, now)
            for move in slot.postponed(now):
                self._listener(slot.name, move)
            start = slot.next_start()
            if start is not None and start <= now:
                self._start(slot)
            elif slot.revived(now):
                self._tell(slot)
            elif slot.overdue(now) is not None:
                self._kill(slot, f"no progress for {slot.overdue(now):.1f} s")

    def next_due(self) -> float:
        """Return when ``tend`` should be called next, on the monotonic clock."""
        starts = [start for slot in self._slots.values() if (start := slot.next_start()) is not None]
        deadlines = [
            pipeline.options.deadline
            for slot in self._slots.values()
            for pipeline in slot.assignment.pipelines.values()
        ]
        pauses = [slot.paused_until for slot in self._slots.values() if slot.paused_until is not None]
        answers = [due for due in [self._helpers.next_due()] if due is not None]
        return min(
            [monotonic() + min([1.0, *(deadline / 4 for deadline in deadlines)]), *starts, *pauses, *answers]
        )

    def excuse(self) -> None:
        """Take note that this process did not listen for a while: no worker was silent."""
        for slot in self._slots.values():
            slot.heard = monotonic()

    def progresses(self) -> bool:
        """Whether no worker is silent for longer than it may be."""
        now = monotonic()
        return all(slot.overdue(now) is None for slot in self._slots.values())

    def restart(self, pipeline: str) -> None:
        """Have the worker of a pipeline end, so that it is started anew. ``KeyError`` if there is none."""
        slot = self._slot_of(pipeline)
        slot.retry(pipeline)
        self._end(slot, "told to restart")

    def ask(self, pipeline: str, ask: Ask, fds: tuple[int, ...] = ()) -> None:
        """Have the worker of a pipeline answer. ``KeyError`` if there is none."""
        slot = self._slot_of(pipeline)
        slot.asks(ask)
        self._send(slot, ask, fds)

    def ask_all(self, ask: Ask) -> None:
        """Have every worker answer."""
        for slot in self._slots.values():
            slot.asks(ask)
            self._send(slot, ask)

    def _slot_of(self, pipeline: str) -> Slot:
        for slot in self._slots.values():
            if pipeline in slot.assignment.pipelines and slot.channel is not None:
                return slot
        raise KeyError(pipeline)

    def pids(self) -> dict[str, int]:
        """Return the process ids of the fork server and, by source, of the workers."""
        found = {f"worker {name}": slot.pid for name, slot in self._slots.items() if slot.pid is not None}
        for slot in self._slots.values():
            found |= {f"executor {name}": pid for name, pid in slot.executors.pids().items()}
        return found if self._forks.pid is None else {"fork server": self._forks.pid, **found}

    def stop(self) -> None:
        """Let every worker hand over its last results, then end them all."""
        for slot in self._slots.values():
            self._end(slot, "stopped")
        until = monotonic() + STOPPING
        while any(slot.channel for slot in self._slots.values()) and (left := until - monotonic()) > 0:
            for slot in self._slots.values():
                self._resume(slot, monotonic())
            for key, _ in self._selector.select(min(left, 0.1)):
                key.data()

    def close(self) -> None:
        """End the fork server, and with it every worker that is left."""
        self._close_forks()
        self._helpers.close()
        for slot in self._slots.values():
            if slot.channel is not None:
                self._ignore(slot)
                slot.channel.close()
                slot.channel = None

    def _close_forks(self) -> None:
        if self._forks.channel is not None:
            self._selector.unregister(self._forks.channel)
        self._forks.close()

    # --- to workers and the fork server

    def _attach(self) -> None:
        if self._forks.channel is not None:
            self._selector.register(self._forks.channel, selectors.EVENT_READ, self._hear_fork_server)

    def _start(self, slot: Slot) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                number = self._forks.fork(slot.name, Serve(), theirs)
            except OSError:
                ours.close()
                return  # the fork server's end of file is on the way, and brings a new one
        ours.setblocking(False)
        slot.started(Channel(ours, FromWorker, largest=LARGEST_RECORD), number)
        self._listen(slot)
        self._tell(slot)

    def _listen(self, slot: Slot) -> None:
        if slot.channel is not None:
            self._selector.register(slot.channel, selectors.EVENT_READ, lambda: self._hear_worker(slot))

    def _ignore(self, slot: Slot) -> None:
        """Read no more of a process, for a while or for good."""
        if slot.channel is not None:
            with suppress(KeyError):
                self._selector.unregister(slot.channel)

    def _resume(self, slot: Slot, now: float) -> None:
        """Read a process again that had sent too much at once."""
        if slot.paused_until is not None and slot.paused_until <= now:
            slot.paused_until, slot.heard = None, now
            self._listen(slot)

    def _tell(self, slot: Slot) -> None:
        """Tell a worker which pipelines to run. One that does not listen is killed."""
        self._send(slot, slot.assign(monotonic()))

    def _end(self, slot: Slot, reason: str) -> None:
        if slot.channel is not None:
            slot.ending = reason
            self._send(slot, Stop())

    def _lend(self, slot: Slot, need: Need) -> None:
        """Have an executor forked, and give its worker the other end of its socket."""
        revision = slot.revision_of(need)
        wanted = revision.pipeline if revision else None
        if refusal := slot.executors.refusal(need, wanted, len(slot.assignment.pipelines), monotonic()):
            log.warning("pipeline %s gets no executor: %s", need.pipeline, refusal)
            return
        assert revision is not None
        task = Open(revision.assignment, need.pipeline, need.delegate)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            with suppress(OSError):  # as in _start
                number = self._forks.fork(need.pipeline, task, theirs)
                slot.executors.add(number, need)
            self._send(slot, Lent(need.number), (ours.fileno(),))

    def _dismiss(self, slot: Slot, number: int | None = None) -> None:
        """Kill executors: one that hangs does not notice that its worker let go of it."""
        for pid in slot.executors.dismiss(number):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _send(self, slot: Slot, record: ToWorker, fds: tuple[int, ...] = ()) -> None:
        if slot.channel is None or slot.condemned:
            return
        try:
            slot.channel.send(record, fds)
        except BlockingIOError:
            self._kill(slot, "does not listen")
        except OSError:
            pass  # it is gone; the fork server says so in a moment

    def _kill(self, slot: Slot, reason: str) -> None:
        if slot.pid is not None:
            slot.ending = slot.ending or reason
            with suppress(ProcessLookupError):
                os.kill(slot.pid, signal.SIGKILL)

    # --- from workers and the fork server

    def _hear_worker(self, slot: Slot) -> None:
        if slot.channel is None:
            return
        try:
            self._hear(slot, slot.channel)
        except EOFError:
            self._ignore(slot)  # its exit status comes from the fork server
        except UnreadableError as error:
            self._condemn(slot, error)

    def _hear(self, slot: Slot, channel: Channel[FromWorker]) -> bool:
        """Read once, and pass on what was said. ``UnreadableError`` if the process may not say that."""
        before = channel.received_bytes
        made = 0
        for record in channel.receive():
            slot.check(record, monotonic())
            made += OVERHEAD
            if isinstance(record, RawResults):
                made += sum(len(memoryview(item.output)) for item in record.items)
            self._take(slot, record)
        if slot.spent(channel.received_bytes - before + made, monotonic()):
            self._ignore(slot)
        return bool(made)

    def _take(self, slot: Slot, record: FromWorker) -> None:
        slot.hear(record, monotonic())
        self._report_incidents(slot)
        if slot.outdated:
            self._tell(slot)
        if isinstance(record, Need):
            self._lend(slot, record)
        elif isinstance(record, Dismiss):
            self._dismiss(slot, record.number)
        elif not isinstance(record, Notice | Transition | SwapReport):
            self._listener(slot.name, record)
        elif not isinstance(record, SwapReport) and (passed := slot.admit(record, monotonic())):
            self._listener(slot.name, passed)

    def _report_incidents(self, slot: Slot) -> None:
        for incident in slot.take_incidents():
            self._listener(slot.name, incident)

    def _condemn(self, slot: Slot, error: UnreadableError) -> None:
        """Kill a process that said what it may not say. Only that one: the others did nothing."""
        reason = cleaned(str(error))
        log.error("worker %s is killed: %s", slot.name, reason)
        self._ignore(slot)
        slot.condemned, slot.ending, slot.paused_until = True, reason, None
        self._dismiss(slot)
        self._kill(slot, reason)

    def _hear_fork_server(self) -> None:
        if self._forks.channel is None:
            return
        try:
            for record in self._forks.channel.receive():
                if isinstance(record, Forked):
                    self._born(record)
                elif isinstance(record, NotForked):
                    self._not_born(record)
                else:
                    self._bury(record)
        except (EOFError, UnreadableError):
            self._lose_fork_server()

    def _born(self, forked: Forked) -> None:
        kill: int | None = None
        self._helpers.forked(forked.number, forked.pid)
        for slot in self._slots.values():
            if slot.number == forked.number and slot.channel is not None:
                slot.pid = forked.pid
                kill = forked.pid if slot.condemned else None
            elif forked.number in slot.executors:
                kill = slot.executors.born(forked.number, forked.pid)
        if forked.number in self._unwanted:
            self._unwanted.discard(forked.number)
            kill = forked.pid
        if kill is not None:
            with suppress(ProcessLookupError):
                os.kill(kill, signal.SIGKILL)

    def _not_born(self, refused: NotForked) -> None:
        log.error("no process could be forked: %s", refused.reason)
        self._helpers.not_forked(refused.number, refused.reason)
        self._unwanted.discard(refused.number)
        for slot in list(self._slots.values()):
            if slot.number == refused.number and slot.channel is not None:
                slot.ending = f"its process could not be started: {refused.reason}"
                self._handle_exit(slot, 1)
            else:
                slot.executors.forget(refused.number)  # its worker sees the end of its socket

    def _bury(self, exited: Exited) -> None:
        self._helpers.exited(exited.pid, exited.status)
        for slot in list(self._slots.values()):
            if slot.pid == exited.pid:
                self._handle_exit(slot, exited.status)
            elif ended := slot.executors.ended(exited.pid):
                _log_end(ended, exited.status)

    def _handle_exit(self, slot: Slot, status: int) -> None:
        """Take what a process that is gone had still sent, and what its end means."""
        if slot.channel is not None:
            self._ignore(slot)
            if not slot.condemned:
                self._hear_last_words(slot, slot.channel)
            slot.channel.close()
        self._dismiss(slot)
        for move in slot.last_moves():
            self._listener(slot.name, move)
        for transition in slot.ended(status, monotonic()):
            crash = Incident(transition.pipeline, "crashed", f"worker {slot.name}: {transition.reason}")
            self._listener(slot.name, crash)
            self._listener(slot.name, transition)
        self._report_incidents(slot)
        if not slot.assignment.pipelines:
            self._unwanted |= slot.executors.unborn()
            del self._slots[slot.name]

    def _hear_last_words(self, slot: Slot, channel: Channel[FromWorker]) -> None:
        """Read what is left. There is an end to it even if another process has got hold of the worker's socket."""
        with suppress(EOFError):
            try:
                for _ in range(LAST_WORDS):
                    if not self._hear(slot, channel):
                        break
            except UnreadableError as error:
                slot.condemned, slot.ending = True, cleaned(str(error))
                log.error("worker %s: %s", slot.name, slot.ending)  # noqa: TRY400 - the text is enough
        slot.paused_until = None

    def _lose_fork_server(self) -> None:
        log.error("the fork server is gone; replacing it and every worker")
        self._close_forks()
        self._unwanted.clear()
        self._helpers.fork_server_gone()
        for slot in list(self._slots.values()):
            slot.executors.clear()
            if slot.channel is not None:
                slot.ending = "its fork server is gone"
                self._handle_exit(slot, -signal.SIGKILL)
        if self._forks.replace():
            self._attach()


def _log_end(executor: Executor, status: int) -> None:
    """Log how an executor ended, unless it was killed. Its worker often notices a crash first."""
    if not executor.dismissed or status not in (0, -signal.SIGKILL):
        log.warning("executor %s/%d: %s", executor.pipeline, executor.ours, describe(status))


def _modules(kinds: Iterable[str]) -> list[str]:
    """Return what workers of these kinds of source will import: the fork server does it once for all."""
    groups: list[Group] = ["transforms", "decoders"]
    modules = [f"limpet.{group}.{kind}" for group in groups for kind in built_in(group)]
    return ["limpet.runtimes.tflite", *modules, *(f"limpet.sources.{kind}" for kind in kinds)]
