"""``limpet-convert convert``: a trained model to float TFLite."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet_convert import project
from limpet_convert.commands import _shared
from limpet_convert.steps import FLOAT

if TYPE_CHECKING:
    import argparse

HELP = "turn the trained model into float TFLite, and look it over against the data and the labels"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    _shared.add_project(parser)


def main(arguments: argparse.Namespace) -> int:
    """Print where it is and how large."""
    way = _shared.way(project.read(arguments.project), arguments.out)
    print(f"{way.folder / FLOAT}: {len(way.model):,} B")
    return 0
