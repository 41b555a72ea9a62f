"""What a cascade, a gate, a cache and early exit save, and what each costs where it saves nothing.

The cascade has the models of cascade_models.py. The margin is chosen on some digits, and tested on others. Times
are those of the CPU, from samples to results.
"""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from statistics import median
from time import process_time
from typing import TYPE_CHECKING, Any, NamedTuple
from zipfile import ZipFile

import numpy as np

from limpet.config import Config, Device, PipelineConfig
from limpet.contracts.assignment import SourceTable
from limpet.contracts.data import Samples, SampleSpec
from limpet.contracts.savings import CacheOptions, CascadeOptions, EarlyExitOptions, GateOptions
from limpet.deployment.local import assignment_of
from limpet.inference.pipeline import Pipeline
from limpet.inference.planning import plan_pipeline
from limpet.inference.savings_plan import with_savings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from limpet.contracts.data import Array, Window
    from limpet.inference.plan import PipelinePlan
    from limpet.wire.records import Result

MODELS = Path(__file__).parents[2] / "build" / "truth" / "models"
LIGHT, LARGE = (str(MODELS / name / f"{name}-1.limpet") for name in ("digits-light", "digits-large"))
DIGITS = SampleSpec((8, 8, 1), np.dtype(np.uint8), rate=10.0)
PIPELINES = {"light": "light model alone", "large": "large model alone", "cascade": "cascade of both"}
LOST = 0.01
"""Share of the windows that a cascade may answer wrong though the large model would be right."""
ROUNDS = 21
"""How often all windows are timed. Of the rounds but the first, the median counts."""
SPLITS = 200
"""Random halves of the digits: one chooses the margin, the other is tested."""
MOTIONS, HOP = 8, 2
"""Windows in a round of early exit; samples from one window of a motion to the next."""


class Answers(NamedTuple):
    """What a pipeline made of windows: class, probabilities float32 ``(n, classes)``, and which model answered."""

    classes: Array
    scores: Array
    models: list[str]
    samples: Array

    def right(self, targets: Array) -> Array:
        """Return whether each window that was run is right, 0 or 1."""
        return (self.classes == targets[self.samples]).astype(float)


