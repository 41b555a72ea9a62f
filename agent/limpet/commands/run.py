"""``limpet run``: the daemon."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from limpet import launch, logs

if TYPE_CHECKING:
    import argparse

HELP = "run the pipelines of a configuration until SIGTERM; SIGHUP reads it again"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("config", type=Path, help="configuration file (TOML)")
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])


def main(arguments: argparse.Namespace) -> int:
    """Run the supervisor. The fork server goes first: it takes longest to load."""
    launched = launch.ForkServerProcess()
    logs.configure(arguments.log_level)
    from limpet.supervisor import supervise

    supervise(arguments.config, launched)
    return 0
