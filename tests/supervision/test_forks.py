"""The supervisor's end of the fork server."""

from __future__ import annotations

import os
import signal
import socket
from select import select

import pytest

from limpet.fork.launch import ForkServerProcess
from limpet.supervision.forks import Forks
from limpet.wire.fork_records import Serve
from support.broker import wait_until


def test_a_fork_server_that_was_killed_raises_only_where_a_process_is_requested() -> None:
    """It may be killed at any instant, also before the daemon has said a word to it."""
    launched = ForkServerProcess()
    forks = Forks(launched)
    assert forks.pid is not None
    os.kill(forks.pid, signal.SIGKILL)
    wait_until(lambda: select([launched.socket], [], [], 0)[0])  # its end is closed
    forks.preload(["limpet.sources.replay"])
    forks.wake()
    forks.rest(None)
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(OSError, match="Broken pipe"):
        forks.fork("fast", Serve(), theirs)
    forks.close()
