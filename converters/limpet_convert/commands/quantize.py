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
    _shared.add_json(parser)


def main(arguments: argparse.Namespace) -> int:
    """Print the path and size of each variant."""
    wanted = project.read(arguments.project)
    conversion = _shared.conversion(wanted, arguments.output)
    variants = dict.fromkeys([*wanted.quantize.variants, wanted.bundle.variant])
    made = {variant: conversion.variant(variant) for variant in variants}
    whole = len(conversion.model)
    sizes = {variant: path.stat().st_size for variant, path in made.items()}
    found = [
        {"variant": variant, "model": path, "bytes": sizes[variant], "of_float": sizes[variant] / whole}
        for variant, path in made.items()
    ]
    lines = [f"{one['model']}: {one['bytes']:,} B, {one['of_float']:.3f} of float" for one in found]
    _shared.emit(arguments, found, lines)
    return 0
