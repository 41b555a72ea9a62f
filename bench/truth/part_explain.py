"""Whether explanations are right: beside the package shap, and by hiding what they name.

The models are those of bench/truth/models.py, int8, run by Limpet's own pipeline on windows of the test part. Each
window is shown to the model as Limpet would show it on a device.
"""

from __future__ import annotations

import json
import tempfile
import time
import warnings
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
import shap

from limpet.contracts.data import Samples, SampleSpec
from limpet.contracts.explanation import Question
from limpet.explanation import attribution
from limpet.explanation.answers import read
from limpet.explanation.explaining import Subject, explain
from limpet.explanation.parts import divide
from limpet.inference.pipeline import Pipeline
from limpet.inference.probe import Probe, Stretch
from limpet.inference.single import plan_model
from limpet.models import bundle as bundles
from limpet.worker.shadow_turns import in_share
from limpet_convert.effect import posterior
from limpet_convert.effect.arms import Arms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from limpet.contracts.data import Array
    from limpet.contracts.explanation import By, Explanation, Method

MODELS = Path(__file__).parents[2] / "build" / "truth" / "models"
WINDOWS, FEW = 24, 8
"""Windows of each model that are explained, and of a model that takes longer."""
EXPERIMENTS_EACH = 200
TOLERANCE = 1e-6
"""Difference of exact Shapley values to those of shap, in probability."""


class Task(NamedTuple):
    """A model and how its windows are explained."""

    name: str
    by: By
    method: Method
    rate: float | None
    picture: bool = False
    windows: int = WINDOWS


TASKS = [
    Task("telemetry", "channels", "shapley", None),
    Task("imu", "channels", "shapley", 10.0),
    Task("imu", "cells", "occlusion", 10.0),
    Task("sensor", "channels", "shapley", None),
    Task("digits", "pixels", "occlusion", None, picture=True),
    Task("digits", "pixels", "rise", None, picture=True),
    Task("keywords", "bands", "shapley", 16_000.0, windows=FEW),
]


