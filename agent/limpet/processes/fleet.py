"""The worker processes: forked, heard, killed when silent, restarted when they crash.

What workers say, and what their ends mean, goes as records to one listener. One selector, no thread.
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

from limpet.config import Config
from limpet.plugin import built_in
from limpet.processes.channel import Channel
from limpet.processes.launch import ForkServerProcess
from limpet.processes.slot import Slot, describe
from limpet.records import (
    Ask,
    Assign,
    Dismiss,
    Exited,
    Fork,
    Forked,
    FromForkServer,
    FromWorker,
    Lent,
    Need,
    Notice,
    Preload,
    Stop,
    ToSupervisor,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from limpet.plugin import Group
    from limpet.records import ToWorker

log = logging.getLogger(__name__)

STOPPING = 5.0
"""Seconds that workers have to hand over their last results."""


class Fleet:
    """The slots of a configuration's sources and the fork server that fills them."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        launched: ForkServerProcess,
        listener: Callable[[ToSupervisor], None],
    ) -> None:
        self._selector = selector
        self._listener = listener
        self._slots: dict[str, Slot] = {}
        self._launched = launched
        self._modules: list[str] = []
        self._executors: dict[str, int | None] = {}
        self._dismissed: dict[int, str] = {}
        self._fork_server = self._attach()

    def assign(self, wanted: Config) -> None:
        """Bring the workers from whatever they run to this configuration, leaving alone what did not change."""
        used = {pipeline.source for pipeline in wanted.pipelines.values()}
        self._modules = _modules(wanted.sources[name].kind for name in sorted(used))
        self._fork_server.send(Preload(self._modules))
        for name in self._slots.keys() - used:
            self._slots[name].want(Config(wanted.base, wanted.device, self._slots[name].config.sources, {}, {}))
            self._end(self._slots[name], "no longer configured")
        for name in used:
            self._assign_slot(name, wanted.only(name))
        self.tend()

    def _assign_slot(self, name: str, wanted: Config) -> None:
        slot = self._slots.get(name)
        if slot is None:
            self._slots[name] = Slot(wanted)
            return
        source_changed = wanted.sources != slot.config.sources
        slot.want(wanted)
        if source_changed:
            self._end(slot, "its source changed")
        elif slot.channel is not None:
            self._tell(slot)

    def tend(self) -> None:
        """Start what is due, kill what is silent."""
        now = monotonic()
        for slot in self._slots.values():
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
        deadlines = [p.deadline for slot in self._slots.values() for p in slot.config.pipelines.values()]
        return min([monotonic() + min([1.0, *(deadline / 4 for deadline in deadlines)]), *starts])

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
        self._send(self._slot_of(pipeline), ask, fds)

    def ask_all(self, ask: Ask) -> None:
        """Have every worker answer."""
        for slot in self._slots.values():
            self._send(slot, ask)

    def _slot_of(self, pipeline: str) -> Slot:
        for slot in self._slots.values():
            if pipeline in slot.config.pipelines and slot.channel is not None:
                return slot
        raise KeyError(pipeline)

    def pids(self) -> dict[str, int]:
        """Return the process ids of the fork server and, by source, of the workers."""
        workers = {f"worker {name}": slot.pid for name, slot in self._slots.items() if slot.pid is not None}
        executors = {f"executor {key}": pid for key, pid in self._executors.items() if pid is not None}
        return {"fork server": self._launched.pid, **workers, **executors}

    def stop(self) -> None:
        """Let every worker hand over its last results, then end them all."""
        for slot in self._slots.values():
            self._end(slot, "stopped")
        until = monotonic() + STOPPING
        while any(slot.channel for slot in self._slots.values()) and (left := until - monotonic()) > 0:
            for key, _ in self._selector.select(left):
                key.data()

    def close(self) -> None:
        """End the fork server, and with it every worker that is left."""
        self._selector.unregister(self._fork_server)
        self._launched.close()

    # --- to workers and the fork server

    def _attach(self) -> Channel[FromForkServer]:
        channel: Channel[FromForkServer] = Channel(self._launched.socket, FromForkServer)
        self._selector.register(channel, selectors.EVENT_READ, self._hear_fork_server)
        return channel

    def _start(self, slot: Slot) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._fork_server.send(Fork(slot.name), (theirs.fileno(),))
            except OSError:
                ours.close()
                return  # the fork server's end of file is on the way, and brings a new one
        ours.setblocking(False)
        slot.channel = Channel(ours, FromWorker)
        self._selector.register(slot.channel, selectors.EVENT_READ, lambda: self._hear_worker(slot))
        self._tell(slot)

    def _tell(self, slot: Slot) -> None:
        """Tell a worker which pipelines to run. One that does not listen is killed."""
        names = slot.runnable(monotonic())
        slot.assigned(names, monotonic())
        wanted = slot.config
        pipelines = {name: wanted.pipelines[name] for name in names}
        self._send(
            slot, Assign(Config(wanted.base, wanted.device, wanted.sources, pipelines, {}, wanted.delegates))
        )

    def _end(self, slot: Slot, reason: str) -> None:
        if slot.channel is not None:
            slot.ending = reason
            self._send(slot, Stop())

    def _lend(self, slot: Slot, key: str) -> None:
        """Have an executor forked, and give its worker the other end of its socket."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            self._executors[key] = None
            with suppress(OSError):  # as in _start
                self._fork_server.send(Fork(key, "executor"), (theirs.fileno(),))
            self._send(slot, Lent(key), (ours.fileno(),))

    def _dismiss(self, keys: Iterable[str]) -> None:
        """Kill executors: one that hangs does not notice that its worker let go of it."""
        for key in keys:
            pid = self._executors.pop(key, None)
            if pid is not None:
                self._dismissed[pid] = key
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _send(self, slot: Slot, record: ToWorker, fds: tuple[int, ...] = ()) -> None:
        if slot.channel is None:
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
            self._selector.unregister(slot.channel)  # its exit status comes from the fork server

    def _hear(self, slot: Slot, channel: Channel[FromWorker]) -> bool:
        heard = False
        for record in channel.receive():
            heard = True
            slot.hear(record, monotonic())
            if isinstance(record, Need):
                self._lend(slot, record.key)
            elif isinstance(record, Dismiss):
                self._dismiss([record.key])
            else:
                self._listener(record)
        return heard

    def _hear_fork_server(self) -> None:
        try:
            for record in self._fork_server.receive():
                if isinstance(record, Forked):
                    self._born(record)
                else:
                    self._bury(record)
        except EOFError:
            self._replace_fork_server()

    def _born(self, forked: Forked) -> None:
        if forked.worker in self._executors:
            self._executors[forked.worker] = forked.pid
        elif forked.worker in self._slots:
            self._slots[forked.worker].pid = forked.pid

    def _bury(self, exited: Exited) -> None:
        for key in [key for key, pid in self._executors.items() if pid == exited.pid]:
            log.warning("executor %s: %s", key, describe(exited.status))
            del self._executors[key]
        # Its worker often hears of a crash first, and has it dismissed.
        dismissed = self._dismissed.pop(exited.pid, "")
        if dismissed and exited.status not in (0, -signal.SIGKILL):
            log.warning("executor %s: %s", dismissed, describe(exited.status))
        for slot in list(self._slots.values()):
            if slot.pid == exited.pid:
                self._mourn(slot, exited.status)

    def _mourn(self, slot: Slot, status: int) -> None:
        """Take a dead worker's last words and what its end means."""
        if slot.channel is not None:
            with suppress(EOFError):
                while self._hear(slot, slot.channel):
                    pass
            with suppress(KeyError):
                self._selector.unregister(slot.channel)
            slot.channel.close()
        self._dismiss([key for key in self._executors if key.startswith(f"{slot.name}/")])
        for transition in slot.ended(status, monotonic()):
            self._listener(Notice(transition.pipeline, "crashed", f"worker {slot.name}: {transition.reason}"))
            self._listener(transition)
        if not slot.config.pipelines:
            del self._slots[slot.name]

    def _replace_fork_server(self) -> None:
        log.error("the fork server is gone; replacing it and every worker")
        self.close()
        self._executors.clear()
        self._dismissed.clear()
        for slot in list(self._slots.values()):
            if slot.channel is not None:
                slot.ending = "its fork server is gone"
                self._mourn(slot, -signal.SIGKILL)
        self._launched = ForkServerProcess()
        self._fork_server = self._attach()
        self._fork_server.send(Preload(self._modules))


def _modules(kinds: Iterable[str]) -> list[str]:
    """Return what workers of these kinds of source will import: the fork server does it once for all."""
    groups: list[Group] = ["transforms", "decoders"]
    modules = [f"limpet.{group}.{kind}" for group in groups for kind in built_in(group)]
    return ["limpet.runtimes.tflite", *modules, *(f"limpet.sources.{kind}" for kind in kinds)]
