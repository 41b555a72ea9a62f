"""``limpet bench``: what a model costs here, alone and in a whole pipeline."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from limpet.contracts.delegate import CPU
from limpet.inference.measure import Throughput, throughput
from limpet.inference.single import plan_model
from limpet.inference.trial import refuse_crashing
from limpet.untrusted import printable

if TYPE_CHECKING:
    import argparse

HELP = "Measure a model: its runtime alone, and a whole pipeline"
GROUP = "models"
EXAMPLES = (
    ("limpet bench motion-1.limpet", "Measure on the CPU for 5 seconds."),
    ("limpet bench motion-1.limpet --delegate gpu", "Measure on another delegate."),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="A bundle (.limpet) or a .tflite file.")
    parser.add_argument(
        "--delegate", metavar="NAME", default="cpu", help="Delegate to run the model on. Default: cpu."
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="Time to measure for. Default: 5.")
    parser.add_argument("--json", action="store_true", help="Print one JSON object.")


def main(arguments: argparse.Namespace) -> int:
    """Measure on noise of the right shape."""
    with tempfile.TemporaryDirectory() as cache:
        plan = plan_model(arguments.model, None, [arguments.delegate], Path(cache))
        if plan.delegates == (CPU,):
            refuse_crashing(plan)
        measured = throughput(plan, arguments.seconds)
    print(msgspec.json.encode(measured).decode() if arguments.json else printable(_table(measured)))
    return 0


def _table(measured: Throughput) -> str:
    lines = [
        f"bare invoke      {measured.bare_us:12.2f} µs",
        f"invoke, copies   {measured.fed_us:12.2f} µs",
        f"whole pipeline   {measured.pipeline_us:12.2f} µs   {1e6 / measured.pipeline_us:,.0f} a second",
        f"throughput ratio {measured.throughput_ratio:12.3f}      median of {measured.rounds} rounds",
    ]
    lines += [f"  {stage:<15}{value:12.2f} µs" for stage, value in measured.stages_us.items() if stage != "queue"]
    return "\n".join(lines)
