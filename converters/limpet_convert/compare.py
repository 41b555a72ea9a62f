"""A model against the float model that it was made from: their metrics, and how far they agree."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from limpet import beta
from limpet_convert import detections, metrics, regression, runners
from limpet_convert.errors import ConvertError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from limpet.contracts.data import Array, FloatArray
    from limpet_convert.data import Windows
    from limpet_convert.metrics import Metrics
    from limpet_convert.project import Bundle, Verify

HEADLINE = {"classify": "accuracy", "anomaly": "f1", "regress": "r2", "detect": "map"}
"""The metric of a task whose loss is counted in points: hundredths."""


SHOWN_LOSSES = 3
"""Quantities that are named where more of them lost too much."""


@dataclass
class Comparison:
    """One variant against float. ``failures`` says which thresholds it misses; empty is a pass.

    ``errors``: of each output the largest and the mean absolute difference, and the relative one. ``kept``: the
    layers of a mixture that stayed in more than int8, and in what. ``quantities``: of a regression, how far each
    agrees, see ``regression.agreements``. ``notes``: what makes the figures say less than they seem to, a sentence
    each.
    """

    variant: str
    size: int
    size_ratio: float
    exact: Metrics
    converted: Metrics
    metric: str
    metric_loss_points: float
    agreement: float
    calibration_loss: float
    errors: list[dict[str, float]]
    changes: list[dict[str, Any]]
    groups: dict[str, Metrics] = field(default_factory=dict)
    quantities: dict[str, dict[str, float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON can have it."""
        return asdict(self)


@dataclass(frozen=True)
class Outputs:
    """A model's outputs on the held-back windows: each output ``(n, *shape)``."""

    values: list[FloatArray]
    size: int


def run(path: Path, inputs: FloatArray) -> Outputs:
    """Run a model file over ``inputs``."""
    size = path.stat().st_size if path.is_file() else sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
    return Outputs([np.asarray(v, np.float32) for v in runners.run_all(runners.open_model(path), inputs)], size)


def compare(  # noqa: PLR0913, PLR0917 - two models, data, and how to judge
    variant: str, exact: Outputs, other: Outputs, windows: Windows, bundle: Bundle, groups: Array | None = None
) -> Comparison:
    """Compare two models' outputs over the same windows with known answers."""
    judge = _judge(windows, bundle)
    before, after = judge.metrics(exact.values), judge.metrics(other.values)
    metric = HEADLINE[bundle.task]
    return Comparison(
        variant=variant,
        size=other.size,
        size_ratio=other.size / exact.size,
        exact=before,
        converted=after,
        metric=metric,
        metric_loss_points=100 * (before[metric] - after[metric]),
        agreement=judge.agreement(exact.values, other.values),
        calibration_loss=after.get("ece", 0.0) - before.get("ece", 0.0),
        errors=[_error(a, b) for a, b in zip(exact.values, other.values, strict=True)],
        changes=judge.changes(exact.values, other.values),
        groups=_groups(judge, metric, other.values, groups),
        quantities=judge.quantities(exact.values, other.values),
        notes=judge.notes(exact.values, other.values),
    )


def refuse_targets(windows: Windows, bundle: Bundle) -> None:
    """Raise ``ConvertError`` for targets that no model can be measured with."""
    _judge(windows, bundle)


def _judge(windows: Windows, bundle: Bundle) -> _Judge:
    if windows.targets is None:
        raise ConvertError("data.targets: missing; there is nothing to compare with")
    judges: dict[str, type[_Judge]] = {"detect": _OfBoxes, "regress": _OfQuantities}
    return judges.get(bundle.task, _OfScores)(bundle, windows.values, windows.targets)


def judged(comparison: Comparison, limits: Verify) -> Comparison:
    """Fill in which thresholds the comparison misses; a figure that is not a number misses its own."""
    one, found = comparison, comparison.failures
    if not one.metric_loss_points <= limits.max_metric_loss:
        found.append(f"{one.metric} lost {one.metric_loss_points:.2f} points, at most {limits.max_metric_loss:g}")
    if limits.min_metric is not None and not one.converted[one.metric] >= limits.min_metric:
        found.append(f"{one.metric} {one.converted[one.metric]:.4g}, at least {limits.min_metric:g}")
    found += _ruined(one, limits.max_metric_loss)
    if not one.agreement >= limits.min_agreement:
        where = f" of {regression.worst(one.quantities)}" if len(one.quantities) > 1 else ""
        found.append(f"agreement{where} {one.agreement:.2%}, at least {limits.min_agreement:.2%}")
    if limits.max_size_ratio is not None and not one.size_ratio <= limits.max_size_ratio:
        found.append(f"size {one.size_ratio:.3f} of float, at most {limits.max_size_ratio:g}")
    if not one.calibration_loss <= limits.max_calibration_loss:
        found.append(f"ECE rose by {one.calibration_loss:.3f}, at most {limits.max_calibration_loss:g}")
    if limits.max_slice_gap is not None and (behind := _behind(one, limits.max_slice_gap)):
        found.append(behind)
    return comparison


