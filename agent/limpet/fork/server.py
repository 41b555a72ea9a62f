"""The fork server: a process with numpy and the runtime in memory, from which workers are forked.

A forked worker is ready in milliseconds and shares that memory. Nothing is ever invoked here: a runtime's
threads would not survive the fork. ``limpet.fork.launch`` starts it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import logging
import os
import signal
import socket
from select import select
from typing import TYPE_CHECKING

from limpet.device import logs
from limpet.isolation.child import die_before_parent, die_with_parent, kill, set_name
from limpet.wakeup import Wakeup
from limpet.wire.channel import Channel
from limpet.wire.fork_records import Check, Examine, Exited, Fork, Forked, NotForked, Open, Serve, ToForkServer

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger(__name__)

_ROLES: dict[type[Serve | Open | Check | Examine], tuple[str, str]] = {
    Serve: ("limpet.worker.process", "limpet:"),
    Open: ("limpet.executor.process", "limpet+"),
    Check: ("limpet.worker.checker", "limpet="),
    Examine: ("limpet.worker.examiner", "limpet="),
}
"""The module that does a task, and how its process's name begins."""
MOST_FDS = 64
"""Sockets of processes that wait to be forked. The kernel gives those of one request at a time."""


def main(arguments: Sequence[str]) -> None:
    """Serve the supervisor, whose process id and socket are the arguments, until it goes away."""
    parent, fd = map(int, arguments)
    die_with_parent(parent)
    # Collecting would take a tenth of the time that follows, and leave holes in memory that workers share.
    gc.disable()
    importlib.import_module("limpet.worker.process")
    set_name("limpet-fork")
    logs.configure()
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    ForkServer(Channel(socket.socket(fileno=fd), ToForkServer, fds=MOST_FDS)).serve()


class ForkServer:
    """Forks workers on request, and reports how they end."""

    def __init__(self, supervisor: Channel[ToForkServer]) -> None:
        self._supervisor = supervisor
        self._children: set[int] = set()
        self._wakeup = Wakeup()
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._wakeup.on_signals()

    def serve(self) -> None:
        """Work until the supervisor is gone; then end the workers."""
        try:
            while True:
                ready = select([self._supervisor.socket, self._wakeup.socket], [], [])[0]
                if self._wakeup.socket in ready:
                    self._wakeup.clear()
                    self._reap()
                if self._supervisor.socket in ready:
                    for record in self._supervisor.receive():
                        self._do(record)
        except (EOFError, BrokenPipeError):
            for pid in self._children:
                kill(pid)

    def _do(self, record: ToForkServer) -> None:
        if isinstance(record, Fork):
            self._fork(record, self._supervisor.received_fds.pop(0))
            return
        for module in record.modules:
            # A missing extra or a broken plugin is the worker's to report.
            with contextlib.suppress(Exception):
                importlib.import_module(module)
        gc.freeze()

    def _fork(self, wanted: Fork, fd: int) -> None:
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:  # no memory, or too many processes: that may pass
            os.close(fd)
            log.error("%s: not forked: %s", wanted.name, error.strerror)  # noqa: TRY400 - the text is enough
            self._supervisor.send(NotForked(wanted.number, error.strerror or str(error)))
            return
        if pid:
            os.close(fd)
            self._children.add(pid)
            self._supervisor.send(Forked(wanted.number, pid))
            return
        module, prefix = _ROLES[type(wanted.task)]
        status = 1
        try:
            self._become(f"{prefix}{wanted.name}", parent)
            importlib.import_module(module).run(socket.socket(fileno=fd), wanted.task)
            status = 0
        except BaseException:
            log.exception("%s %s", module, wanted.name)
        finally:
            logging.shutdown()
            os._exit(status)

    def _become(self, name: str, parent: int) -> None:
        die_with_parent(parent)
        die_before_parent()
        set_name(name)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._supervisor.close()
        self._wakeup.close()
        gc.enable()

    def _reap(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            self._children.discard(pid)
            self._supervisor.send(Exited(pid, os.waitstatus_to_exitcode(status)))
