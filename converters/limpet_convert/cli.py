"""The command line: ``limpet-convert COMMAND``, where a command is a module of ``limpet_convert.commands``."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from typing import TYPE_CHECKING, Any

from limpet import __version__
from limpet.errors import ConfigError, LimpetError
from limpet_convert import commands

if TYPE_CHECKING:
    from collections.abc import Sequence

EX_CONFIG = 78


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Errors that a person can mend are one line each on stderr.

    Returns the exit status: 78 where the project file cannot be used, 1 for other errors and for a model that
    does not keep its thresholds.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        parsed = _parser(given).parse_args(given)
        status: int = parsed.main(parsed)
    except ConfigError as error:
        for problem in error.problems:
            print(f"limpet-convert: {problem}", file=sys.stderr)
        return EX_CONFIG
    except LimpetError as error:
        print(f"limpet-convert: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def _parser(given: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser; only the command that was given is imported."""
    description = "From a trained model to a small bundle that provably gives the same answers."
    parser = argparse.ArgumentParser(prog="limpet-convert", description=description)
    parser.add_argument("--version", action="version", version=f"limpet-convert {__version__}")
    known = sorted(m.name for m in pkgutil.iter_modules(commands.__path__) if not m.name.startswith("_"))
    wanted = [given[0]] if given and given[0] in known else known
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in wanted:
        command: Any = importlib.import_module(f"limpet_convert.commands.{name}")
        subparser = subparsers.add_parser(name, help=command.HELP, description=command.HELP)
        command.add_arguments(subparser)
        subparser.set_defaults(main=command.main)
    return parser
