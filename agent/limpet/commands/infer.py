"""``limpet infer``: run a model once over a file."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from limpet import option_values, plugins
from limpet.config import PipelineConfig
from limpet.contracts.delegate import CPU
from limpet.inference import clipping
from limpet.inference.pipeline import Pipeline
from limpet.inference.single import plan_model
from limpet.inference.trial import refuse_crashing
from limpet.option_values import filled
from limpet.untrusted import printable
from limpet.worker import no_result

HELP = "Run a model over a recording (.csv, .npy, .wav)"
GROUP = "models"
EXAMPLES = (
    ("limpet infer motion-1.limpet walk.csv", "Print a result for each window."),
    ("limpet infer motion-1.limpet walk.csv --channels ax,ay,az --rate 100", "Choose the columns and the rate."),
    (
        "limpet infer keyword.tflite yes.wav --window 1s --decoder classify",
        "Set the window and the decoder of a model whose file has none.",
    ),
)

_REASONS = 3
"""How many reasons of failed windows are printed. The most frequent come first."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add = parser.add_argument
    add("model", type=Path, metavar="MODEL", help="A bundle (.limpet) or a .tflite file.")
    add("input", type=Path, metavar="RECORDING", help="A recording: .csv, .npy or .wav.")
    add("--delegate", metavar="NAME", default="cpu", help="Delegate to run the model on. Default: cpu.")
    add("--rate", type=float, metavar="HZ", help="Samples a second. Default: from the recording.")
    add("--channels", metavar="A,B", help="Columns to read, in this order. Default: all except the time.")
    add("--window", metavar="LENGTH", help="Samples (128) or time (2s, 500ms) of a window. Default: the model's.")
    add(
        "--hop",
        metavar="LENGTH",
        help="From the start of a window to the next, such as 64 or 500ms. Default: a whole window.",
    )
    add(
        "--transforms",
        metavar="TOML",
        help="""Transforms, such as '[{kind = "normalise", mean = 0.5, std = 2}]', or []. Default: the model's.""",
    )
    add(
        "--decoder",
        metavar="TOML",
        help="""Decoder: detect, or '{kind = "classify", labels = ["a", "b"]}'. Default: the model's.""",
    )
    add(
        "--inputs",
        metavar="TOML",
        help="""Channels of each input: '{a = ["ax"], h = {state = "h_out"}}'. Default: the model's.""",
    )
    add(
        "--stateful",
        action=argparse.BooleanOptionalAction,
        help="Keep the model's state from window to window, or clear it. Default: as the model says.",
    )
    add("--signature", metavar="KEY", help="Signature of the model to run. Default: its first graph.")
    add("--time", metavar="COLUMN", help="Column with the times in a .csv file. Default: detected by its name.")
    add(
        "--delimiter",
        metavar="CHARACTER",
        help="Separator of the columns in a .csv file. Default: detected.",
    )
    add(
        "--decimal",
        choices=[".", ","],
        metavar="CHARACTER",
        help="Decimal character in a .csv file. Default: detected.",
    )


def main(arguments: argparse.Namespace) -> int:
    """Print a result for each window of the recording; exit status 1 if there is none.

    A window that fails costs no other, as in the daemon.
    """
    replay = plugins.load("sources", "replay")
    recorded = _recording(arguments, replay)
    wanted = _pipeline(arguments)
    count = samples_read = 0
    dropped: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as cache, np.errstate(all="ignore"):
        plan = plan_model(arguments.model, replay.describe(recorded), [arguments.delegate], Path(cache), wanted)
        for warning in plan.warnings:
            print(printable(f"limpet: warning: {warning}"), file=sys.stderr)
        if plan.delegates == (CPU,):
            refuse_crashing(plan)
        with Pipeline(plan) as pipeline, replay.open(recorded, dropped) as recording:
            for samples in recording:
                samples_read += len(samples)
                for result in pipeline.feed(samples, lambda error: failures.update([str(error)])):
                    print(msgspec.json.encode({"sample": result.sample, "output": result.output}).decode())
                    count += 1
            in_no_window = pipeline.in_no_window
            looked, clipped = pipeline.clipping.take()
    for reason, number in failures.most_common(_REASONS):
        print(printable(f"limpet: {arguments.input}: {number:,} windows failed: {reason}"), file=sys.stderr)
    if clipped > clipping.MANY * looked:
        print(printable(f"limpet: warning: {clipping.described(clipped, looked)}"), file=sys.stderr)
    if not count:
        why = no_result.reason(plan, samples_read, in_no_window, failures.total())
        print(printable(f"limpet: {arguments.input}: {why}"), file=sys.stderr)
    if lost := ", ".join(f"{cause}: {number:,}" for cause, number in sorted(dropped.items())):
        print(printable(f"limpet: {arguments.input}: dropped samples: {lost}"), file=sys.stderr)
    return 0 if count else 1


def _recording(arguments: argparse.Namespace, replay: Any) -> Any:
    """Return the options of the source ``replay``. ``ConfigError``."""
    wanted = {
        "rate": arguments.rate,
        "channels": arguments.channels and [name.strip() for name in arguments.channels.split(",")],
        "time": arguments.time,
        "delimiter": arguments.delimiter,
        "decimal": arguments.decimal,
    }
    options = {"path": str(arguments.input.absolute()), "speed": "flat-out"}
    options |= {key: value for key, value in wanted.items() if value is not None}
    return filled(replay.Config, options)


def _pipeline(arguments: argparse.Namespace) -> PipelineConfig:
    """Return what stands in for the model's own window, transforms and decoder. ``ConfigError``."""
    table: dict[str, Any] = {"source": "samples", "model": str(arguments.model)}
    if window := option_values.window(arguments.window, arguments.hop):
        table["window"] = window
    if arguments.transforms is not None:
        table["transforms"] = option_values.toml(arguments.transforms, "--transforms")
    if arguments.inputs is not None:
        table["inputs"] = option_values.toml(arguments.inputs, "--inputs")
    if arguments.stateful is not None:
        table["stateful"] = arguments.stateful
    if arguments.signature:
        table["runtime"] = {"signature": arguments.signature}
    if arguments.decoder is not None:
        table["decoder"] = option_values.decoder(arguments.decoder)
    wanted: PipelineConfig = filled(PipelineConfig, table)
    return wanted
