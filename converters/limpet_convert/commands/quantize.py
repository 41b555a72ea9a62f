"""``limpet-convert quantize``: every variant that the project file asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet_convert import project
from limpet_convert.commands import _shared

if TYPE_CHECKING:
    import argparse

HELP = "calibrate and make the variants that the project file asks for"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    _shared.add_project(parser)


def main(arguments: argparse.Namespace) -> int:
    """Print where they are and how large."""
    wanted = project.read(arguments.project)
    conversion = _shared.conversion(wanted, arguments.out)
    for variant in dict.fromkeys([*wanted.quantize.variants, wanted.bundle.variant]):
        path = conversion.variant(variant)
        print(f"{path}: {path.stat().st_size:,} B, {path.stat().st_size / len(conversion.model):.3f} of float")
    return 0
