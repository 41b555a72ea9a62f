"""``limpet-convert convert``: a trained model to float TFLite."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from limpet.errors import ConfigError
from limpet_convert import project, proving, sources
from limpet_convert.commands import _shared
from limpet_convert.conversion import FLOAT

if TYPE_CHECKING:
    import argparse

HELP = "Convert a trained model to float TFLite"
GROUP = "steps"
EXAMPLES = (
    ("limpet-convert convert", "Convert the model of convert.toml, and check it against the data."),
    ("limpet-convert convert motion.onnx", "Convert a model without a project."),
    ("limpet-convert convert motion.pt2 --options '{ shape = [100, 6] }'", "Pass options to the converter."),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    _shared.add_project(
        parser,
        "Project file, or a model. A model's result is written to this folder. Default: convert.toml.",
    )
    _shared.add_options(parser)
    _shared.add_json(parser)


def main(arguments: argparse.Namespace) -> int:
    """Print the path and size of the float model."""
    path = arguments.project
    if path.suffix == ".toml":
        conversion = _shared.conversion(project.read(path), arguments.output)
        made, target = conversion.model, conversion.folder / FLOAT
    else:
        made = sources.convert(path, "", _shared.options(arguments.options), Path.cwd())
        target = (arguments.output or Path()) / f"{path.stem}.tflite"
        proving.prove(made, target.name)
        if target.exists() and target.samefile(path):
            raise ConfigError([f"{target}: would be written over itself; say --output FOLDER"])
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(made)
    _shared.emit(arguments, {"model": target, "bytes": len(made)}, [f"{target}: {len(made):,} B"])
    return 0
