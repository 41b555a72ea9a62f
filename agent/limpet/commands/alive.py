"""``limpet alive``: for the health checks of container runtimes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet.device import directories, liveness
from limpet.errors import LimpetError

if TYPE_CHECKING:
    import argparse

HELP = "tell whether the daemon with this $RUNTIME_DIRECTORY makes progress; 1 if it does not"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--within", type=float, default=30.0, help="seconds that it may have been silent (30)")
    parser.add_argument("--ready", action="store_true", help="every pipeline must run, too, or have failed")


def main(arguments: argparse.Namespace) -> int:
    """Print its last sign of life. ``LimpetError`` says what is wrong."""
    directory = directories.runtime()
    if directory is None:
        raise LimpetError("RUNTIME_DIRECTORY is not set; the daemon and this command need the same one")
    print(liveness.look(directory, arguments.within, ready=arguments.ready))
    return 0
