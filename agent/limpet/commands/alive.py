"""``limpet alive``: for the health checks of container runtimes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet.device import directories, liveness
from limpet.errors import LimpetError

if TYPE_CHECKING:
    import argparse

HELP = "Check that the daemon makes progress, for health checks"
GROUP = "service"
EXAMPLES = (
    ("limpet alive", "Exit status 1 if the daemon of this $RUNTIME_DIRECTORY made no progress for 30 seconds."),
    ("limpet alive --ready", "Exit status 1 also while a pipeline starts, for a readiness check."),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "--within",
        type=float,
        metavar="SECONDS",
        default=30.0,
        help="Longest age of the last sign of life. Default: 30.",
    )
    parser.add_argument(
        "--ready", action="store_true", help="Exit status 1 also while a pipeline starts, for a readiness check."
    )


def main(arguments: argparse.Namespace) -> int:
    """Print the daemon's last sign of life. ``LimpetError`` if it is missing or too old."""
    directory = directories.runtime()
    if directory is None:
        raise LimpetError("RUNTIME_DIRECTORY is not set. Set it to the directory that the daemon was started with")
    print(liveness.look(directory, arguments.within, ready=arguments.ready))
    return 0
