"""All processes: the fork server, a worker for each cell, helpers that answer one question, and deployers.

What workers send, and what their ends mean, goes to one listener: the name of the cell, and a record. It raises
``UnreadableError`` for what the worker may not send. That worker is killed, and no other one with it. There is one
selector, and no thread.
"""

from __future__ import annotations

import logging
import selectors
import signal
from time import monotonic
from typing import TYPE_CHECKING

from limpet.errors import UnreadableError
from limpet.isolation.child import describe, kill
from limpet.plugins import built_in
from limpet.supervision.checking import NOTHING_KNOWN, Checking
from limpet.supervision.forks import FORK_SERVER_GONE, Forks
from limpet.supervision.helpers import Helpers
from limpet.supervision.instructions import Send
from limpet.supervision.rests import REST_AFTER
from limpet.supervision.roots import Roots
from limpet.supervision.worker_process import WorkerProcess
from limpet.wire.fork_records import Exited, Forked, NotForked
from limpet.wire.records import ModelSocket

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable, Mapping

    from limpet.config import Config, PipelineConfig
    from limpet.contracts.assignment import Assignment, PipelineAssignment
    from limpet.fork.launch import ForkServerProcess
    from limpet.plugins import Group
    from limpet.supervision.admissions import Admissions
    from limpet.supervision.checking import Known
    from limpet.supervision.deployers import Deployers
    from limpet.supervision.executors import Executor
    from limpet.supervision.guest_processes import GuestProcesses
    from limpet.wire.records import Ask, ToSupervisor, Transition

log = logging.getLogger(__name__)

STOPPING = 5.0
"""Seconds that workers have to hand over their last results."""
SOON = 10.0
"""Seconds within which a worker that crashed is started again, unless it crashed too often."""
WAKE_BEFORE = 2.0
"""Seconds before the start of a worker in which a resting fork server gets ready."""


