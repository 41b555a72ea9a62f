"""``limpet-convert run``: all steps of a project file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet_convert import bundling, package, project
from limpet_convert.commands import _shared

if TYPE_CHECKING:
    import argparse

HELP = "Convert, quantize, verify and package in one go"
GROUP = "start"
EXAMPLES = (
    ("limpet-convert run", "Run all steps of convert.toml."),
    ("limpet-convert run motion/convert.toml --out build/motion", "Run another project."),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    _shared.add_project(parser)


def main(arguments: argparse.Namespace) -> int:
    """Return 1 if the packaged variant misses a threshold. Then no bundle is written."""
    wanted = project.read(arguments.project)
    signer = bundling.signer(wanted)  # A missing key is an error before the work begins.
    conversion = _shared.conversion(wanted, arguments.out)
    passed = conversion.verify()
    _shared.print_comparisons(conversion.comparisons)
    _shared.print_faulty_layer(conversion.diagnosed)
    print(f"report: {conversion.folder / 'report.md'}")
    if not passed:
        return 1
    manifest = conversion.package(signer)
    print(f"bundle: {conversion.folder / package.file_name(manifest)}")
    return 0
