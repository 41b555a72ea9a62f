"""A command line ``PROGRAM COMMAND ...``, where a command is a module of a package, found by its name.

Such a module has ``HELP``, ``add_arguments(parser)`` and ``main(arguments)``, which returns the exit status.
"""

from __future__ import annotations

import os
import select
import sys
from typing import TYPE_CHECKING, Any

from limpet import __version__
from limpet.errors import ConfigError, LimpetError
from limpet.module_names import module_names
from limpet.untrusted import printable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from types import ModuleType

EX_CONFIG = 78
EX_CLOSED = 141
"""What a shell says of a program that SIGPIPE ended."""


def run(program: str, description: str, commands: ModuleType, argv: Sequence[str], **defaults: Any) -> int:
    """Run a command. Errors that a user can correct are one line each on stderr.

    ``defaults`` are set in the arguments that the command gets. Returns the exit status: 78 where a configuration
    cannot be used, 130 where the user interrupted it, 141 where the reader of its output is gone, 1 for others.
    """
    try:
        parsed = _parser(program, description, commands, argv).parse_args(argv)
        vars(parsed).update(defaults)
        status: int = parsed.main(parsed)
        sys.stdout.flush()
    except ConfigError as error:
        for problem in error.problems:
            print(printable(f"{program}: {problem}"), file=sys.stderr)
        return EX_CONFIG
    except LimpetError as error:
        print(printable(f"{program}: {error}"), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # As of `limpet infer ... | head`.
        if not _reader_is_gone():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it once more at its end.
        return EX_CLOSED
    return status


def _reader_is_gone() -> bool:
    """Whether standard output is a pipe that no program reads any longer."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return bool(poll.poll(0))


def _parser(program: str, description: str, commands: ModuleType, argv: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser. Only the module of the wanted command is imported, so that each starts fast."""
    import argparse
    import importlib

    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("--version", action="version", version=f"{program} {__version__}")
    known = module_names(commands)
    wanted = [argv[0]] if argv and argv[0] in known else known
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in wanted:
        command: Any = importlib.import_module(f"{commands.__name__}.{name}")
        subparser = subparsers.add_parser(name, help=command.HELP, description=command.HELP)
        command.add_arguments(subparser)
        subparser.set_defaults(main=command.main)
    return parser
