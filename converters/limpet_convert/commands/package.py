"""``limpet-convert package``: the bundle, from what was verified."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet_convert import bundling, package, project
from limpet_convert.commands import _shared

if TYPE_CHECKING:
    import argparse

HELP = "make the packaged variant and write the bundle, signed if the project file names a key"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    _shared.add_project(parser)


def main(arguments: argparse.Namespace) -> int:
    """Write it whatever it measures: the figures are in it. ``run`` writes it only if it passes."""
    wanted = project.read(arguments.project)
    signer = bundling.signer(wanted)
    way = _shared.way(wanted, arguments.out)
    way.variant(wanted.bundle.variant)
    manifest = way.package(signer)
    print(f"bundle: {way.folder / package.file_name(manifest)}")
    if manifest.signature_key:
        print(f"signed by: {manifest.signature_key}")
    return 0