def measure() -> tuple[dict[str, Any], str]:
    """Return the figures and the section of the page."""
    warnings.filterwarnings("ignore")
    rows, worst, slopes = [], 0.0, []
    for task in TASKS:
        with _opened(task) as (pipeline, windows, typical):
            row = _explained(task, pipeline, windows, typical)
            if task.method == "shapley":
                difference, errors = _beside_shap(task, pipeline, windows[: task.windows // 4], typical)
                worst = max(worst, difference)
                row |= {"shap": difference}
                slopes += errors
            rows.append(row)
    figures = {
        "explain_matches_shap": bool(worst <= TOLERANCE),
        "explain": {
            "shap_difference": worst,
            "shap_tolerance": TOLERANCE,
            "within_two_errors": round(float(np.mean(slopes)), 3),
            "models": {f"{row['name']} {row['by']} {row['method']}": _figures(row) for row in rows},
        },
    }
    covered = {name: _covered(draw, true) for name, (draw, true) in EXPERIMENTS.items()}
    figures["effect_coverage"] = covered
    return figures, _section(rows, worst, float(np.mean(slopes))) + _effects(covered)


@contextmanager
def _opened(task: Task) -> Iterator[tuple[Pipeline, list[Array], tuple[Array, Array] | None]]:
    """Open a bundle; yield its pipeline, windows of the test part, and what is typical of each channel."""
    folder = MODELS / task.name
    with np.load(folder / "samples.npz") as held:
        test, calibration = held["test"], held["calibration"]
    chosen = test[np.random.default_rng(0).permutation(len(test))[: task.windows]]
    (bundle,) = folder.glob("*.limpet")
    with tempfile.TemporaryDirectory() as cache:
        spec = _spec(bundle, chosen, task.rate, Path(cache))
        plan = plan_model(bundle, spec, ["cpu"], Path(cache))
        typical = None
        if not task.picture and task.by != "bands":
            flat = calibration.reshape(-1, calibration.shape[-1]).astype(np.float64)
            typical = np.median(flat, 0), flat.std(0)
        with Pipeline(plan) as pipeline:
            yield pipeline, list(chosen), typical


def _spec(bundle: Path, windows: Array, rate: float | None, cache: Path) -> SampleSpec:
    manifest = bundles.load(bundle, cache / "cache").manifest
    channels = tuple(dict.fromkeys(name for tensor in manifest.inputs for name in tensor.channels))
    shape = windows.shape[2:]
    named = channels if shape == (len(channels),) else ()
    return SampleSpec(shape, windows.dtype, named, manifest.rate or rate)


def _probe(pipeline: Pipeline, window: Array, typical: tuple[Array, Array] | None) -> tuple[Probe, Subject]:
    """Run a window, and return what answers for changed ones."""
    stretch = Stretch(pipeline)
    pipeline.observe(stretch.see)
    stamps = np.arange(len(window), dtype=np.int64)
    list(pipeline.feed(Samples(window, stamps, stamps, 0, gap=True)))
    pipeline.stop_observing(stretch.see)
    window_taken = stretch.taken()
    assert window_taken is not None
    probe = Probe(pipeline, window_taken)
    subject = probe.subject
    if typical is not None:
        subject = replace(subject, typical=typical[0], spreads=typical[1])
    return probe, subject


def _ask(probe: Probe, subject: Subject, question: Question) -> Explanation:
    asking = explain(subject, question)
    try:
        values = next(asking)
        while True:
            values = asking.send(probe(values))
    except StopIteration as done:
        return done.value


def _explained(
    task: Task, pipeline: Pipeline, windows: list[Array], typical: tuple[Array, Array] | None
) -> dict[str, Any]:
    """Explain windows; hide what the explanations name, and as many parts at random."""
    drops, by_chance, took, invokes, changed, repeated = [], [], [], [], [], []
    random = np.random.default_rng(1)
    for window in windows:
        probe, subject = _probe(pipeline, window, typical)
        with probe:
            question = Question(by=task.by, method=task.method)
            began = time.perf_counter()
            found = _ask(probe, subject, question)
            took.append(time.perf_counter() - began)
            invokes.append(found.invokes)
            again = _ask(probe, subject, question)
            repeated.append(msgspec.json.encode(found) == msgspec.json.encode(again))
            order = np.argsort([-part.value for part in found.parts], kind="stable")
            drops.append(_drop(probe, subject, found, order))
            by_chance.append(np.mean([_drop(probe, subject, found, random.permutation(order)) for _ in range(4)]))
            if found.changes is not None:
                changed.append(bool(found.changes))
    return {
        "name": task.name,
        "by": task.by,
        "method": task.method,
        "drop": float(np.mean(drops)),
        "chance": float(np.mean(by_chance)),
        "ms": float(np.median(took) * 1e3),
        "invokes": float(np.median(invokes)),
        "changed": float(np.mean(changed)) if changed else None,
        "repeated": all(repeated),
    }


def _drop(probe: Probe, subject: Subject, found: Explanation, order: Array) -> float:
    """Hide parts in an order, more and more; return by how much the value sinks on average, in shares of all."""
    parts = _parts(subject, found)
    count = len(order)
    whole, near = found.value, read(probe(subject.values)).boxes.get(found.label)
    sinks = []
    for hidden in sorted({max(1, round(count * share)) for share in (0.1, 0.2, 0.3, 0.5)}):
        share = np.ones(count)
        share[order[:hidden]] = 0
        answer = read(probe(parts.shown(share).reshape(subject.values.shape)), near)
        sinks.append(whole - answer.number(found.label))
    return float(np.mean(sinks))


def _parts(subject: Subject, found: Explanation) -> Any:
    values = subject.values if subject.picture else subject.values.reshape(len(subject.values), -1)
    means = values.mean(tuple(range(values.ndim - 1)))
    base = {"typical": subject.typical, "mean": means, "zero": np.zeros(values.shape[-1])}[found.baseline]
    return divide(
        values, base, found.by, channels=subject.channels, rate=subject.rate, fine=found.method == "rise", most=766
    )


class _Game:
    """The value of windows with some of the parts of an explanation."""

    def __init__(self, probe: Probe, subject: Subject, found: Explanation) -> None:
        self._probe, self.subject, self.found = probe, subject, found
        self.parts = _parts(subject, found)

    def of_shares(self, shares: Array) -> Array:
        """Return the values for shares of the parts, ``(n, parts)``."""
        return np.array([self._of(self.parts.shown(share)) for share in np.asarray(shares, float)])

    def of_rows(self, rows: Array) -> Array:
        """Return the values of windows of one row each, ``(n, channels)``."""
        return np.array([self._of(row.astype(self.subject.values.dtype)) for row in rows])

    def _of(self, values: Array) -> float:
        return read(self._probe(values.reshape(self.subject.values.shape))).number(self.found.label)


def _beside_shap(
    task: Task, pipeline: Pipeline, windows: list[Array], typical: tuple[Array, Array] | None
) -> tuple[float, list[bool]]:
    """Return the largest difference to shap's exact values, and which sampled values are within two errors."""
    worst, within = 0.0, []
    for window in windows:
        probe, subject = _probe(pipeline, window, typical)
        with probe:
            found = _ask(probe, subject, Question(by=task.by, method="shapley", change=False))
            game = _Game(probe, subject, found)
            ours = np.array([part.value for part in found.parts])
            worst = max(worst, float(np.abs(ours - _shap_values(shap, game)).max()))
            within += _sampled(game, ours)
    return worst, within


def _shap_values(shap: Any, game: _Game) -> Array:
    """Return what shap says.

    Of a window of one row, it hides the channels itself: its background is the typical row. Otherwise it plays the
    game of hidden and shown parts.
    """
    subject = game.subject
    if len(subject.values) == 1 and game.found.by == "channels" and subject.typical is not None:
        row = subject.values.astype(float)
        masker = shap.maskers.Independent(subject.typical[None].astype(np.float32).astype(float))
        return shap.explainers.Exact(game.of_rows, masker)(row).values[0]
    count = len(game.found.parts)
    masker = shap.maskers.Independent(np.zeros((1, count)))
    return shap.explainers.Exact(game.of_shares, masker)(np.ones((1, count))).values[0]


def _sampled(game: _Game, exact: Array) -> list[bool]:
    """Sample Shapley values with fewer invokes than exact ones need; return which are within two errors."""
    count, found = len(exact), game.found
    asking = attribution.shapley(count, found.value, found.hidden, min((1 << count) - 1, 2 + 24 * (count - 1)))
    try:
        share = next(asking)
        while True:
            share = asking.send(float(game.of_shares(share[None])[0]))
    except StopIteration as done:
        sampled: attribution.Attribution = done.value
    if sampled.errors is None:
        return []
    return (np.abs(sampled.values - exact) <= 2 * sampled.errors + 1e-9).tolist()


def _figures(row: dict[str, Any]) -> dict[str, Any]:
    return {
        key: round(value, 6) if isinstance(value, float) else value
        for key, value in row.items()
        if key not in {"name", "by", "method"}
    }


def _section(rows: list[dict[str, Any]], worst: float, within: float) -> str:
    lines = [
        _HEAD.format(windows=WINDOWS, few=FEW),
        "| model | parts | method | sinks | at random | change | invokes | ms | same again | difference to shap |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | --- | ---: |",
    ]
    for row in rows:
        change = "" if row["changed"] is None else f"{row['changed']:.0%}"
        cells = [row["name"], row["by"], row["method"], f"{row['drop']:.3f}", f"{row['chance']:.3f}", change]
        cells += [f"{row['invokes']:.0f}", f"{row['ms']:.0f}", "yes" if row["repeated"] else "no"]
        cells += [f"{row['shap']:.1e}" if "shap" in row else ""]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, _END.format(worst=worst, allowed=TOLERANCE, within=within)])


