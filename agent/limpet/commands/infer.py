"""``limpet infer``: run a model once over a file."""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from limpet import plugin
from limpet.config import fill
from limpet.errors import ConfigError
from limpet.inference.pipeline import Pipeline
from limpet.inference.single import plan_model

if TYPE_CHECKING:
    import argparse

HELP = "run a model over a recording (.csv, .npy, .wav) and print the results, one JSON object a line"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("model", type=Path, help="a bundle (.limpet) or a bare .tflite")
    parser.add_argument("input", type=Path, help="a recording")
    parser.add_argument("--delegate", default="cpu", help="where to run it (default: cpu)")


def main(arguments: argparse.Namespace) -> int:
    """Print a result for each window of the recording; 1 if it is too short for one."""
    replay = plugin.load("sources", "replay")
    problems: list[str] = []
    options = {"path": str(arguments.input.absolute()), "speed": "flat-out", "rate": 1.0}
    config = fill(replay.Config, options, "input", Path.cwd(), problems)
    if config is None:
        raise ConfigError(problems)
    count = 0
    with tempfile.TemporaryDirectory() as cache:
        plan = plan_model(arguments.model, replay.describe(config), [arguments.delegate], Path(cache))
        with Pipeline(plan) as pipeline, replay.open(config, Counter()) as recording:
            for samples in recording:
                for result in pipeline.feed(samples):
                    print(msgspec.json.encode({"sample": result.sample, "output": result.output}).decode())
                    count += 1
    if not count:
        print(f"limpet: {arguments.input}: too short for a window of {plan.window}", file=sys.stderr)
    return 0 if count else 1
