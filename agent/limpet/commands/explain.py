"""``limpet explain``: which parts of a recorded window a model's answer hangs on."""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import msgspec
import numpy as np

from limpet import plugins
from limpet.commands import _explanation_svg, _explanation_text, _recorded_input
from limpet.contracts.delegate import CPU
from limpet.contracts.explanation import USUAL_INVOKES, Baseline, By, Explained, Method, Question
from limpet.errors import ConfigError, LimpetError
from limpet.explanation.explaining import explain
from limpet.inference.pipeline import Pipeline
from limpet.inference.probe import Probe, Stretch
from limpet.inference.single import plan_model
from limpet.inference.trial import refuse_crashing
from limpet.option_values import count, filled
from limpet.untrusted import printable
from limpet.wire.border import cleaned_explanation

if TYPE_CHECKING:
    import argparse

    from limpet.contracts.explanation import Explanation
    from limpet.inference.plan import PipelinePlan
    from limpet.inference.probe import Taken
    from limpet.wire.records import Result

HELP = "Show which parts of a window an answer hangs on"
GROUP = "models"
EXAMPLES = (
    ("limpet explain motion-1.limpet walk.csv", "Explain the first window of a recording."),
    ("limpet explain motion-1.limpet walk.csv --sample 1279 --by cells", "Explain the window that ends there."),
    ("limpet explain people-1.limpet door.jpg --method rise --plot why.svg", "Draw a heat map over a picture."),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add = parser.add_argument
    add("model", type=Path, metavar="MODEL", help="A bundle (.limpet) or a .tflite file.")
    add("input", type=Path, metavar="FILE", help="A recording, sound, video or picture, as for limpet infer.")
    add(
        "--sample",
        type=int,
        metavar="N",
        help="Explain the window that ends with this sample or the next one after it. Default: the first window.",
    )
    add(
        "--by",
        choices=get_args(By),
        metavar="PARTS",
        help="channels, times, cells (both), bands of frequency, or pixels. Default: what suits the window.",
    )
    add(
        "--method",
        choices=get_args(Method),
        metavar="METHOD",
        help="shapley, occlusion or rise. Default: shapley for fewer than 32 parts, else occlusion.",
    )
    add("--label", default="", metavar="NAME", help="Class or quantity to explain. Default: the answer.")
    add(
        "--baseline",
        choices=get_args(Baseline),
        metavar="VALUE",
        help="What replaces hidden parts: typical (of the reference), mean (of the window) or zero. "
        "Default: the first of these that there is.",
    )
    add(
        "--invokes",
        type=count,
        default=USUAL_INVOKES,
        metavar="N",
        help=f"How often the model may run. Default: {USUAL_INVOKES}.",
    )
    add("--no-change", action="store_true", help="Do not look for the smallest change that gives another answer.")
    add("--json", action="store_true", help="Print the explanation as JSON. Default: as text.")
    add("--plot", type=Path, metavar="FILE", help="Draw the explanation to an .svg file, too.")
    add("--delegate", metavar="NAME", default="cpu", help="Delegate to run the model on. Default: cpu.")
    _recorded_input.add_options(parser)


def main(arguments: argparse.Namespace) -> int:
    """Explain one window, and print or draw the explanation."""
    question = _question(arguments)
    if arguments.plot is not None and arguments.plot.suffix.lower() != ".svg":
        raise ConfigError([f"--plot: {arguments.plot.name!r} does not end with .svg"])
    with tempfile.TemporaryDirectory() as cache, np.errstate(all="ignore"):
        plan, source = _planned(arguments, Path(cache))
        with Pipeline(plan) as pipeline:
            window = _window(pipeline, source, arguments)
            with Probe(pipeline, window) as probe:
                explanation = _explained(probe, question)
                if arguments.plot is not None:
                    _write(arguments.plot, _explanation_svg.svg(explanation, probe.subject))
    if arguments.json:
        print(msgspec.json.encode(_message(window.result, explanation)).decode())
    else:
        where = f"{arguments.input.name}, sample {window.result.sample}"
        print(printable("\n".join(_explanation_text.lines(where, explanation))))
    return 0


def _question(arguments: argparse.Namespace) -> Question:
    """Return the question in the options. ``ConfigError``."""
    table = {"label": arguments.label, "invokes": arguments.invokes, "change": not arguments.no_change}
    wanted = {"by": arguments.by, "method": arguments.method, "baseline": arguments.baseline}
    question: Question = filled(
        Question, table | {key: value for key, value in wanted.items() if value is not None}
    )
    return question


def _planned(arguments: argparse.Namespace, cache: Path) -> tuple[PipelinePlan, Any]:
    """Return the plan of the pipeline, and the options of the source that reads the file."""
    replay = plugins.load("sources", "replay")
    source = _recorded_input.source(arguments, arguments.input, replay)
    wanted = _recorded_input.pipeline(arguments)
    plan = plan_model(arguments.model, replay.describe(source), [arguments.delegate], cache, wanted)
    for warning in plan.warnings:
        print(printable(f"limpet: warning: {warning}"), file=sys.stderr)
    if plan.delegates == (CPU,):
        refuse_crashing(plan)
    return plan, source


def _window(pipeline: Pipeline, source: Any, arguments: argparse.Namespace) -> Taken:
    """Return the window that is wanted. ``ConfigError`` if the file has none."""
    stretch, last = Stretch(pipeline), -1
    pipeline.observe(stretch.see)
    with plugins.load("sources", "replay").open(source, Counter()) as recording:
        for samples in recording:
            for result in pipeline.feed(samples):
                last = result.sample
                wanted = stretch.full if arguments.sample is None else last >= arguments.sample
                if wanted and (found := stretch.taken()) is not None:
                    return found
    if last < 0:
        raise ConfigError([f"{arguments.input}: no window; it needs more samples. Run: limpet infer, to see why"])
    raise ConfigError([f"--sample: {arguments.sample} is after the last window, which ends with sample {last}"])


def _explained(probe: Probe, question: Question) -> Explanation:
    """Ask the model until there is an explanation. ``LimpetError`` says why there is none."""
    asking = explain(probe.subject, question)
    try:
        values = next(asking)
        while True:
            values = asking.send(probe(values))
    except StopIteration as done:
        explanation: Explanation = done.value
    except ValueError as error:
        raise LimpetError(f"the window cannot be explained: {error}") from error
    probe.see_answer(explanation.answer)
    explanation.notes += probe.notes
    return cleaned_explanation(explanation)


def _write(path: Path, text: str) -> None:
    """Write a file. ``LimpetError`` if that fails."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise LimpetError(f"--plot: {path}: {error.strerror}") from error


def _message(result: Result[Any], explanation: Explanation) -> Explained:
    time = datetime.fromtimestamp(result.wall_ns / 1e9, timezone.utc)
    return Explained(
        model=result.model, version=result.version, time=time, sample=result.sample, explanation=explanation
    )