_HEAD = """## Explanations

{windows} windows of the test part of each model are explained, {few} of `keywords`, int8, in Limpet's pipeline.
*Sinks*: 10, 20, 30 and 50 % of the parts are hidden, those that the explanation names first. The score sinks by so
much on average. *At random*: as many parts at random. *Change*: share of the windows for which a small change
with another answer was found.
"""
_END = """
Exact Shapley values are those of `shap.explainers.Exact`. The largest difference is {worst:.1e}; {allowed:g} is
allowed. For windows of one row, shap hides the channels itself, with the typical row as its background. For others
it gets the windows with the parts that Limpet hides. Values that are sampled with fewer invokes are within two
standard errors of the exact ones in {within:.0%} of all cases. The errors come from at most 12 pairs of orders, so
95 % is not to be expected exactly. The score of `sensor` is a quantity, not a probability.

"""

# --- effects, in simulated experiments


def _drift(random: np.random.Generator) -> Arms:
    """Draw windows on a device whose measure wanders slowly."""
    count = 4000
    new = np.array([in_share(sample, 0.5) for sample in range(count)])
    values = np.cumsum(random.normal(scale=0.05, size=count)) + random.normal(size=count) + 0.3 * new
    return _in_blocks(values, new)


def _rare(random: np.random.Generator) -> Arms:
    """Draw windows with an outcome in 4 of 1000, and 8 of 1000 of the new model."""
    new = random.random(4000) < 0.5
    return _in_blocks((random.random(4000) < np.where(new, 0.008, 0.004)).astype(float), new)


