"""A command line ``PROGRAM COMMAND ...``, where a command is a module of a package, found by its name.

``limpet.command_parser`` says what the package and the modules declare.
"""

from __future__ import annotations

import errno
import os
import select
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from limpet import __version__
from limpet.errors import ConfigError, LimpetError, UsageError
from limpet.module_names import module_names
from limpet.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

EX_USAGE = 2
"""As of every program that parses its command line with argparse."""
EX_CONFIG = 78
EX_CLOSED = 141
"""The exit status that a shell reports for a program that SIGPIPE ended."""
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
"""Errors of a disk that is full or broken, or of a terminal that is gone."""


def run(commands: Any, argv: Sequence[str], **defaults: Any) -> int:
    """Run a command of a package. Errors that a user can correct are one line each on stderr.

    ``defaults`` are set in the arguments that the command gets. Returns the exit status: 2 if the command line is
    wrong, 78 if a configuration cannot be used, 1 for other errors. It is 130 if the user interrupted it, 141 if
    the program that reads its output has ended.
    """
    program = commands.PROGRAM
    try:
        status = _run(commands, argv, defaults)
        sys.stdout.flush()
    except UsageError as error:
        print(printable(str(error)), file=sys.stderr)
        return EX_USAGE
    except ConfigError as error:
        from limpet.problems.report import report
        from limpet.terminal import takes_colour

        print(report(program, error, colour=takes_colour(sys.stderr)), file=sys.stderr)
        return EX_CONFIG
    except LimpetError as error:
        print(printable(f"{program}: {error}"), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        status = _cannot_write(program, error)
    return status


def open_missing_streams() -> None:
    """Open ``/dev/null`` as each standard stream that was closed, as by ``>&-``.

    Otherwise the next file that is opened would get its number, and what is printed.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
    sys.stdin = sys.stdin or os.fdopen(os.open(os.devnull, os.O_RDONLY), encoding="utf-8")
    sys.stdout = sys.stdout or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")
    sys.stderr = sys.stderr or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")


def _cannot_write(program: str, error: OSError) -> int:
    """Return the exit status if a disk is full, or the reader of the output has ended. Raises any other error."""
    if isinstance(error, BrokenPipeError) and _reader_is_gone():  # as of `limpet infer ... | head`
        status = EX_CLOSED
    elif error.errno in _DISK:
        status = 1
        where = f"{error.filename}: " if error.filename else ""
        with suppress(OSError):
            print(printable(f"{program}: {where}{error.strerror}"), file=sys.stderr)
    else:
        raise error
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it once more at its end.
    return status


def _reader_is_gone() -> bool:
    """Whether standard output is a pipe that no program reads any longer."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return bool(poll.poll(0))


def _run(commands: Any, argv: Sequence[str], defaults: Mapping[str, Any]) -> int:
    """Run a command. Only its module is imported, so that each starts fast."""
    name = argv[0] if argv else ""
    if name in module_names(commands):
        from limpet import command_parser

        parsed = command_parser.of_command(commands, name).parse_args(argv[1:])
        vars(parsed).update(defaults)
        status: int = parsed.main(parsed)
        return status
    if name == "--version":
        print(f"{commands.PROGRAM} {__version__}")
        return 0
    from limpet import command_parser

    if name and name not in {"-h", "--help"}:
        raise command_parser.unknown_command(commands, name)
    print(command_parser.overview(commands), end="", file=sys.stdout if name else sys.stderr)
    return 0 if name else EX_USAGE