def _ruined(one: Comparison, limit: float) -> list[str]:
    """Return which of several quantities lost more than so many points: the mean of all can hide it.

    Of more than ``SHOWN_LOSSES``, those that lost most, and how many others there are.
    """
    before, after = (metrics.get("outputs", {}) for metrics in (one.exact, one.converted))
    if len(before) < 2:
        return []
    lost = {
        name: 100 * (figures["r2"] - after[name]["r2"])
        for name, figures in before.items()
        if figures["r2"] is not None
    }
    ruined = [name for name, points in lost.items() if not points <= limit]
    most = set(sorted(ruined, key=lambda name: -lost[name])[:SHOWN_LOSSES])
    said = [f"r2 of {name} lost {lost[name]:.2f} points, at most {limit:g}" for name in ruined if name in most]
    others = len(ruined) - len(said)
    return [*said, f"r2 of {others} more, which lost less than these"] if others else said


def _error(exact: FloatArray, other: FloatArray) -> dict[str, float]:
    difference = np.abs(exact - other)
    spread = float(exact.std())
    return {
        "largest": float(difference.max()),
        "mean": float(difference.mean()),
        "relative": float(np.sqrt((difference**2).mean())) / spread if spread else 0.0,
    }


def _groups(judge: _Judge, metric: str, outputs: Sequence[FloatArray], groups: Array | None) -> dict[str, Metrics]:
    """Return the headline metric of each group, and its size. An accuracy has its 95 % interval, too."""
    if groups is None:
        return {}
    found: dict[str, Metrics] = {}
    for group, count in zip(*np.unique(groups, return_counts=True), strict=True):
        value = judge.metrics(outputs, groups == group)[metric]
        found[str(group)] = {metric: value, "windows": int(count)}
        if metric == "accuracy":
            low, high = beta.interval(round(value * int(count)), int(count))
            found[str(group)] |= {"low": low, "high": high}
    return found


def worst_group(comparison: Comparison) -> str | None:
    """Return the group with the lowest metric, ``None`` if there are no groups."""
    groups = {
        name: figures
        for name, figures in comparison.groups.items()
        if not np.isnan(figures[comparison.metric])  # R² of a group whose targets are all the same
    }
    return min(groups, key=lambda name: float(groups[name][comparison.metric]), default=None)


def is_surely_behind(comparison: Comparison, name: str, points: float = 0.0) -> bool:
    """Whether the metric of a group is more than ``points`` below that of all windows.

    Of an accuracy, chance must be no explanation: the interval is that of 95 % for all groups together.
    """
    group, whole = comparison.groups[name], comparison.converted[comparison.metric]
    value = group[comparison.metric]
    if comparison.metric == "accuracy":
        level = 1 - 0.05 / len(comparison.groups)
        value = beta.interval(round(value * group["windows"]), group["windows"], level).high
    return bool(100 * (whole - value) > points)


def _behind(comparison: Comparison, limit: float) -> str:
    """Return how far the worst group surely is behind all windows, if that is more than a limit in points."""
    if (name := worst_group(comparison)) is None:
        return ""
    if not is_surely_behind(comparison, name, limit):
        return ""
    group, whole = comparison.groups[name], comparison.converted[comparison.metric]
    return (
        f"group {name}: {comparison.metric} {group[comparison.metric]:.4g} on {group['windows']} windows, "
        f"more than {limit:g} points below that of all ({whole:.4g})"
    )


