"""``limpet housekeeping``: keeps the state directory within its bounds; run once a day beside the daemon."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from limpet import config
from limpet.device import state_files
from limpet.errors import DeployError, LimpetError
from limpet.models import deployed
from limpet.models.housekeeping import File, links, waste
from limpet.untrusted import printable

if TYPE_CHECKING:
    import argparse

HELP = "Delete old bundles that no pipeline uses"
GROUP = "service"
EXAMPLES = (("limpet housekeeping", "Delete bundles beyond models_bytes, oldest first."),)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("config", type=Path, metavar="FILE", nargs="?", default=config.usual(), help=config.USUAL)


def main(arguments: argparse.Namespace) -> int:
    """Delete, and print what was deleted. ``LimpetError`` if something could not be deleted."""
    wanted = deployed.read_config(arguments.config)
    refused = [f"{link} is a symbolic link; nothing is deleted through it" for link in links(wanted)]
    found: list[File] = []
    try:
        found.extend(waste(wanted, time.time()))
    except DeployError as error:
        refused.append(str(error))
    state_files.become_owner(wanted.device.state)
    for file in found:
        try:
            state_files.remove(file.path)
        except OSError as error:
            refused.append(f"{file.path}: {error.strerror}")
        else:
            print(printable(f"{file.path}: deleted, {file.size} bytes: {file.reason}"))
    if refused:
        raise LimpetError("; ".join(refused))
    return 0
