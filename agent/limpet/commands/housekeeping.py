"""``limpet housekeeping``: keeps the state directory within its bounds; run once a day beside the daemon."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from limpet import config
from limpet.deploy.housekeeping import delete, waste
from limpet.errors import LimpetError

if TYPE_CHECKING:
    import argparse

HELP = "delete bundles beyond the store's budget, and what was unpacked from those that nothing names"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("config", type=Path, nargs="?", default=config.usual(), help=config.USUAL)


def main(arguments: argparse.Namespace) -> int:
    """Delete and say what. ``LimpetError`` if something is left that should not be."""
    wanted = config.read(arguments.config)
    refused = []
    for file in waste(wanted, time.time()):
        try:
            delete(file.path)
        except OSError as error:
            refused.append(f"{file.path}: {error.strerror}")
        else:
            print(f"{file.path}: deleted, {file.size} bytes: {file.reason}")
    if refused:
        raise LimpetError("; ".join(refused))
    return 0