class _Judge(Protocol):
    """What outputs mean for a task."""

    def __init__(self, bundle: Bundle, inputs: FloatArray, targets: Array) -> None:
        """Judge by what each of the ``inputs`` is."""

    def metrics(self, outputs: Sequence[FloatArray], chosen: Array | slice = slice(None)) -> Metrics:
        """Return what the outputs are worth, on the chosen windows."""

    def agreement(self, exact: Sequence[FloatArray], other: Sequence[FloatArray]) -> float:
        """Return the share of detections on which both agree."""

    def changes(self, exact: Sequence[FloatArray], other: Sequence[FloatArray]) -> list[dict[str, Any]]:
        """Return which labels turned into which, most often first."""

    def quantities(self, exact: Sequence[FloatArray], other: Sequence[FloatArray]) -> dict[str, dict[str, float]]:
        """Return how far each quantity of a regression agrees."""

    def notes(self, exact: Sequence[FloatArray], other: Sequence[FloatArray]) -> list[str]:
        """Return what makes the figures say less than they seem to."""


class _OfBoxes:
    """Detections."""

    def __init__(self, bundle: Bundle, inputs: FloatArray, targets: Array) -> None:  # noqa: ARG002
        self._reader = detections.Reader.of(bundle)
        self._targets = targets

    def metrics(self, outputs: Sequence[FloatArray], chosen: Array | slice = slice(None)) -> Metrics:
        taken = [output[chosen] for output in outputs]
        found, reported = (self._reader.read(taken, reported=reported) for reported in (False, True))
        true = [detections.truth(target) for target in self._targets[chosen]]
        return detections.metrics(found, reported, true, self._reader.labels)

    def agreement(self, exact: Sequence[FloatArray], other: Sequence[FloatArray]) -> float:
        return detections.agreement(*(self._reader.read(outputs, reported=True) for outputs in (exact, other)))

    def changes(self, exact: Sequence[FloatArray], other: Sequence[FloatArray]) -> list[dict[str, Any]]:
        before, after = (self._reader.read(outputs, reported=True) for outputs in (exact, other))
        return detections.changes(before, after, self._reader.labels)

    def quantities(self, exact: Sequence[FloatArray], other: Sequence[FloatArray]) -> dict[str, dict[str, float]]:  # noqa: ARG002
        return {}

    def notes(self, exact: Sequence[FloatArray], other: Sequence[FloatArray]) -> list[str]:
        found = [self._reader.read(outputs, reported=True) for outputs in (exact, other)]
        if any(len(boxes.kinds) for side in found for boxes in side):
            return []
        return ["neither model finds a box in any window, so agreement says nothing. Check bundle.transforms"]


class _OfScores:
    """Classes and anomalies."""

    def __init__(self, bundle: Bundle, inputs: FloatArray, targets: Array) -> None:
        self._bundle = bundle
        self._inputs = inputs
        self._targets = targets
        wrong = ~np.isin(targets, range(len(bundle.labels))) if bundle.task == "classify" else np.zeros(0, bool)
        if wrong.any():
            raise ConvertError(
                f"data.targets: {np.ravel(targets)[np.ravel(wrong)][0]} is no class; they count from 0 to "
                f"{len(bundle.labels) - 1} in the order of bundle.labels"
            )

    def metrics(self, outputs: Sequence[FloatArray], chosen: Array | slice = slice(None)) -> Metrics:
        targets = self._targets[chosen]
        if self._bundle.task == "classify":
            first = outputs[0][chosen].reshape(len(targets), -1)
            return metrics.classification(first, targets, self._bundle.labels)
        return metrics.anomaly(self._scores(outputs)[chosen], targets, self._threshold)

    @property
    def _threshold(self) -> float:
        return float(self._bundle.decoder["threshold"])

    def agreement(self, exact: Sequence[FloatArray], other: Sequence[FloatArray]) -> float:
        """Return the share of windows on which both say the same."""
        return float((self._said(exact) == self._said(other)).mean())

    def changes(self, exact: Sequence[FloatArray], other: Sequence[FloatArray]) -> list[dict[str, Any]]:
        """Return which classes turned into which, most often first."""
        if self._bundle.task != "classify":
            return []
        pairs = np.stack([self._said(exact), self._said(other)], axis=1)
        turned, counts = np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0, return_counts=True)
        labels = self._bundle.labels
        found = [
            {"from": labels[a], "to": labels[b], "windows": int(n)}
            for (a, b), n in zip(turned.tolist(), counts, strict=True)
        ]
        return sorted(found, key=lambda one: -int(one["windows"]))

    def quantities(self, exact: Sequence[FloatArray], other: Sequence[FloatArray]) -> dict[str, dict[str, float]]:  # noqa: ARG002
        return {}

    def notes(self, exact: Sequence[FloatArray], other: Sequence[FloatArray]) -> list[str]:
        """Say where the float model gives one answer to all windows: agreement proves nothing then."""
        first = np.unique(self._said(exact))
        if len(first) != 1 or len(np.unique(self._targets)) < 2:
            return []
        said = {int(one) for one in [*first, *np.unique(self._said(other))]}
        if self._bundle.task == "classify" and len(said) > 1:
            label = self._bundle.labels[int(first[0])]
            what = f"the float model says {label!r} for every window"
            return [f"{what}. Compare bundle.transforms with what the model was trained on"]
        if len(said) > 1:
            return []
        if self._bundle.task == "classify":
            label = self._bundle.labels[said.pop()]
            what = f"both models say {label!r} for every window, so agreement says nothing"
            return [f"{what}. Check the order of bundle.labels, and bundle.transforms"]
        scores, side = self._scores(exact), "at or above" if said.pop() else "below"
        text = f"every score is {side} decoder.threshold = {self._threshold:g}, so agreement says nothing. "
        return [f"{text}The float model's scores are {scores.min():.4g} to {scores.max():.4g}"]

    def _said(self, outputs: Sequence[FloatArray]) -> Array:
        """Return the class of each window, or 1 for an anomaly and 0 for none."""
        if self._bundle.task == "classify":
            return np.asarray(outputs[0].reshape(len(self._targets), -1).argmax(axis=1))
        return np.asarray(self._scores(outputs) >= self._threshold, np.int64)

    def _scores(self, outputs: Sequence[FloatArray]) -> FloatArray:
        """Return the mean squared error of the reconstruction, or the model's own score."""
        found = outputs[0].reshape(len(self._inputs), -1)
        if found.shape[1] == 1:
            return found[:, 0]
        return np.asarray(np.square(found - self._inputs.reshape(found.shape)).mean(axis=1), np.float32)


