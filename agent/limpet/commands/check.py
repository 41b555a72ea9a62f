"""``limpet check``: find all mistakes in a configuration before the daemon starts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from limpet import config
from limpet.doctor.check import inspect
from limpet.errors import ConfigError
from limpet.models import pins
from limpet.untrusted import printable

if TYPE_CHECKING:
    import argparse


HELP = "Check a configuration and its models"
GROUP = "start"
EXAMPLES = (
    ("limpet check", "Check the usual configuration file."),
    ("limpet check site.toml", "Check another file."),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("config", type=Path, metavar="FILE", nargs="?", default=config.usual(), help=config.USUAL)


def main(arguments: argparse.Namespace) -> int:
    """Print what would run. ``ConfigError`` has all problems."""
    wanted = pins.read_config(arguments.config)
    problems, lines = inspect(wanted)
    if problems:
        raise ConfigError(problems)
    print(printable("\n".join(lines)))
    return 0
