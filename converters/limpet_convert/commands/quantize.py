"""``limpet-convert quantize``: all variants in the project file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet_convert import project
from limpet_convert.commands import _shared

if TYPE_CHECKING:
    import argparse

HELP = "Calibrate, and make the variants of the project"
GROUP = "steps"
EXAMPLES = (("limpet-convert quantize", "Make the variants that convert.toml names."),)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    _shared.add_project(parser)


def main(arguments: argparse.Namespace) -> int:
    """Print the path and size of each variant."""
    wanted = project.read(arguments.project)
    conversion = _shared.conversion(wanted, arguments.out)
    for variant in dict.fromkeys([*wanted.quantize.variants, wanted.bundle.variant]):
        path = conversion.variant(variant)
        print(f"{path}: {path.stat().st_size:,} B, {path.stat().st_size / len(conversion.model):.3f} of float")
    return 0