def _clustered(random: np.random.Generator) -> Arms:
    """Draw windows with an outcome whose share is another one in each block."""
    new = random.random(4000) < 0.5
    share = random.uniform(0.1, 0.8, 40)[np.arange(4000) * 40 // 4000]
    return _in_blocks((random.random(4000) < share + 0.05 * new).astype(float), new)


def _in_blocks(values: Array, new: Array) -> Arms:
    return Arms("windows", values, new, np.arange(len(values)) * 40 // len(values), np.full(40, np.nan), 1)


def _devices(random: np.random.Generator, count: int, *, before: bool) -> Arms:
    """Draw devices that differ four times as much as their windows."""
    level, new = random.normal(scale=2, size=count), random.permutation(count) < count // 2
    values = level[:, None] + random.normal(scale=0.5, size=(count, 20)) + 0.5 * new[:, None]
    earlier = level + random.normal(scale=0.5 / np.sqrt(20), size=count)
    cluster = np.repeat(np.arange(count), 20)
    known = earlier if before else np.full(count, np.nan)
    return Arms("devices", values.ravel(), new[cluster], cluster, known, count)


EXPERIMENTS: dict[str, tuple[Callable[[np.random.Generator], Arms], float]] = {
    "windows, slow drift": (_drift, 0.3),
    "windows, rare outcome": (_rare, 0.004),
    "windows, outcome in clusters": (_clustered, 0.05),
    "40 devices": (lambda random: _devices(random, 40, before=False), 0.5),
    "40 devices, adjusted": (lambda random: _devices(random, 40, before=True), 0.5),
    "10 devices, adjusted": (lambda random: _devices(random, 10, before=True), 0.5),
}


def _covered(draw: Callable[[np.random.Generator], Arms], true: float) -> float:
    """Return in which share of simulated experiments the interval has the true effect."""
    found = [posterior.effect(draw(np.random.default_rng(seed))) for seed in range(EXPERIMENTS_EACH)]
    return float(np.mean([one.low < true < one.high for one in found]))


def _effects(covered: dict[str, float]) -> str:
    rows = [f"| {name} | {share:.1%} |" for name, share in covered.items()]
    return "\n".join(
        [
            "## Effects of a new model",
            "",
            f"{EXPERIMENTS_EACH} experiments of each kind were simulated with a known effect. The interval of",
            "95 % of `limpet-convert effect` has the true effect in this share of them:",
            "",
            "| experiment | covered |",
            "| --- | ---: |",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    made, text = measure()
    print(text)
    print(json.dumps(made))
