"""``limpet check``: find all mistakes in a configuration before the daemon starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from limpet import config
from limpet.doctor.check import Findings, PipelineFound, check_file
from limpet.errors import ConfigFileError, Problem
from limpet.untrusted import printable

if TYPE_CHECKING:
    import argparse


HELP = "Check a configuration and its models"
GROUP = "start"
EXAMPLES = (
    ("limpet check", "Check the usual configuration file."),
    ("limpet check site.toml", "Check another file."),
    ("limpet check --json", "Print problems and pipelines as JSON."),
)


class ProblemReport(msgspec.Struct, frozen=True, kw_only=True):
    """A problem. ``line`` and ``column`` count characters from 1, or are null if the file cannot be read.

    ``path`` has the keys and the numbers of list entries that lead to the place; it is empty for the whole file.
    """

    file: str
    line: int | None
    column: int | None
    path: tuple[str | int, ...]
    message: str


class CheckReport(msgspec.Struct, frozen=True, kw_only=True):
    """What ``limpet check --json`` prints. ``ok``: there are no problems. ``pipelines`` are those that can run."""

    file: str
    ok: bool
    problems: tuple[ProblemReport, ...]
    pipelines: tuple[PipelineFound, ...]
    warnings: tuple[str, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("config", type=Path, metavar="FILE", nargs="?", default=config.usual(), help=config.USUAL)
    parser.add_argument("--json", action="store_true", help="Print one JSON document.")


def main(arguments: argparse.Namespace) -> int:
    """Print what would run. ``ConfigFileError`` has all problems."""
    problems, found = check_file(arguments.config)
    if arguments.json:
        report = msgspec.to_builtins(_report(arguments.config, problems, found))
        print(json.dumps(report, indent=2))  # only ASCII, so nothing in it is an order for a terminal
        return 78 if problems else 0
    if problems:
        raise ConfigFileError(problems)
    print(printable("\n".join(found.lines)))
    return 0


def _report(path: Path, problems: list[Problem], found: Findings) -> CheckReport:
    return CheckReport(
        file=str(path),
        ok=not problems,
        problems=tuple(
            ProblemReport(
                file=problem.file,
                line=problem.line or None,
                column=problem.column or None,
                path=problem.path,
                message=problem.message,
            )
            for problem in problems
        ),
        pipelines=tuple(found.pipelines),
        warnings=tuple(found.warnings),
    )
