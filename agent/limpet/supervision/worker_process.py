"""The process of one slot: its socket, what comes from there, and what its slot has decided. I/O alone."""

from __future__ import annotations

import logging
import os
import selectors
import socket
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING

from limpet.errors import UnreadableError
from limpet.isolation.child import kill
from limpet.supervision.instructions import Kill, Report, Send, Start, StartExecutor
from limpet.supervision.slot import Slot
from limpet.supervision.traffic import size_of
from limpet.wire.border import cleaned
from limpet.wire.channel import Channel
from limpet.wire.fork_records import Serve
from limpet.wire.records import (
    LARGEST_RECORD,
    MOST_KEPT_FILES,
    ExecutorSocket,
    FromWorker,
    Kept,
    KeptFile,
    ToSupervisor,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from limpet.contracts.assignment import Assignment
    from limpet.supervision.forks import Forks
    from limpet.supervision.instructions import Instruction
    from limpet.wire.records import ToWorker

log = logging.getLogger(__name__)

LAST_READS = 64
"""Reads of the channel of a process that is gone."""


class WorkerProcess:
    """A slot, and the process that fills it. ``listener`` takes the name of the cell, and a record."""

    def __init__(
        self,
        assignment: Assignment,
        selector: selectors.BaseSelector,
        forks: Forks,
        listener: Callable[[str, ToSupervisor], None],
    ) -> None:
        self.slot = Slot(assignment)
        self._selector = selector
        self._forks = forks
        self._listener = listener
        self._channel: Channel[FromWorker] | None = None

    def do(self, instructions: Iterable[Instruction], fds: tuple[int, ...] = ()) -> None:
        """Do what the slot has decided. ``fds`` go with what is sent.

        ``UnreadableError`` if a record that is reported may not be of this cell.
        """
        for instruction in instructions:
            if isinstance(instruction, Report):
                self._listener(self.slot.name, instruction.record)
            elif isinstance(instruction, Send):
                self._send(instruction.record, fds)
            elif isinstance(instruction, Kill):
                kill(instruction.pid)
            elif isinstance(instruction, StartExecutor):
                self._start_executor(instruction)
            elif isinstance(instruction, Start):
                self._start()

    def tend(self, now: float) -> None:
        """Do what is due."""
        self.resume(now)
        self.do(self.slot.tend(now))

    def resume(self, now: float) -> None:
        """Read the process again if it had sent too much, and has waited long enough."""
        paused_until = self.slot.traffic.paused_until
        if paused_until is not None and paused_until <= now:
            self.slot.traffic.paused_until, self.slot.heard = None, now
            self._listen()

    def exited(self, status: int) -> None:
        """Take what a process that is gone had still sent, and what its end means."""
        if self._channel is not None:
            self._ignore()
            if not self.slot.condemned:
                self._read_rest(self._channel)
            self._channel.close()
            self._channel = None
        self.do(self.slot.exited(status, monotonic()))

    def close(self) -> None:
        """Listen no more."""
        if self._channel is not None:
            self._ignore()
            self._channel.close()
            self._channel = None

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                number = self._forks.fork(self.slot.name, Serve(), theirs)
            except OSError:
                ours.close()
                return  # The fork server is gone. There will be another one.
        ours.setblocking(False)
        self._channel = Channel(ours, FromWorker, largest=LARGEST_RECORD, fds=MOST_KEPT_FILES)
        self.slot.started(number)
        self._listen()
        self._send(self.slot.assign(monotonic()))

    def _start_executor(self, wanted: StartExecutor) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            with suppress(OSError):  # as in _start
                number = self._forks.fork(wanted.need.pipeline, wanted.task, theirs)
                self.slot.executors.add(number, wanted.need, wanted.shadow)
            self._send(ExecutorSocket(wanted.need.number), (ours.fileno(),))

    def _send(self, record: ToWorker, fds: tuple[int, ...] = ()) -> None:
        if self._channel is None or self.slot.condemned:
            return
        try:
            self._channel.send(record, fds)
        except BlockingIOError:
            self.do(self.slot.kill("it does not read what it is sent"))
        except OSError:
            pass  # It is gone. The fork server reports that in a moment.

    def _listen(self) -> None:
        if self._channel is not None:
            self._selector.register(self._channel, selectors.EVENT_READ, self._readable)

    def _ignore(self) -> None:
        """Stop reading from the process, for a while or to its end."""
        if self._channel is not None:
            with suppress(KeyError):
                self._selector.unregister(self._channel)

    def _readable(self) -> None:
        if self._channel is None:
            return
        try:
            self._read(self._channel)
        except EOFError:
            self._ignore()  # The fork server reports its exit status.
        except UnreadableError as error:
            reason = cleaned(str(error))
            log.error("worker %s is killed: %s", self.slot.name, reason)  # noqa: TRY400 - the text is enough
            self._ignore()
            self.do(self.slot.condemn(reason))

    def _read(self, channel: Channel[FromWorker]) -> bool:
        """Read once, and return whether a record came. ``UnreadableError`` if the process may not send that."""
        before, made = channel.received_bytes, 0
        for record in channel.receive():
            self.slot.check(record, monotonic())
            made += size_of(record)
            heard = _with_file(record, channel)
            instructions = self.slot.hear(heard, monotonic())
            if isinstance(heard, KeptFile) and not instructions:
                heard.file.close()  # It was not wanted.
            self.do(instructions)
        if self.slot.traffic.spend(channel.received_bytes - before + made, monotonic()):
            self._ignore()
        return bool(made)

    def _read_rest(self, channel: Channel[FromWorker]) -> None:
        """Read what is left. There is an end to it even if another process has got hold of the worker's socket."""
        with suppress(EOFError):
            try:
                for _ in range(LAST_READS):
                    if not self._read(channel):
                        break
            except UnreadableError as error:
                reason = cleaned(str(error))
                log.error("worker %s: %s", self.slot.name, reason)  # noqa: TRY400 - the text is enough
                self.slot.condemned, self.slot.ending = True, reason


def _with_file(record: FromWorker, channel: Channel[FromWorker]) -> FromWorker | KeptFile:
    """Return a record with the file that came along. ``UnreadableError`` if there should be one and is none."""
    if not isinstance(record, Kept):
        return record
    if not channel.received_fds:
        raise UnreadableError("it sent a window without its file")
    return KeptFile(record, os.fdopen(channel.received_fds.pop(0), "rb"))
