"""``limpet run``: the daemon."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from limpet import logs
from limpet.supervisor import supervise

if TYPE_CHECKING:
    import argparse

HELP = "run the pipelines of a configuration until SIGTERM; SIGHUP reads it again"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("config", type=Path, help="configuration file (TOML)")
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])


def main(arguments: argparse.Namespace) -> int:
    """Run the supervisor. Its fork server was started already, see ``limpet.cli``."""
    logs.configure(arguments.log_level)
    supervise(arguments.config, arguments.launched)
    return 0
