"""What each task learns from, how its answers are scored, and what is reported. Pure functions of arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from limpet_convert import metrics
from limpet_convert.training import scoring

if TYPE_CHECKING:
    from limpet.contracts.data import Array, FloatArray
    from limpet_convert.training.networks import Loss
    from limpet_convert.training.problem import Problem

_WEIGHT = 0.05
"""Of the loss in a score: it decides between settings that are right equally often."""


@dataclass(frozen=True)
class Goal:
    """``values``: what the network is to give for each window. A number is ``values * scale + offset``."""

    values: Array
    scale: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True)
class Answers:
    """Outputs of models for windows that they did not learn from.

    ``values``: probabilities ``(n, classes)``, numbers ``(n, 1)`` or anomaly scores ``(n, 1)``. ``targets``: what
    is true. ``recordings``, ``pieces``: where each window is from.
    """

    values: FloatArray
    targets: Array
    recordings: Array
    pieces: Array


class Lesson(Protocol):
    """A task."""

    @property
    def loss(self) -> Loss:
        """What is to become small."""

    @property
    def curve(self) -> bool:
        """Whether less data is tried, to see what more would do."""

    def outputs(self, elements: int) -> int:
        """Return how many outputs a network for windows of so many elements has."""

    def learnable(self, targets: Array) -> Array:
        """Return which windows may be learned from, bool ``(n,)``."""

    def goal(self, prepared: FloatArray, targets: Array, seen: Array) -> Goal:
        """Return what the network is to give; what scales it is taken from the ``seen`` windows."""

    def answer(self, outputs: FloatArray, inputs: FloatArray, goal: Goal) -> FloatArray:
        """Return what the outputs mean."""

    def score(self, answers: FloatArray, targets: Array, loss: float) -> float:
        """Return how good the answers are; higher is better."""

    def figures(self, answers: Answers) -> dict[str, Any]:
        """Return everything that is reported. ``better_than_chance`` is among it."""

    def decoder(self, figures: dict[str, Any]) -> dict[str, Any]:
        """Return the decoder's table of the bundle."""


def lesson(problem: Problem, false_alarms: float, threshold: float | None = None) -> Lesson:
    """Return the task of a problem. ``threshold``: of an anomaly, if it was chosen before."""
    if problem.task == "classify":
        return Classify(problem)
    return Regress(problem) if problem.task == "regress" else Anomaly(problem, false_alarms, threshold)


