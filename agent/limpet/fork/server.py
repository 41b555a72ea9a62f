"""The fork server: a process with numpy and the runtime in memory, from which workers are forked.

A forked worker is ready in milliseconds and shares that memory. Nothing is ever invoked here: a runtime's
threads would not survive the fork. ``limpet.fork.launch`` starts it.

While nothing is to be forked it rests: ``limpet.fork.resting`` runs in its place (``exec``), and then a fork
server again. What that one has to know is in its command line.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from select import select
from typing import TYPE_CHECKING

from limpet.device import logs
from limpet.fork.command import command
from limpet.isolation.child import die_before_parent, die_with_parent, kill, set_name
from limpet.wakeup import Wakeup
from limpet.wire.channel import Channel
from limpet.wire.deploy_records import Deploy
from limpet.wire.fork_records import (
    Admit,
    Check,
    Examine,
    Exited,
    Fork,
    Forked,
    NotForked,
    Open,
    OpenGuest,
    OpenShadow,
    Preload,
    ReadRequest,
    ReadRoots,
    Rest,
    Seal,
    Serve,
    Task,
    ToForkServer,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger(__name__)

_ROLES: dict[type[Task], tuple[str, str]] = {
    Serve: ("limpet.worker.process", "limpet:"),
    Open: ("limpet.executor.process", "limpet+"),
    OpenShadow: ("limpet.executor.shadow", "limpet~"),
    OpenGuest: ("limpet.executor.guest", "limpet@"),
    Check: ("limpet.worker.checker", "limpet="),
    Examine: ("limpet.worker.examiner", "limpet="),
    ReadRequest: ("limpet.worker.reader", "limpet="),
    ReadRoots: ("limpet.worker.reader", "limpet="),
    Deploy: ("limpet.deployer.process", "limpet^"),
    Admit: ("limpet.worker.candidate_check", "limpet="),
    Seal: ("limpet.worker.sealer", "limpet="),
}
"""The module that does a task, and how its process's name begins."""
MOST_FDS = 64
"""Sockets of processes that wait to be forked. The kernel gives those of one request at a time."""
_RESTING = Path(__file__).with_name("resting.py")


def main(arguments: Sequence[str]) -> None:
    """Serve the supervisor until it goes away.

    Arguments: its process id and the socket to it. After a rest, they also have modules to import, and the process
    ids of the children, with commas between them.
    """
    parent, fd, (modules, children) = int(arguments[0]), int(arguments[1]), arguments[2:] or ("", "")
    die_with_parent(parent)
    set_name("limpet-fork")
    # Collecting would take a tenth of the time that follows, and leave holes in memory that workers share.
    gc.disable()
    importlib.import_module("limpet.worker.process")
    logs.configure()
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    server = ForkServer(parent, Channel(socket.socket(fileno=fd), ToForkServer, fds=MOST_FDS))
    server.resume([name for name in modules.split(",") if name], {int(pid) for pid in children.split(",") if pid})
    server.serve()


class ForkServer:
    """Forks workers on request, and reports how they end."""

    def __init__(self, parent: int, supervisor: Channel[ToForkServer]) -> None:
        self._parent = parent
        self._supervisor = supervisor
        self._children: set[int] = set()
        self._modules: list[str] = []
        self._wakeup = Wakeup()
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._wakeup.on_signals()

    def resume(self, modules: list[str], children: set[int]) -> None:
        """Go on where another fork server in this process stopped to rest."""
        self._children = children
        if modules:
            self._preload(modules)

    def serve(self) -> None:
        """Work until the supervisor is gone; then end the workers."""
        try:
            self._reap()  # those that ended before this process could take a signal
            while True:
                ready = select([self._supervisor.socket, self._wakeup.socket], [], [])[0]
                if self._wakeup.socket in ready:
                    self._wakeup.clear()
                    self._reap()
                if self._supervisor.socket in ready:
                    rest = False
                    for record in self._supervisor.receive():
                        self._do(record)
                        rest = isinstance(record, Rest)
                    if rest and self._supervisor.drained:
                        self._rest()
        except (EOFError, BrokenPipeError):
            for pid in self._children:
                kill(pid)

    def _do(self, record: ToForkServer) -> None:
        if isinstance(record, Fork):
            self._fork(record, self._supervisor.received_fds.pop(0))
        elif isinstance(record, Preload):
            self._preload(record.modules)

    def _preload(self, modules: list[str]) -> None:
        self._modules = modules
        for module in modules:
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

    def _rest(self) -> None:
        """Run ``resting`` in this process's place. Return if that cannot be."""
        if not hasattr(os, "pidfd_open"):  # not Linux, or Python was built for an old one
            return
        children: dict[int, int] = {}
        try:
            children.update((os.pidfd_open(pid), pid) for pid in self._children)
            again = command(self._parent, self._supervisor.fileno(), self._modules)
            _run_in_this_place(self._supervisor.fileno(), children, again)
        except OSError as error:
            log.info("the fork server stays in memory, as it cannot rest: %s", error.strerror)
            for fd in children:
                os.close(fd)

    def _reap(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            self._children.discard(pid)
            self._supervisor.send(Exited(pid, os.waitstatus_to_exitcode(status)))


def _run_in_this_place(supervisor: int, children: dict[int, int], again: list[str]) -> None:
    """Have ``resting`` wait, and then run the command ``again``. Returns only with an ``OSError``."""
    for fd in (supervisor, *children):
        os.set_inheritable(fd, True)
    waiting = ",".join(f"{fd}:{pid}" for fd, pid in children.items())
    _RESTING.stat()  # Python would start and find nothing to run.
    os.execv(  # noqa: S606 - its own program
        sys.executable,
        # Without ``site`` no module of another package is imported.
        [sys.executable, "-S", str(_RESTING), str(supervisor), waiting, *again],
    )
