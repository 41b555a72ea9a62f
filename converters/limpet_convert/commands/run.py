"""``limpet-convert run``: the whole way of a project file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from limpet_convert import package, project
from limpet_convert.commands import _shared

if TYPE_CHECKING:
    import argparse

HELP = "convert, quantize, verify and package, as the project file says"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    _shared.add_project(parser)


def main(arguments: argparse.Namespace) -> int:
    """Return 1 where the packaged variant misses a threshold: then no bundle is written."""
    way = _shared.way(project.read(arguments.project), arguments.out)
    passed = way.verify()
    _shared.tell(way.comparisons)
    _shared.tell_guilty(way.blamed)
    print(f"report: {way.folder / 'report.md'}")
    if not passed:
        return 1
    manifest = way.package()
    print(f"bundle: {Path(way.folder) / package.file_name(manifest)}")
    return 0