class _OfQuantities:
    """Numbers of a regression, each quantity by itself."""

    def __init__(self, bundle: Bundle, inputs: FloatArray, targets: Array) -> None:  # noqa: ARG002
        self._bundle = bundle
        self._targets = np.reshape(targets, (len(targets), -1)).astype(np.float64)
        if self._targets.size and not np.ptp(self._targets, axis=0).any():
            raise ConvertError(
                f"data.targets: all {len(targets)} windows have the same target ({self._targets.flat[0]:g}). "
                "Verify with windows whose targets differ"
            )

    def _known(self, outputs: Sequence[FloatArray]) -> Sequence[FloatArray]:
        """Return the outputs that have targets: the first alone, or all of them."""
        return outputs[:1] if outputs[0].size == self._targets.size else outputs

    def _numbers(self, outputs: Sequence[FloatArray]) -> NDArray[np.float64]:
        found = regression.numbers(self._known(outputs))
        if found.shape != self._targets.shape:
            raise ConvertError(
                f"data.targets: {self._targets.size} numbers for {found.size} outputs of the model over "
                f"{len(found)} windows; one for each, in their order"
            )
        return found

    def metrics(self, outputs: Sequence[FloatArray], chosen: Array | slice = slice(None)) -> Metrics:
        wanted = regression.quantities(self._bundle, self._known(outputs))
        return regression.metrics(self._numbers(outputs)[chosen], self._targets[chosen], wanted)

    def agreement(self, exact: Sequence[FloatArray], other: Sequence[FloatArray]) -> float:
        """Return the share of numbers that are close, of the quantity where it is lowest."""
        return min(one["agreement"] for one in self.quantities(exact, other).values())

    def changes(self, exact: Sequence[FloatArray], other: Sequence[FloatArray]) -> list[dict[str, Any]]:  # noqa: ARG002
        return []

    def quantities(self, exact: Sequence[FloatArray], other: Sequence[FloatArray]) -> dict[str, dict[str, float]]:
        wanted = regression.quantities(self._bundle, self._known(exact))
        return regression.agreements(self._numbers(exact), self._numbers(other), self._targets, wanted)

    def notes(self, exact: Sequence[FloatArray], other: Sequence[FloatArray]) -> list[str]:
        wanted = regression.quantities(self._bundle, self._known(exact))
        found = regression.notes(self._numbers(exact), self._targets, wanted)
        return [*regression.drowned(self.quantities(exact, other), wanted), *found]
