"""The command line: ``limpet COMMAND``, where a command is a module of ``limpet.commands``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from limpet import command_line, commands

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.fork.launch import ForkServerProcess


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit status, see ``limpet.command_line``."""
    command_line.open_missing_streams()
    argv = list(sys.argv[1:] if arguments is None else arguments)
    if argv[:1] != ["run"]:
        return command_line.run(commands, argv, launched=None)
    launched = _launch()
    from limpet.device import log_socket

    try:
        return command_line.run(commands, argv, launched=launched)
    finally:
        log_socket.close()


def _launch() -> ForkServerProcess:
    """Start the fork server, which takes longest to load, with no more imported than both processes need."""
    import signal

    from limpet import deferred

    # It would end this process. The supervisor takes it once it can.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    deferred.save_memory()
    from limpet import config  # noqa: F401 - once for both, in memory that they share
    from limpet.device import (
        log_socket,
        logs,  # noqa: F401 - once for both, in memory that they share
    )
    from limpet.fork.launch import ForkServerProcess
    from limpet.wire import (
        channel,  # noqa: F401 - once for both, in memory that they share
        fork_records,  # noqa: F401 - once for both, in memory that they share
    )

    log_socket.create()
    return ForkServerProcess(fork=True)
