"""``limpet run``: the daemon."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from limpet.device import logs
from limpet.supervision.supervisor import supervise

if TYPE_CHECKING:
    import argparse

log = logging.getLogger(__name__)

HELP = "Run the pipelines of a configuration"
GROUP = "start"
EXAMPLES = (
    ("limpet run limpet.toml", "Run until Ctrl-C."),
    ("limpet run limpet.toml --log-level DEBUG", "Log more."),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("config", type=Path, metavar="FILE", help="Configuration file (TOML).")
    parser.add_argument(
        "--log-level",
        default="INFO",
        choices=["DEBUG", "INFO", "WARNING", "ERROR"],
        help="Lowest level that is logged. Default: INFO.",
    )


def main(arguments: argparse.Namespace) -> int:
    """Run the supervisor. Its fork server was started already, see ``limpet.cli``."""
    logs.configure(arguments.log_level)
    threading.excepthook = _give_up
    supervise(arguments.config, arguments.launched)
    return 0


def _give_up(failed: threading.ExceptHookArgs) -> None:
    """End the daemon when a reporter's thread has a bug, for the service manager to start it anew.

    It would go on and report nothing. What it has accepted survives this like any other sudden end; an orderly one
    could wait for ever for the thread that is no more.
    """
    name = failed.thread.name if failed.thread else "a thread"
    value = failed.exc_value
    trace = (failed.exc_type, value, failed.exc_traceback) if value else None
    log.critical("the thread %r has a bug; the daemon ends", name, exc_info=trace)
    logging.shutdown()
    os._exit(1)
