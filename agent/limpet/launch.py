"""Starting the fork server. Imports next to nothing, so that numpy loads there while the supervisor gets ready."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

SECRETS = ("CREDENTIALS_DIRECTORY",)
"""Environment variables that lead to secrets: no worker sees them."""


class ForkServerProcess:
    """The fork server and this end of the socket to it."""

    def __init__(self) -> None:
        self.socket, theirs = socket.socketpair()
        environment = {key: value for key, value in os.environ.items() if key not in SECRETS}
        # A BLAS thread pool would not survive the fork, and nothing here multiplies large matrices with it.
        environment.setdefault("OPENBLAS_NUM_THREADS", "1")
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "limpet.forkserver", str(os.getpid()), str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                env=environment,
                stdin=subprocess.DEVNULL,
            )

    def close(self) -> None:
        """End the fork server, and with it every worker."""
        self.socket.close()
        self.process.kill()
        self.process.wait()
