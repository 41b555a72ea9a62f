"""Starting the fork server. Imports next to nothing, so that numpy loads there while the supervisor gets ready."""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import suppress

SECRETS = ("CREDENTIALS_DIRECTORY",)
"""Environment variables that lead to secrets: no worker sees them."""


class ForkServerProcess:
    """The fork server and this end of the socket to it."""

    def __init__(self) -> None:
        self.socket, theirs = socket.socketpair()
        theirs.set_inheritable(True)
        environment = {key: value for key, value in os.environ.items() if key not in SECRETS}
        # A BLAS thread pool would not survive the fork, and nothing here multiplies large matrices with it.
        environment.setdefault("OPENBLAS_NUM_THREADS", "1")
        with theirs:
            # subprocess alone would take 15 ms to import.
            self.pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-m", "limpet.forkserver", str(os.getpid()), str(theirs.fileno())],
                environment,
                file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)],
            )

    def close(self) -> None:
        """End the fork server, and with it every worker."""
        if self.socket.fileno() < 0:
            return
        self.socket.close()
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
