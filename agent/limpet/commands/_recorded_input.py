"""Options of the commands that run a model over recordings, and what they stand for."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from limpet import option_values
from limpet.config import PipelineConfig
from limpet.option_values import filled

if TYPE_CHECKING:
    from pathlib import Path


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare how a recording is read, and what stands in for the model's own settings."""
    add = parser.add_argument
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


def source(arguments: argparse.Namespace, file: Path, replay: Any) -> Any:
    """Return the options of the source ``replay``. ``ConfigError``."""
    wanted = {
        "rate": arguments.rate,
        "channels": arguments.channels and [name.strip() for name in arguments.channels.split(",")],
        "time": arguments.time,
        "delimiter": arguments.delimiter,
        "decimal": arguments.decimal,
    }
    options = {"path": str(file.absolute()), "speed": "flat-out"}
    options |= {key: value for key, value in wanted.items() if value is not None}
    return filled(replay.Config, options)


def pipeline(arguments: argparse.Namespace) -> PipelineConfig:
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
