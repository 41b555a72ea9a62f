"""Train one setting on some folds, search the best setting, and train it on everything."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from limpet_convert.errors import ConvertError
from limpet_convert.training import fitting, mahalanobis, proposals, search, sound, windows
from limpet_convert.training.fitting import BATCH, Examples, Fitted, Schedule, fit, loss
from limpet_convert.training.tasks import Answers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from limpet.contracts.data import Array, FloatArray
    from limpet_convert.training.fitting import Backend
    from limpet_convert.training.networks import Loss, Network
    from limpet_convert.training.problem import Problem
    from limpet_convert.training.proposals import Candidate
    from limpet_convert.training.search import Found, Rung
    from limpet_convert.training.tasks import Lesson
    from limpet_convert.training.windows import Windows

SEED = 1
EPOCHS = 40
PATIENCE = 8
FEW_FOLDS = 3
"""With fewer folds, none is left to stop by: training stops by the loss on what it learns from."""
_STEP, _SPEED = 1.5e-3, 25e9
"""Seconds of a step beside its sums, and operations a second. The search is planned by them, so that the plan is
always the same. The clock can only end it early."""


@dataclass(frozen=True)
class Held:
    """What a setting makes of windows that it did not learn from.

    ``values``: the models' outputs for each, see ``Answers``; ``at``: its position in ``Windows``. ``loss``: the
    mean loss. ``epochs``: those of each fold.
    """

    values: FloatArray
    at: Array
    loss: float
    epochs: tuple[int, ...]


@dataclass
class Trainer:
    """Trains for one problem. Windows are cut once for each size and kind of features."""

    backend: Backend
    problem: Problem
    lesson: Lesson
    until: float = float("inf")
    """When it is late, by the monotonic clock: nothing that can be left out begins any longer."""
    _cut: dict[tuple[int, str], Windows] = field(default_factory=dict)
    _held: dict[tuple[Candidate, tuple[int, ...], int], Held] = field(default_factory=dict)

    @property
    def late(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() > self.until

    def windows(self, candidate: Candidate) -> Windows:
        """Return the windows of a setting, before ``normalise``."""
        key = (candidate.size, candidate.features.name)
        if key not in self._cut:
            problem = self.problem
            self._cut[key] = windows.cut(
                problem.pieces, candidate.window, candidate.features.transforms, problem.rate
            )
        return self._cut[key]

    def network(self, candidate: Candidate) -> Network:
        """Return the network of a setting."""
        rows, channels = self.windows(candidate).values.shape[1:]
        return candidate.network((rows, channels), self.lesson.outputs(rows * channels), self.lesson.loss)

    def usable(self, candidates: Sequence[Candidate], kilobytes: float | None) -> list[Candidate]:
        """Return the settings that have windows of each label in two folds, and a network small enough."""
        found = []
        for candidate in candidates:
            cut = self.windows(candidate)
            if not len(cut) or not self._spread(cut):
                continue
            if kilobytes is None or self.network(candidate).kilobytes <= kilobytes:
                found.append(candidate)
        return found

    def _spread(self, cut: Windows) -> bool:
        fold, targets = self.problem.fold_of(cut), self.problem.targets(cut)
        if self.problem.task != "classify":
            return len(np.unique(fold[self.lesson.learnable(targets)])) == self.problem.fold_count
        return all(len(np.unique(fold[targets == one])) > 1 for one in range(len(self.problem.labels)))

    def held(self, candidate: Candidate, folds: Sequence[int], epochs: int, share: float = 1.0) -> Held:
        """Train once for each of ``folds``, and let each model answer for the fold that it has not seen.

        Training stops early by the next fold, which is neither learned from nor answered for. ``share``: of the
        windows of each class that may be learned from, whole recordings first.
        """
        key = (candidate, tuple(folds), epochs)
        if share == 1 and key in self._held:
            return self._held[key]
        found = [self._fold(candidate, fold, epochs, share) for fold in folds]
        held = Held(
            np.concatenate([one.values for one in found]),
            np.concatenate([one.at for one in found]),
            float(np.mean([one.loss for one in found])),
            tuple(epoch for one in found for epoch in one.epochs),
        )
        if share == 1:
            self._held[key] = held
        return held

    def _fold(self, candidate: Candidate, held: int, epochs: int, share: float) -> Held:
        cut, network, lesson = self.windows(candidate), self.network(candidate), self.lesson
        fold, targets = self.problem.fold_of(cut), self.problem.targets(cut)
        learnable = lesson.learnable(targets)
        seen = learnable & (fold != held)
        stop = seen & (fold == (held + 1) % self.problem.fold_count)
        if self.problem.fold_count < FEW_FOLDS or not stop.any():
            stop = seen
        else:
            seen &= ~stop
        if share < 1:
            seen = _part(seen, targets, share)
        prepared = self._prepared(candidate, cut, seen)
        goal = lesson.goal(prepared, targets, seen)
        fitted = self._fit(
            candidate,
            network,
            _examples(prepared, goal.values, seen, lesson.loss),
            _examples(prepared, goal.values, stop, lesson.loss),
            epochs,
        )
        at = np.flatnonzero(fold == held)
        outputs = fitted.model.predict(prepared[at])
        judged = learnable[at]
        lost = loss(network, outputs[judged], _examples(prepared[at], goal.values[at], judged, lesson.loss))
        return Held(lesson.answer(outputs, prepared[at], goal), at, lost, (fitted.epoch,))

    def _fit(
        self, candidate: Candidate, network: Network, seen: Examples, stop: Examples | None, epochs: int
    ) -> Fitted:
        if network.kind == "mahalanobis":
            model = self.backend.make(network, candidate.rate, SEED)
            model.set_last(*mahalanobis.layer(seen.inputs.reshape(len(seen), -1)))
            return Fitted(model, 1, 0.0)
        noise = network.kind in {"cnn", "dscnn"}
        schedule = Schedule(candidate.rate, epochs, PATIENCE, SEED, noise, loudness=network.kind == "dscnn")
        return fit(self.backend, network, seen, stop, schedule)

    def _prepared(self, candidate: Candidate, cut: Windows, seen: Array) -> FloatArray:
        transform = windows.normaliser(cut.values[seen], by_channel=candidate.features.by_channel)
        return windows.normalised(cut.values, transform)

    def score(self, candidate: Candidate, rung: Rung) -> float:
        """Return how good a setting is; higher is better."""
        found = self.held(candidate, range(rung.folds), rung.epochs)
        targets = self.problem.targets(self.windows(candidate))[found.at]
        return self.lesson.score(found.values, targets, found.loss)

    def answers(self, candidate: Candidate, held: Held) -> Answers:
        """Return what is known of the held windows."""
        cut = self.windows(candidate)
        targets, recordings = self.problem.targets(cut), self.problem.recording_of(cut)
        return Answers(held.values, targets[held.at], recordings[held.at], cut.piece[held.at])

    def search(
        self, candidates: Sequence[Candidate], budget: float, tick: Callable[[float], object]
    ) -> Found[Candidate]:
        """Return the best setting. The plan depends on ``budget`` in seconds, not on how fast this machine is."""
        self.until = time.monotonic() + budget
        planned = self._planned(candidates, budget / 2)
        rungs = search.rungs(len(planned), self.problem.fold_count, EPOCHS)
        steps, total = iter(range(1, 10_000)), len(planned) + rungs[0].keep + rungs[1].keep

        def score(candidate: Candidate, rung: Rung) -> float:
            tick(min(0.99, next(steps) / total))
            return self.score(candidate, rung)

        return search.halve(planned, rungs, score, lambda: self.late, lambda one: one.features.name)

    def _planned(self, candidates: Sequence[Candidate], budget: float) -> list[Candidate]:
        """Return as many settings as the budget is enough for, by a fixed estimate."""
        found: list[Candidate] = []
        spent = 0.0
        for candidate in candidates:
            total = fitting.steps(len(self.windows(candidate))) * EPOCHS
            operations = 6 * BATCH * self.network(candidate).operations
            spent += 0.9 * total * (_STEP + operations / _SPEED) + 4 * self.backend.setup
            if found and spent > budget:
                break
            found.append(candidate)
        return found

    def final(self, candidate: Candidate, epochs: int) -> tuple[Fitted, dict[str, Any]]:
        """Train on everything, for so many epochs. Return the model and its ``normalise``."""
        found = replace(self.problem, pieces=self.problem.whole)
        cut = windows.cut(found.pieces, candidate.window, candidate.features.transforms, found.rate)
        targets = found.targets(cut)
        seen = self.lesson.learnable(targets)
        transform = windows.normaliser(cut.values[seen], by_channel=candidate.features.by_channel)
        prepared = windows.normalised(cut.values, transform)
        goal = self.lesson.goal(prepared, targets, seen)
        examples = _examples(prepared, goal.values, seen, self.lesson.loss)
        fitted = self._fit(candidate, self.network(candidate), examples, None, epochs)
        if not np.isfinite(fitted.model.predict(prepared[:BATCH])).all():
            raise ConvertError(
                "training diverged: the model gives values that are not numbers. Check the recordings."
            )
        if (goal.scale, goal.offset) != (1.0, 0.0):
            kernel, bias = fitted.model.last()
            scale, offset = np.float32(goal.scale), np.float32(goal.offset)
            fitted.model.set_last(kernel * scale, bias * scale + offset)
        return fitted, transform


def _part(seen: Array, targets: Array, share: float) -> Array:
    """Return a share of the seen windows of each class, from the first on: recordings stay whole."""
    found = np.zeros_like(seen)
    classes = targets if targets.ndim == 1 else np.zeros(len(targets), np.int64)
    for one in np.unique(classes):
        at = np.flatnonzero(seen & (classes == one))
        found[at[: max(1, round(share * len(at)))]] = True
    return found


def _examples(inputs: FloatArray, goals: Array, chosen: Array, loss: Loss) -> Examples:
    """Return the chosen windows. Each class weighs as much as any other, however many windows it has."""
    wanted = goals[chosen]
    weights = np.ones(len(wanted), np.float32)
    if loss == "cross_entropy":
        counts = np.bincount(wanted)
        weights = (len(wanted) / (np.count_nonzero(counts) * counts[wanted])).astype(np.float32)
    return Examples(inputs[chosen], wanted, weights)


def propose(problem: Problem, sizes: Sequence[int]) -> proposals.Plan:
    """Return the settings to try for a problem. ``ConvertError`` where a window does not fit into any span."""
    longest = max(len(piece.values) for piece in problem.pieces)
    if sizes and min(sizes) > longest:
        raise ConvertError(
            f"--window: {min(sizes)} samples, but the longest span has {longest}. Use a shorter window."
        )
    if problem.sound:
        return sound.plan(problem, sizes)
    if problem.task != "anomaly":
        return proposals.plan(problem.pieces, problem.rate, sizes)
    normal = [piece for piece in problem.pieces if not piece.label]
    return proposals.of_normal(normal, problem.rate, sizes, measured=len(normal) < len(problem.pieces))
