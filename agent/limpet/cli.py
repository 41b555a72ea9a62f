"""The command line: ``limpet COMMAND``, where a command is a module of ``limpet.commands``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from limpet import __version__
from limpet.errors import ConfigError, LimpetError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from limpet.processes.launch import ForkServerProcess

EX_CONFIG = 78


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Errors that a person can mend are one line each on stderr.

    Returns the exit status: 78 where the configuration cannot be used, 1 for other errors.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    launched = _launch() if given[:1] == ["run"] else None
    try:
        parsed = _parser(given).parse_args(given)
        parsed.launched = launched
        status: int = parsed.main(parsed)
    except ConfigError as error:
        for problem in error.problems:
            print(f"limpet: {problem}", file=sys.stderr)
        return EX_CONFIG
    except LimpetError as error:
        print(f"limpet: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def _launch() -> ForkServerProcess:
    """Start the fork server, which takes longest to load, with no more imported than both processes need."""
    from limpet import config, records  # noqa: F401 - once for both, in memory that they share
    from limpet.device import logs  # noqa: F401 - once for both, in memory that they share
    from limpet.processes import channel  # noqa: F401 - once for both, in memory that they share
    from limpet.processes.launch import ForkServerProcess

    return ForkServerProcess(fork=True)


def _parser(given: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser; only the command that was given is imported, so that each starts fast."""
    import argparse
    import importlib
    import pkgutil

    from limpet import commands

    parser = argparse.ArgumentParser(prog="limpet", description="On-device inference agent.")
    parser.add_argument("--version", action="version", version=f"limpet {__version__}")
    known = sorted(module.name for module in pkgutil.iter_modules(commands.__path__))
    wanted = [given[0]] if given and given[0] in known else known
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in wanted:
        command: Any = importlib.import_module(f"limpet.commands.{name}")
        subparser = subparsers.add_parser(name, help=command.HELP, description=command.HELP)
        command.add_arguments(subparser)
        subparser.set_defaults(main=command.main)
    return parser
