"""Starting the fork server. Imports next to nothing, so that numpy loads there while the supervisor gets ready."""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import suppress

from limpet.device import log_socket
from limpet.fork.command import command

SECRETS = ("CREDENTIALS_DIRECTORY",)
"""Environment variables that lead to secrets: no worker sees them."""


class ForkServerProcess:
    """The fork server and this end of the socket to it.

    ``fork`` takes it from this process as it is, which saves starting Python once more. Only for a process that
    has no threads and no secrets yet.
    """

    def __init__(self, *, fork: bool = False) -> None:
        self.socket, theirs = socket.socketpair()
        with theirs:
            self.pid = self._fork(theirs) if fork else _spawn(theirs)

    def _fork(self, theirs: socket.socket) -> int:
        parent = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        try:
            self.socket.close()
            log_socket.close_reader()
            os.environ.update(_environment())
            for name in SECRETS:
                os.environ.pop(name, None)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            from limpet.fork import server

            server.main([str(parent), str(theirs.detach())])
        finally:
            os._exit(1)

    def close(self) -> None:
        """End the fork server, and with it every worker."""
        if self.socket.fileno() < 0:
            return
        self.socket.close()
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


def _spawn(theirs: socket.socket) -> int:
    theirs.set_inheritable(True)
    # subprocess alone would take 15 ms to import.
    return os.posix_spawn(
        sys.executable,
        [*command(os.getpid(), theirs.fileno()), ""],
        _environment(),
        file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)],
    )


def _environment() -> dict[str, str]:
    # A BLAS thread pool would not survive the fork of a worker, and nothing multiplies large matrices with it.
    one_thread = {"OPENBLAS_NUM_THREADS": "1"}
    return one_thread | {name: value for name, value in os.environ.items() if name not in SECRETS}