def measure() -> tuple[dict[str, Any], str]:
    """Return the figures and the section of the page."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        cascade, rows = _cascades(place)
        wasted = _wasted(place, _part("test")[0])
        motions = _motions(place)
    savings = {"cascade": cascade, "no_saving": wasted, "early_exit": motions}
    return {"cascade_saving": cascade["saving"], "savings": savings}, _section(savings, rows)


# --- pipelines


def _plan(folder: Path, model: str, spec: SampleSpec, **wanted: Any) -> PipelinePlan:
    pipeline = PipelineConfig(source="s", model=model, **wanted)
    device = Device(id="d", state=folder / "state")
    assignment = assignment_of(Config(folder, device, {"s": SourceTable("replay", {})}, {"p": pipeline}, {}), "p")
    return with_savings(assignment, "p", plan_pipeline(assignment, "p", spec))


def _block(values: Array, index: int, *, gap: bool = False) -> Samples:
    stamps = np.arange(index, index + len(values), dtype=np.int64)
    return Samples(values, stamps, stamps, index, gap)


def _answers(plan: PipelinePlan, rows: Array) -> Answers:
    """Run rows, each of which is one window."""
    scores: list[Array] = []

    def see(window: Window, _: Result[Any]) -> None:
        assert window.scores is not None
        scores.append(window.scores.copy())

    labels = list(plan.bundle.labels)
    with Pipeline(plan) as pipeline:
        pipeline.graph.output_stages.want_scores()
        pipeline.observe(see)
        results = [one for n in range(len(rows)) for one in pipeline.feed(_block(rows[n : n + 1], n))]
    classes = np.array([labels.index(one.output.top[0].label) for one in results])
    return Answers(
        classes, np.array(scores), [one.model for one in results], np.array([r.sample for r in results])
    )


def _timed(plans: Mapping[str, PipelinePlan], rows: Array) -> dict[str, float]:
    """Return the µs that a window takes in each pipeline, from its sample to its result."""
    blocks = [_block(rows[n : n + 1], n) for n in range(len(rows))]
    opened = {name: Pipeline(plan) for name, plan in plans.items()}
    found: dict[str, list[float]] = {name: [] for name in plans}
    for _ in range(ROUNDS):
        for name, pipeline in opened.items():
            began = process_time()
            for block in blocks:
                for _result in pipeline.feed(block):
                    pass
            found[name].append((process_time() - began) / len(rows) * 1e6)
    for pipeline in opened.values():
        pipeline.close()
    return {name: median(times[1:]) for name, times in found.items()}


def _part(part: str) -> tuple[Array, Array]:
    """Return the windows of a part as they come from the sensor, and their classes."""
    samples, arrays = (
        np.load(MODELS / "digits-large" / "samples.npz"),
        np.load(MODELS / "digits-large" / "data.npz"),
    )
    rows = samples[part].reshape(-1, *DIGITS.shape).astype(DIGITS.dtype)
    return rows, arrays[f"{part}_targets"].astype(int)


# --- the cascade


def _margin(sure: Array, light: Array, large: Array) -> float:
    """Return the least margin with which the light model costs at most ``LOST`` of the windows.

    ``sure``: by how much its best probability exceeds the second. ``light`` and ``large``: 1 where these models
    are right, else 0. A window is lost if the light model is sure and wrong, and the large one would be right.
    """
    lost = np.sort(sure[(light == 0) & (large == 1)])[::-1]
    most = int(LOST * len(sure))
    return 0.0 if len(lost) <= most else math.floor(float(lost[most]) * 100 + 1) / 100


def _cascades(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the figures of the cascade, and the rows of the table."""
    rows, targets = (np.concatenate(both) for both in zip(*map(_part, ("calibration", "test")), strict=True))
    plans = {"light": _plan(folder, LIGHT, DIGITS), "large": _plan(folder, LARGE, DIGITS)}
    alone = {name: _answers(plan, rows) for name, plan in plans.items()}
    light, large = (one.right(targets) for one in alone.values())
    best = np.sort(alone["light"].scores, axis=1)
    sure = best[:, -1] - best[:, -2]
    margin = _margin(sure, light, large)
    wanted = CascadeOptions(model=LIGHT, margin=margin)
    plans["cascade"] = _plan(folder, LARGE, DIGITS, cascade=wanted)
    together = _answers(plans["cascade"], rows)
    # What the pipeline does is what was reckoned with.
    expected = np.where(sure >= margin, alone["light"].classes, alone["large"].classes)
    if not (together.classes == expected).all():
        raise AssertionError("the cascade gives other answers than its two models")
    times = _timed(plans, rows)
    accuracy, apart = _over_splits(sure, light, large)
    error = 1.96 * apart.std(ddof=1) / math.sqrt(len(apart))
    figures = {
        "saving": round(times["large"] / times["cascade"], 2),
        "margin": margin,
        "digits": len(rows),
        "accuracy": {name: round(value, 4) for name, value in accuracy.items()},
        "accuracy_apart": [round(float(apart.mean() - error), 4), round(float(apart.mean() + error), 4)],
        "light_share": round(together.models.count("digits-light") / len(rows), 4),
        "us": {name: round(time, 1) for name, time in times.items()},
    }
    return figures, [f"| {PIPELINES[name]} | {accuracy[name]:.4f} | {times[name]:.0f} |" for name in plans]