class Fleet:
    """The workers of all cells, and the fork server that forks them."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        launched: ForkServerProcess,
        listener: Callable[[str, ToSupervisor], None],
        rest_after: float = REST_AFTER,
    ) -> None:
        self._selector = selector
        self._listener = listener
        self._forks = Forks(launched, rest_after)
        self.helpers = Helpers(selector, self._forks)
        self.roots = Roots(self.helpers)
        self._short_lived: list[Helpers | Deployers | GuestProcesses] = [self.helpers]
        """What has processes besides the workers."""
        self._deployers: Deployers | None = None
        self._guest_processes: GuestProcesses | None = None
        self._admissions: Admissions | None = None
        self._workers: dict[str, WorkerProcess] = {}
        self._orphans: set[int] = set()
        """Numbers of executors that will be forked although their worker is gone. They are killed then."""
        self._stopping = False
        self._attach()

    @property
    def deployers(self) -> Deployers:
        """The processes that fetch bundles. Most daemons never need their code in memory."""
        if self._deployers is None:
            from limpet.supervision.deployers import Deployers

            self._deployers = Deployers(self._selector, self._forks)
            self._short_lived.append(self._deployers)
        return self._deployers

    @property
    def guest_processes(self) -> GuestProcesses:
        """The processes with models for clients. Most daemons never need their code in memory."""
        if self._guest_processes is None:
            from limpet.supervision.guest_processes import GuestProcesses

            self._guest_processes = GuestProcesses(self._selector, self._forks)
            self._short_lived.append(self._guest_processes)
        return self._guest_processes

    @property
    def admissions(self) -> Admissions:
        """The models that are tried before a pipeline gets them. Most daemons never need that code in memory."""
        if self._admissions is None:
            from limpet.supervision.admissions import Admissions

            self._admissions = Admissions(self.helpers)
        return self._admissions

    def check(
        self,
        wanted: Config,
        known: Known = NOTHING_KNOWN,
        *,
        options: bool = True,
        wrong: Mapping[str, PipelineConfig] | None = None,
    ) -> Checking:
        """Begin to check a configuration: its options and its models. ``tend`` and the selector go on with it.

        ``known``, ``options`` and ``wrong``: see ``Checking``.
        """
        # First: then none of those processes imports the same, and each is forked from frozen memory.
        self._preload(wanted.sources[pipeline.source].kind for pipeline in wanted.pipelines.values())
        return Checking(self.helpers, wanted, known, options=options, wrong=wrong)

    def assign(self, cells: Mapping[str, Assignment]) -> None:
        """Bring the workers from whatever they run to these assignments, leaving alone what did not change."""
        self._preload(table.kind for cell in cells.values() for table in cell.sources.values())
        for name in list(self._workers.keys() - cells.keys()):
            worker = self._workers[name]
            worker.do(worker.slot.want(worker.slot.assignment.only(()), monotonic()))
            self._forget_if_over(worker)
        for name, assignment in cells.items():
            if name in self._workers:
                worker = self._workers[name]
                worker.do(worker.slot.want(assignment, monotonic()))
            else:
                self._workers[name] = WorkerProcess(assignment, self._selector, self._forks, self._listener)
        self.tend()

    def _preload(self, kinds: Iterable[str]) -> None:
        """Have the fork server import what workers with these kinds of source need."""
        self._forks.preload(_modules(sorted(set(kinds))))

    def tend(self) -> None:
        """Start what is due, kill what is silent, and read again what had to wait."""
        if self._forks.replace():
            self._attach()
        now = monotonic()
        for each in self._short_lived:
            each.tend(now)
        for worker in self._workers.values():
            worker.tend(now)
        if self.helpers.next_due() is None:
            starts = [worker.slot.next_start() for worker in self._workers.values()]
            self._forks.rest(min((start for start in starts if start is not None), default=None))

    def next_due(self) -> float:
        """Return when ``tend`` should be called next, on the monotonic clock."""
        now = monotonic()
        times = [worker.slot.next_due(now) for worker in self._workers.values()]
        answers = [each.next_due() for each in self._short_lived]
        return min([now + 1.0, *times, *(answer for answer in answers if answer is not None)])

    def rests(self) -> bool:
        """Whether no worker runs, and none is started soon: one that crashed too often is, only much later."""
        soon = monotonic() + SOON
        starts = [worker.slot.next_start() for worker in self._workers.values()]
        return not any(worker.slot.alive for worker in self._workers.values()) and all(
            start is None or start > soon for start in starts
        )

    def progresses(self) -> bool:
        """Whether no worker is silent for longer than it may be."""
        now = monotonic()
        return all(worker.slot.overdue(now) is None for worker in self._workers.values())

    def restart(self, pipeline: str) -> None:
        """Restart the worker of a pipeline, whether it works or not. ``KeyError`` if it is to have none."""
        worker = self._worker_of(pipeline)
        worker.do(worker.slot.restart(pipeline))

    def ask(self, pipeline: str, ask: Ask, fds: tuple[int, ...] = ()) -> None:
        """Have the worker of a pipeline answer. ``KeyError`` if there is none."""
        worker = self._worker_of(pipeline)
        if not worker.slot.alive:
            raise KeyError(pipeline)
        worker.do(worker.slot.ask(ask), fds)

    def connect_model(self, pipeline: str, end: socket.socket) -> None:
        """Hand a client's socket to the worker of a pipeline. ``KeyError`` if there is none."""
        worker = self._worker_of(pipeline)
        if not worker.slot.alive:
            raise KeyError(pipeline)
        worker.do([Send(ModelSocket(pipeline))], (end.fileno(),))

    def ask_all(self, ask: Ask) -> None:
        """Have every worker answer."""
        for worker in self._workers.values():
            worker.do(worker.slot.ask(ask))

    def _worker_of(self, pipeline: str) -> WorkerProcess:
        for worker in self._workers.values():
            if pipeline in worker.slot.assignment.pipelines:
                return worker
        raise KeyError(pipeline)

    def identity(self, move: Transition) -> str:
        """Return the SHA-256 of the model that a worker reports about, empty if it is not known."""
        found = (worker.slot.pipelines.identity(move) for worker in self._workers.values())
        return next(filter(None, found), "")

    def in_use(self) -> dict[str, PipelineAssignment]:
        """Return what each pipeline runs that has not failed. That may be older than what it should run."""
        in_use: dict[str, PipelineAssignment] = {}
        for worker in self._workers.values():
            in_use |= worker.slot.pipelines.in_use()
        return in_use

    def pids(self) -> dict[str, int]:
        """Return the process ids of the fork server and, by cell, of the workers."""
        found = {} if self._forks.pid is None else {"fork server": self._forks.pid}
        for name, worker in self._workers.items():
            if worker.slot.pid is not None:
                found[f"worker {name}"] = worker.slot.pid
            found |= {f"executor {executor}": pid for executor, pid in worker.slot.executors.pids().items()}
        if self._deployers is not None:
            found |= {f"deployer {pipeline}": pid for pipeline, pid in self._deployers.pids().items()}
        if self._guest_processes is not None:
            found |= {f"guest {model}": pid for model, pid in self._guest_processes.pids().items()}
        return found

    def stop(self) -> None:
        """Let every worker hand over its last results, then end them all."""
        self._stopping = True
        for worker in self._workers.values():
            worker.do(worker.slot.end("stopped"))
        until = monotonic() + STOPPING
        while any(worker.slot.alive for worker in self._workers.values()) and (left := until - monotonic()) > 0:
            for worker in self._workers.values():
                worker.resume(monotonic())
            for key, _ in self._selector.select(min(left, 0.1)):
                key.data()

    def close(self) -> None:
        """End the fork server, and with it every worker that is left."""
        self._detach()
        for each in self._short_lived:
            each.close()
        for worker in self._workers.values():
            worker.close()

    # --- what the fork server reports

    def _attach(self) -> None:
        if self._forks.channel is not None:
            self._selector.register(self._forks.channel, selectors.EVENT_READ, self._read_fork_server)

    def _detach(self) -> None:
        if self._forks.channel is not None:
            self._selector.unregister(self._forks.channel)
        self._forks.close()

    def _read_fork_server(self) -> None:
        if self._forks.channel is None:
            return
        try:
            for record in self._forks.channel.receive():
                if isinstance(record, Forked):
                    self._take_forked(record)
                elif isinstance(record, NotForked):
                    self._take_not_forked(record)
                else:
                    self._take_exited(record)
        except (EOFError, UnreadableError):
            self._lose_fork_server()

    def _take_forked(self, forked: Forked) -> None:
        for each in self._short_lived:
            each.forked(forked.number, forked.pid)
        for worker in self._workers.values():
            worker.do(worker.slot.forked(forked.number, forked.pid))
        if forked.number in self._orphans:
            self._orphans.discard(forked.number)
            kill(forked.pid)

    def _take_not_forked(self, refused: NotForked) -> None:
        log.error("no process could be forked: %s", refused.reason)
        for each in self._short_lived:
            each.not_forked(refused.number, refused.reason)
        self._orphans.discard(refused.number)
        for worker in list(self._workers.values()):
            if worker.slot.alive and worker.slot.number == refused.number:
                worker.slot.ending = f"its process could not be started: {refused.reason}"
                self._handle_exit(worker, 1)
            else:
                worker.slot.executors.forget(refused.number)  # Its worker sees the end of its socket.

    def _take_exited(self, exited: Exited) -> None:
        for each in self._short_lived:
            each.exited(exited.pid, exited.status)
        for worker in list(self._workers.values()):
            if worker.slot.pid == exited.pid:
                self._handle_exit(worker, exited.status)
            elif ended := worker.slot.executors.ended(exited.pid):
                _log_end(ended, exited.status)
                worker.do(worker.slot.shadow_ended(ended, exited.status))

    def _handle_exit(self, worker: WorkerProcess, status: int) -> None:
        worker.exited(status)
        start = worker.slot.next_start()
        if not self._stopping and start is not None and start - monotonic() < WAKE_BEFORE:
            self._forks.wake()  # It imports during the pause before the start.
        self._forget_if_over(worker)

    def _forget_if_over(self, worker: WorkerProcess) -> None:
        if not worker.slot.alive and not worker.slot.assignment.pipelines:
            self._orphans |= worker.slot.executors.not_forked_yet()
            del self._workers[worker.slot.name]

    def _lose_fork_server(self) -> None:
        log.error("the fork server is gone; replacing it and every worker")
        self._detach()
        self._orphans.clear()
        for each in self._short_lived:
            each.fork_server_gone()
        for worker in list(self._workers.values()):
            worker.slot.executors.clear()
            if worker.slot.alive:
                worker.slot.ending = FORK_SERVER_GONE
                self._handle_exit(worker, -signal.SIGKILL)
        if self._forks.replace():
            self._attach()


def _log_end(executor: Executor, status: int) -> None:
    """Log how an executor ended, unless it was killed. Its worker often notices a crash first."""
    if not executor.dismissed or status not in (0, -signal.SIGKILL):
        log.warning("executor %s/%d: %s", executor.pipeline, executor.fork, describe(status))


def _modules(kinds: Iterable[str]) -> list[str]:
    """Return what workers of these kinds of source will import: the fork server does it once for all."""
    groups: list[Group] = ["transforms", "decoders", "postprocess"]
    modules = [f"limpet.{group}.{kind}" for group in groups for kind in built_in(group)]
    return ["limpet.runtimes.tflite", *modules, *(f"limpet.sources.{kind}" for kind in kinds)]
