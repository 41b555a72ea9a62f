"""``limpet-convert run``: the whole way of a project file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet_convert import bundling, package, project
from limpet_convert.commands import _shared

if TYPE_CHECKING:
    import argparse

HELP = "convert, quantize, verify and package, as the project file says"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    _shared.add_project(parser)


def main(arguments: argparse.Namespace) -> int:
    """Return 1 where the packaged variant misses a threshold: then no bundle is written."""
    wanted = project.read(arguments.project)
    signer = bundling.signer(wanted)  # A key that is not there is told of now, not after all the work.
    conversion = _shared.conversion(wanted, arguments.out)
    passed = conversion.verify()
    _shared.tell(conversion.comparisons)
    _shared.tell_guilty(conversion.blamed)
    print(f"report: {conversion.folder / 'report.md'}")
    if not passed:
        return 1
    manifest = conversion.package(signer)
    print(f"bundle: {conversion.folder / package.file_name(manifest)}")
    return 0