def _over_splits(sure: Array, light: Array, large: Array) -> tuple[dict[str, float], Array]:
    """Return the mean accuracy on the halves of many splits that had no part in the choice of the margin.

    The second is by how much the cascade is right more often than the large model, for each digit.
    """
    random = np.random.default_rng(7)
    total, times = np.zeros((3, len(sure))), np.zeros(len(sure))
    for _ in range(SPLITS):
        order = random.permutation(len(sure))
        chosen, tested = order[: len(sure) // 2], order[len(sure) // 2 :]
        margin = _margin(sure[chosen], light[chosen], large[chosen])
        both = np.where(sure >= margin, light, large)
        total[:, tested] += np.stack([light, large, both])[:, tested]
        times[tested] += 1
    means = total / times
    return dict(zip(("light", "large", "cascade"), means.mean(axis=1).tolist(), strict=True)), means[2] - means[1]


# --- what each costs where it saves nothing


def _wasted(folder: Path, rows: Array) -> dict[str, dict[str, float]]:
    """Return the µs of a window of two models, and how many more each way to save takes. All inputs differ.

    The rows come again in each round, which is after more inputs than the cache keeps.
    """
    found = {}
    never_sure = EarlyExitOptions(windows=2, confidence=1 - 1e-9)
    for name, model in (("light", LIGHT), ("large", LARGE)):
        plans = {
            "plain": _plan(folder, model, DIGITS),
            "gate": _plan(folder, model, DIGITS, gate=GateOptions()),
            "gate with a tolerance": _plan(folder, model, DIGITS, gate=GateOptions(tolerance=0.05, share=0.01)),
            "cache": _plan(folder, model, DIGITS, cache=CacheOptions()),
            "early exit": _plan(folder, model, DIGITS, early_exit=never_sure),
        }
        if name == "large":
            never = CascadeOptions(model=LIGHT, margin=1.0)
            plans["cascade that is never sure"] = _plan(folder, model, DIGITS, cascade=never)
        times = _timed(plans, rows)
        plain = times.pop("plain")
        found[name] = {"plain": round(plain, 1)} | {key: round(time - plain, 1) for key, time in times.items()}
    return found


# --- early exit


def _motions(folder: Path) -> dict[str, float]:
    """Return how many windows of recordings of motions run, and the share of rounds that are answered right."""
    samples, arrays = np.load(MODELS / "imu" / "samples.npz")["test"], np.load(MODELS / "imu" / "data.npz")
    bundle = str(MODELS / "imu" / "imu-1.limpet")
    channels = json.loads(ZipFile(bundle).read("manifest.json"))["inputs"][0]["channels"]
    spec = SampleSpec(samples.shape[2:], np.dtype(np.float32), tuple(channels), rate=10.0)
    options = EarlyExitOptions(windows=MOTIONS, confidence=0.95)
    windows, run, early_right, full_right = 0, 0, [], []
    with (
        Pipeline(_plan(folder, bundle, spec, early_exit=options)) as early,
        Pipeline(_plan(folder, bundle, spec)) as full,
    ):
        labels = early.plan.bundle.labels
        for number, group in enumerate(dict.fromkeys(arrays["test_groups"].tolist())):
            (places,) = np.nonzero(arrays["test_groups"] == group)
            label = labels[int(arrays["test_targets"][places[0]])]
            block = _block(_recording(samples[places]), number * 10_000, gap=number > 0)
            fast, slow = (_rounds(pipeline, block) for pipeline in (early, full))
            windows += len(places)
            run += sum(map(len, fast))
            early_right += [one[-1] == label for one in fast]
            full_right += [max(one, key=one.count) == label for one in slow]
    return {
        "windows": windows,
        "run": run,
        "rounds": len(early_right),
        "rounds_right": round(float(np.mean(early_right)), 4),
        "rounds_right_of_all_windows": round(float(np.mean(full_right)), 4),
    }


def _recording(windows: Array) -> Array:
    """Return the samples that windows with a hop of ``HOP`` were cut from."""
    return np.concatenate([windows[0], *(window[-HOP:] for window in windows[1:])])


def _rounds(pipeline: Pipeline, block: Samples) -> list[list[str | None]]:
    """Return the labels of the windows that were run, by their round."""
    size = pipeline.plan.window.size or 1
    found: dict[int, list[str | None]] = {}
    for result in pipeline.feed(block):
        window = (result.sample - block.index - size + 1) // HOP
        found.setdefault(window // MOTIONS, []).append(result.output.label)
    return list(found.values())


# --- the page


def _section(savings: dict[str, Any], rows: list[str]) -> str:
    cascade, wasted, motions = savings["cascade"], savings["no_saving"], savings["early_exit"]
    low, high = cascade["accuracy_apart"]
    costs = "\n".join(
        f"| {key} | {wasted['light'].get(key, '-')} | {value} |" for key, value in wasted["large"].items()
    )
    return f"""## What a cascade saves

The task is written digits of 8 x 8 pixels, as they were scanned (real; scikit-learn). Both models are int8,
trained on 900 digits. {cascade["digits"]} others are split into halves at random, {SPLITS} times. One half chooses
the least margin with which the cascade is wrong about at most {LOST:.0%} that the large model gets right. The
other half is tested.

| pipeline | accuracy | µs of the CPU a window |
| --- | --- | --- |
{chr(10).join(rows)}

The large model takes {cascade["saving"]:.2f} times as long as the cascade. With the margin that all digits choose,
{cascade["margin"]:g}, the light model answers {cascade["light_share"]:.1%} of the windows. The accuracy of the
cascade less that of the large model is between {low:+.4f} and {high:+.4f} (95 %).

## What saves nothing

Windows that all differ, through pipelines that can spare none of them. The first row has the µs of a window. The
others have how many µs more a window takes.

| | light model | large model |
| --- | --- | --- |
{costs}

## What early exit leaves out

Recordings of four motions (real; BasicMotions), in rounds of {MOTIONS} windows that overlap by nine tenths. Early
exit at 95 % runs {motions["run"]} of {motions["windows"]} windows. Its answer is right in
{motions["rounds_right"]:.1%} of {motions["rounds"]} rounds. The class of most windows of a round is right in
{motions["rounds_right_of_all_windows"]:.1%}.
"""