@dataclass(frozen=True)
class Classify:
    """Recognise labels."""

    problem: Problem
    loss: Loss = "cross_entropy"
    curve: bool = True

    def outputs(self, elements: int) -> int:  # noqa: ARG002 - of the protocol
        """Return one for each label."""
        return len(self.problem.labels)

    def learnable(self, targets: Array) -> Array:
        """Return all."""
        return np.ones(len(targets), np.bool_)

    def goal(self, prepared: FloatArray, targets: Array, seen: Array) -> Goal:  # noqa: ARG002
        """Return the classes."""
        return Goal(targets)

    def answer(self, outputs: FloatArray, inputs: FloatArray, goal: Goal) -> FloatArray:  # noqa: ARG002
        """Return the probabilities."""
        return outputs

    def score(self, answers: FloatArray, targets: Array, loss: float) -> float:
        """Return the balanced accuracy."""
        return scoring.balanced_accuracy(answers.argmax(axis=1), targets) - _WEIGHT * min(loss, 10.0)

    def figures(self, answers: Answers) -> dict[str, Any]:
        """Return accuracy, intervals, baselines, the confusion matrix and the accuracy of each recording."""
        found, true = self.problem, answers.targets
        figures = scoring.classification(answers.values, true, found.labels, answers.recordings, found.names)
        labels = [found.pieces[piece].label for piece in np.unique(answers.pieces)]
        least = scoring.fewest_chance(labels)
        chance = scoring.chance(answers.values.argmax(axis=1), true, answers.pieces)
        better = chance <= scoring.CHANCE or (least > scoring.CHANCE and chance <= 2 * least)
        better = better and figures["balanced_accuracy"] > figures["baselines"]["chance"]
        return figures | {
            "spans": len(found.pieces),
            "spans_too_short": len(found.pieces) - len(labels),
            "span_accuracy": scoring.by_piece(answers.values, true, answers.pieces),
            "p_chance": round(chance, 4),
            "better_than_chance": bool(better),
        }

    def decoder(self, figures: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        """Return the classifier's."""
        return {"kind": "classify"}


@dataclass(frozen=True)
class Regress:
    """Estimate a number."""

    problem: Problem
    loss: Loss = "squared"
    curve: bool = True

    def outputs(self, elements: int) -> int:  # noqa: ARG002 - of the protocol
        """Return one."""
        return 1

    def learnable(self, targets: Array) -> Array:
        """Return all."""
        return np.ones(len(targets), np.bool_)

    def goal(self, prepared: FloatArray, targets: Array, seen: Array) -> Goal:  # noqa: ARG002
        """Return the numbers, scaled so that any unit is learned alike."""
        scale, offset = max(float(targets[seen].std()), 1e-9), float(targets[seen].mean())
        return Goal(((targets - offset) / scale).astype(np.float32), scale, offset)

    def answer(self, outputs: FloatArray, inputs: FloatArray, goal: Goal) -> FloatArray:  # noqa: ARG002
        """Return the numbers in their unit."""
        return outputs * np.float32(goal.scale) + np.float32(goal.offset)

    def score(self, answers: FloatArray, targets: Array, loss: float) -> float:  # noqa: ARG002
        """Return R²."""
        return float(metrics.regression(answers, targets)["r2"])

    def figures(self, answers: Answers) -> dict[str, Any]:
        """Return errors, their intervals, what the mean alone would do, and the error of each recording."""
        error = np.abs(answers.values - answers.targets)[:, 0]
        found = metrics.regression(answers.values, answers.targets)
        mean = float(np.abs(answers.targets - answers.targets.mean()).mean())
        between = scoring.interval(answers.recordings, lambda at: float(error[at].mean()))
        names = self.problem.names
        return {
            **found,
            "unit": self.problem.unit,
            "intervals": {"mae": [between.low, between.high]} if between else {},
            "baselines": {"mae of the mean": mean},
            "recordings": [
                {
                    "file": names[one],
                    "windows": int((answers.recordings == one).sum()),
                    "mae": float(error[answers.recordings == one].mean()),
                }
                for one in np.unique(answers.recordings)
            ],
            "windows": len(error),
            "better_than_chance": bool(found["r2"] > 0 and found["mae"] < mean),
        }

    def decoder(self, figures: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        """Return the one that names the number."""
        return {"kind": "regress", "names": [self.problem.target], "unit": self.problem.unit}


@dataclass(frozen=True)
class Anomaly:
    """Know what is normal. ``false_alarms``: the share of normal windows that may count as anomalies.

    ``threshold``: the one to judge by. Default: chosen so that the share is kept.
    """

    problem: Problem
    false_alarms: float
    threshold: float | None = None
    loss: Loss = "squared"
    curve: bool = False

    def outputs(self, elements: int) -> int:
        """Return as many as a window has."""
        return elements

    def learnable(self, targets: Array) -> Array:
        """Return the normal windows."""
        return np.asarray(targets == 0)

    def goal(self, prepared: FloatArray, targets: Array, seen: Array) -> Goal:  # noqa: ARG002
        """Return the windows themselves."""
        return Goal(prepared.reshape(len(prepared), -1))

    def answer(self, outputs: FloatArray, inputs: FloatArray, goal: Goal) -> FloatArray:  # noqa: ARG002
        """Return the score of each window, ``(n, 1)``."""
        return reconstruction_error(outputs, inputs)[:, np.newaxis]

    def score(self, answers: FloatArray, targets: Array, loss: float) -> float:
        """Return the AUC if there are anomalies. Between equals, the setting that was proposed first is better."""
        return metrics.auc(answers[:, 0], targets == 1) if targets.any() else -loss

    def figures(self, answers: Answers) -> dict[str, Any]:
        """Return the threshold, what it does to normal windows, and how many anomalies are above it."""
        scores, true = answers.values[:, 0], answers.targets == 1
        threshold = self.threshold
        if threshold is None:
            threshold = _threshold(scores[~true], self.false_alarms)
        alarms = (scores >= threshold)[~true]
        normal_of = answers.recordings[~true]
        between = scoring.interval(normal_of, lambda at: float(alarms[at].mean()))
        found: dict[str, Any] = {
            "threshold": threshold,
            "false_alarms": float(alarms.mean()),
            "windows": len(scores),
            "normal_windows": int((~true).sum()),
            "recordings": [
                {
                    "file": self.problem.names[one],
                    "windows": int((normal_of == one).sum()),
                    "false_alarms": float(alarms[normal_of == one].mean()),
                }
                for one in np.unique(normal_of)
            ],
            "intervals": {"false_alarms": [between.low, between.high]} if between else {},
            "baselines": {},
            "better_than_chance": True,
        }
        if not true.any():
            return found
        return found | self._of_anomalies(scores, answers, threshold, found["intervals"])

    def _of_anomalies(
        self, scores: FloatArray, answers: Answers, threshold: float, intervals: dict[str, Any]
    ) -> dict[str, Any]:
        true = answers.targets == 1
        area = metrics.auc(scores, true)
        between = scoring.interval(answers.recordings, lambda at: metrics.auc(scores[at], true[at]))
        labels = np.array([piece.label for piece in self.problem.pieces])[answers.pieces]
        above = scores >= threshold
        return {
            **metrics.anomaly(scores, answers.targets, threshold),
            "anomalies": {
                str(label): {
                    "windows": int((labels == label).sum()),
                    "found": float(above[labels == label].mean()),
                }
                for label in np.unique(labels[true])
            },
            "intervals": intervals | ({"auc": [between.low, between.high]} if between else {}),
            "baselines": {"auc by chance": 0.5},
            "better_than_chance": bool((between.low if between else area) > 0.5),
        }

    def decoder(self, figures: dict[str, Any]) -> dict[str, Any]:
        """Return the one with the threshold."""
        return {"kind": "anomaly", "threshold": figures["threshold"]}


def threshold(outputs: FloatArray, normal: FloatArray, false_alarms: float) -> float:
    """Return the threshold for what a model makes of normal windows."""
    return _threshold(reconstruction_error(outputs.reshape(len(normal), -1), normal), false_alarms)


def reconstruction_error(outputs: FloatArray, inputs: FloatArray) -> FloatArray:
    """Return the mean squared error of each window, as the decoder ``anomaly`` computes it: float32 ``(n,)``."""
    return np.asarray(np.square(outputs - inputs.reshape(outputs.shape)).mean(axis=1), np.float32)


def _threshold(normal: FloatArray, false_alarms: float) -> float:
    """Return the score that a share of ``false_alarms`` of further normal windows reaches, at most.

    With so many windows that this can be said; with fewer, the threshold is just above the largest score.
    Source: V. Vovk and others, Algorithmic Learning in a Random World, 2005 (split conformal prediction).
    """
    ordered = np.sort(normal)
    place = math.ceil((len(ordered) + 1) * (1 - false_alarms))
    if place > len(ordered):
        return float(f"{1.01 * float(ordered[-1]):.6g}")
    return float(f"{float(np.nextafter(ordered[place - 1], np.float32(np.inf))):.6g}")
