"""``limpet infer``: run a model once over a file."""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from limpet import plugins
from limpet.commands import _recorded_input
from limpet.contracts.delegate import CPU
from limpet.errors import ConfigError
from limpet.inference import clipping
from limpet.inference.pipeline import Pipeline
from limpet.inference.single import plan_model
from limpet.inference.trial import refuse_crashing
from limpet.sources._recordings import is_picture
from limpet.untrusted import printable
from limpet.watch import words
from limpet.worker import no_result

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from typing_extensions import Self

    from limpet.contracts.data import SampleSpec
    from limpet.wire.records import Result

HELP = "Run a model over recordings, sounds, pictures or videos"
GROUP = "models"
EXAMPLES = (
    ("limpet infer motion-1.limpet walk.csv", "Print a result for each window."),
    ("limpet infer motion-1.limpet walk.csv --channels ax,ay,az --rate 100", "Choose the columns and the rate."),
    ("limpet infer people-1.limpet photos/ door.jpg --json", "Print a line of JSON for each picture."),
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
    add(
        "input",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="A recording (.csv, .npy), sound (.wav, .flac), video (.mp4), picture (.jpg) or folder of pictures.",
    )
    add("--json", action="store_true", help="Print one JSON object a line. Default: a table.")
    add("--delegate", metavar="NAME", default="cpu", help="Delegate to run the model on. Default: cpu.")
    _recorded_input.add_options(parser)


def main(arguments: argparse.Namespace) -> int:
    """Print a result for each window of the files; exit status 1 if a file has none.

    A window that fails costs no other, as in the daemon.
    """
    files = _files(arguments.input)
    width = max(len(printable(str(file))) for file in files) if len(files) > 1 else 0
    complete = True
    with (
        tempfile.TemporaryDirectory() as cache,
        np.errstate(all="ignore"),
        _Runner(arguments, Path(cache), width) as runner,
    ):
        for file in files:
            complete &= runner.run(file)
    return 0 if complete else 1


def _files(inputs: Sequence[Path]) -> list[Path]:
    """Return the files to run over: a folder stands for its pictures. ``ConfigError`` if it has none."""
    files: list[Path] = []
    for each in inputs:
        if each.is_dir() and not (found := sorted(file for file in each.iterdir() if is_picture(file.name))):
            raise ConfigError([f"{each}: is a folder without pictures; name files"])
        files += found if each.is_dir() else [each]
    return files


class _Runner:
    """Runs the model over files. Files with the same kind of samples share a pipeline, so that it loads once."""

    def __init__(self, arguments: argparse.Namespace, cache: Path, width: int) -> None:
        """``width``: of the column with file names; 0: there is no such column."""
        self._arguments = arguments
        self._cache = cache
        self._width = width
        self._replay = plugins.load("sources", "replay")
        self._wanted = _recorded_input.pipeline(arguments)
        self._spec: SampleSpec | None = None
        self._pipeline: Pipeline | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pipeline is not None:
            self._pipeline.close()

    def run(self, file: Path) -> bool:
        """Print the results of a file, and what is wrong with it. Return whether it has any."""
        recorded = _recorded_input.source(self._arguments, file, self._replay)
        pipeline = self._opened(self._replay.describe(recorded))
        count = samples_read = 0
        before = pipeline.in_no_window
        dropped: Counter[str] = Counter()
        failures: Counter[str] = Counter()
        with self._replay.open(recorded, dropped) as recording:
            for number, samples in enumerate(recording):
                samples.gap |= number == 0  # no window spans two files
                samples_read += len(samples)
                for result in pipeline.feed(samples, lambda error: failures.update([str(error)])):
                    self._print(file, result)
                    count += 1
        looked, clipped = pipeline.clipping.take()
        problems = [f"{number:,} windows failed: {reason}" for reason, number in failures.most_common(_REASONS)]
        if not count:
            lost = pipeline.in_no_window - before
            problems.append(no_result.reason(pipeline.plan, samples_read, lost, failures.total()))
        if lost_by := ", ".join(f"{cause}: {number:,}" for cause, number in sorted(dropped.items())):
            problems.append(f"dropped samples: {lost_by}")
        for problem in problems:
            print(printable(f"limpet: {file}: {problem}"), file=sys.stderr)
        if clipped > clipping.MANY * looked:
            print(printable(f"limpet: warning: {clipping.described(clipped, looked)}"), file=sys.stderr)
        return count > 0

    def _opened(self, spec: SampleSpec) -> Pipeline:
        """Return the pipeline for such samples. Errors as ``plan_model``."""
        if self._pipeline is None or spec != self._spec:
            if self._pipeline is not None:
                self._pipeline.close()
                self._pipeline = None
            arguments = self._arguments
            plan = plan_model(arguments.model, spec, [arguments.delegate], self._cache, self._wanted)
            if self._spec is None:
                for warning in plan.warnings:
                    print(printable(f"limpet: warning: {warning}"), file=sys.stderr)
                if plan.delegates == (CPU,):
                    refuse_crashing(plan)
            self._spec, self._pipeline = spec, Pipeline(plan)
        return self._pipeline

    def _print(self, file: Path, result: Result[Any]) -> None:
        if self._arguments.json:
            line = {"file": str(file), "sample": result.sample, "output": result.output}
            print(msgspec.json.encode(line).decode())
            return
        name = f"{printable(str(file)):<{self._width}}  " if self._width else ""
        print(f"{name}{result.sample:>8}  {words.result(msgspec.to_builtins(result.output)).text}")
