"""``limpet run``: the daemon."""

from __future__ import annotations

import logging
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from limpet import config
from limpet.device import logs
from limpet.supervision.starting import supervise
from limpet.supervision.supervisor import Attendance
from limpet.terminal import can_draw, is_terminal
from limpet.untrusted import printable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from limpet.contracts.messages import State
    from limpet.delivery.monitor import Monitor

log = logging.getLogger(__name__)

HELP = "Run the pipelines of a configuration"
GROUP = "start"
EXAMPLES = (
    ("limpet run", "Run the usual configuration file until Ctrl-C, or until its recordings end."),
    ("limpet run site.toml --log-level debug", "Run another file and log more."),
    ("limpet run --once --print", "Run recordings, print each result as JSON, and end."),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("config", type=Path, metavar="FILE", nargs="?", default=config.usual(), help=config.USUAL)
    parser.add_argument(
        "--log-level",
        type=str.upper,
        default="INFO",
        choices=["DEBUG", "INFO", "WARNING", "ERROR"],
        help="Lowest level that is logged. Default: INFO.",
    )
    parser.add_argument(
        "--print", action="store_true", help="Print each result as a line of JSON. The log is on standard error."
    )
    parser.add_argument(
        "--once",
        action="store_true",
        help="End when all pipelines have finished or failed. Exit status 1 if one failed. "
        "Default: on a terminal, end when all have finished; as a service, never.",
    )


def main(arguments: argparse.Namespace) -> int:
    """Run the supervisor. Its fork server was started already, see ``limpet.cli``.

    Return 1 if a pipeline failed and ``--once`` is set. ``OSError`` if the printed results could not be
    written, such as ``BrokenPipeError`` if their reader has ended.
    """
    logs.configure(arguments.log_level)
    threading.excepthook = _give_up
    view = _View(print_results=arguments.print)
    failed = supervise(arguments.config, arguments.launched, Attendance(_ends(once=arguments.once), view.open))
    if error := view.error():
        raise error
    if not arguments.once:
        return 0
    for pipeline, reason in failed.items():
        print(printable(f"limpet: the pipeline {pipeline!r} failed: {reason}"), file=sys.stderr)
    return 1 if failed else 0


def _ends(*, once: bool) -> tuple[State, ...]:
    """Return the states in which a pipeline is over: if all are, the daemon ends."""
    if once:
        return ("finished", "failed")
    return ("finished",) if is_terminal(sys.stdout) or is_terminal(sys.stderr) else ()


class _View:
    """What a person sees besides the log: results, or on a terminal a line about all pipelines, or nothing."""

    def __init__(self, *, print_results: bool) -> None:
        self._prints = print_results
        self.error: Callable[[], OSError | None] = lambda: None

    def open(self, monitor: Monitor, stop: Callable[[], None]) -> AbstractContextManager[object] | None:
        """Begin to show what the monitor shows. ``stop`` ends the daemon."""
        if self._prints:
            from limpet.watch.console import ResultPrinter

            printer = ResultPrinter(monitor, sys.stdout.fileno(), stop)
            self.error = lambda: printer.error
            return printer
        if can_draw(sys.stdout):
            from limpet.watch.console import StatusLine

            return StatusLine(monitor, sys.stdout.fileno())
        return None


def _give_up(failed: threading.ExceptHookArgs) -> None:
    """End the daemon when a reporter's thread has a bug, so that the service manager starts it again.

    It would go on and report nothing. Accepted messages survive this like any other sudden end. An orderly end
    could wait without end for the thread that has ended.
    """
    name = failed.thread.name if failed.thread else "a thread"
    value = failed.exc_value
    trace = (failed.exc_type, value, failed.exc_traceback) if value else None
    log.critical("the thread %r has a bug; the daemon ends", name, exc_info=trace)
    logging.shutdown()
    os._exit(1)
