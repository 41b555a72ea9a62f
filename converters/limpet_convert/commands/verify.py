"""``limpet-convert verify``: is the quantized model still the same model? Report and exit status."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from limpet_convert import compare, data, pairing, project
from limpet_convert.commands import _shared

if TYPE_CHECKING:
    import argparse

HELP = "compare the variants with float on held-back data, layer by layer; exit status 1 if a threshold is missed"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    _shared.add_project(parser)
    parser.add_argument(
        "--models",
        type=Path,
        nargs=2,
        metavar=("FLOAT", "OTHER"),
        help="compare these two model files, of any format, on the project's held-back data instead",
    )


def main(arguments: argparse.Namespace) -> int:
    """Return 0 where the packaged variant keeps every threshold."""
    wanted = project.read(arguments.project)
    if arguments.models:
        windows = data.held_back(wanted)
        exact, other = (compare.run(path, windows.values) for path in arguments.models)
        other = replace(other, values=pairing.ordered(exact.values, other.values))
        found = compare.compare(arguments.models[1].name, exact, other, windows, wanted.bundle)
        comparisons, passed = [found], not compare.judged(found, wanted.verify).failures
    else:
        way = _shared.way(wanted, arguments.out)
        passed, comparisons = way.verify(), way.comparisons
        print(f"report: {way.folder / 'report.md'}")
    _shared.tell(comparisons)
    return 0 if passed else 1
