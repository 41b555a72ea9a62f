"""Train one setting on some folds, search the best setting, and train it on everything."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from limpet_convert.errors import ConvertError
from limpet_convert.training import proposals, scoring, search, windows
from limpet_convert.training.fitting import BATCH, STEPS, Examples, Fitted, Schedule, fit, loss

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from limpet.contracts.data import Array, FloatArray
    from limpet_convert.training.fitting import Backend
    from limpet_convert.training.networks import Loss, Network
    from limpet_convert.training.problem import Problem
    from limpet_convert.training.proposals import Candidate
    from limpet_convert.training.search import Found, Rung
    from limpet_convert.training.windows import Windows

SEED = 1
EPOCHS = 40
PATIENCE = 8
FEW_FOLDS = 3
"""With fewer folds, none is left to stop by: training stops by the loss on what it learns from."""
_STEP, _SPEED = 1e-3, 2e9
"""Seconds of a step beside its sums, and operations a second. The search is planned by them, so that the plan is
always the same. The clock can only end it early."""


@dataclass(frozen=True)
class Held:
    """What a setting makes of windows that it did not learn from.

    ``outputs``: float32 ``(n, outputs)``; ``at``: the position of each in ``Windows``. ``loss``: their mean loss.
    ``epochs``: those of each fold.
    """

    outputs: FloatArray
    at: Array
    loss: float
    epochs: tuple[int, ...]


@dataclass
class Trainer:
    """Trains for one problem. Windows are cut once for each size and kind of features."""

    backend: Backend
    problem: Problem
    _cut: dict[tuple[int, str], Windows] = field(default_factory=dict)

    @property
    def loss(self) -> Loss:
        """What is to become small."""
        return "cross_entropy" if self.problem.task == "classify" else "squared"

    @property
    def outputs(self) -> int:
        """Outputs of the network."""
        return len(self.problem.labels) if self.problem.task == "classify" else 1

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
        return candidate.network((rows, channels), self.outputs, self.loss)

    def usable(self, candidates: Sequence[Candidate], kilobytes: float | None) -> list[Candidate]:
        """Return the settings that have windows of each label in two folds or more, and a network small enough."""
        found = []
        for candidate in candidates:
            cut = self.windows(candidate)
            if not len(cut) or not self._spread(cut):
                continue
            if kilobytes is None or self.network(candidate).kilobytes <= kilobytes:
                found.append(candidate)
        return found

    def _spread(self, cut: Windows) -> bool:
        fold = self.problem.fold_of(cut)
        if self.problem.task != "classify":
            return len(np.unique(fold)) > 1
        targets = self.problem.targets(cut)
        return all(len(np.unique(fold[targets == one])) > 1 for one in range(len(self.problem.labels)))

    def held(self, candidate: Candidate, folds: Sequence[int], epochs: int, part: Array | None = None) -> Held:
        """Train once for each of ``folds``, and let each model answer for the fold that it has not seen.

        Training stops early by the next fold, which is neither learned from nor answered for. ``part``: bool
        ``(n,)``, windows that may be learned from.
        """
        cut = self.windows(candidate)
        fold, targets = self.problem.fold_of(cut), self.problem.targets(cut)
        count = self.problem.fold_count
        outputs, at, losses, ended = [], [], [], []
        for held in folds:
            seen = fold != held
            if part is not None:
                seen &= part
            stop = None
            if count >= FEW_FOLDS:
                stop = seen & (fold == (held + 1) % count)
                seen = seen & ~stop
            prepared = self._prepared(candidate, cut, seen)
            scale, offset = self._scaling(targets[seen])
            scaled = (targets - offset) / scale if self.loss == "squared" else targets
            examples = _examples(prepared, scaled, seen, self.loss)
            stopping = _examples(prepared, scaled, seen if stop is None or not stop.any() else stop, self.loss)
            network = self.network(candidate)
            fitted = fit(self.backend, network, examples, stopping, self._schedule(candidate, epochs))
            asked = np.flatnonzero(fold == held)
            answered = fitted.model.predict(prepared[asked])
            losses.append(loss(network, answered, _examples(prepared, scaled, fold == held, self.loss)))
            outputs.append(answered * np.float32(scale) + np.float32(offset))
            at.append(asked)
            ended.append(fitted.epoch)
        return Held(np.concatenate(outputs), np.concatenate(at), float(np.mean(losses)), tuple(ended))

    def _scaling(self, targets: Array) -> tuple[float, float]:
        """Return what numbers are divided by and what is subtracted before, so that any unit is learned alike."""
        if self.loss == "cross_entropy":
            return 1.0, 0.0
        return max(float(targets.std()), 1e-9), float(targets.mean())

    def _prepared(self, candidate: Candidate, cut: Windows, seen: Array) -> FloatArray:
        transform = windows.normaliser(cut.values[seen], by_channel=not candidate.features.transforms)
        return windows.normalised(cut.values, transform)

    def _schedule(self, candidate: Candidate, epochs: int) -> Schedule:
        noise = candidate.features.network == "cnn"
        return Schedule(candidate.rate, epochs, PATIENCE, SEED, noise)

    def score(self, candidate: Candidate, rung: Rung) -> float:
        """Return how good a setting is; higher is better. The loss decides between equals."""
        found = self.held(candidate, range(rung.folds), rung.epochs)
        targets = self.problem.targets(self.windows(candidate))[found.at]
        if self.problem.task == "classify":
            return scoring.balanced_accuracy(found.outputs.argmax(axis=1), targets) - 0.01 * min(found.loss, 10.0)
        return -found.loss

    def search(
        self, candidates: Sequence[Candidate], budget: float, tick: Callable[[float], object]
    ) -> Found[Candidate]:
        """Return the best setting. The plan depends on ``budget`` in seconds, not on how fast this machine is."""
        until = time.monotonic() + budget
        planned = self._planned(candidates, budget / 2)
        rungs = search.rungs(len(planned), self.problem.fold_count, EPOCHS)
        steps, total = iter(range(1, 10_000)), len(planned) + rungs[0].keep + rungs[1].keep

        def score(candidate: Candidate, rung: Rung) -> float:
            tick(min(0.99, next(steps) / total))
            return self.score(candidate, rung)

        return search.halve(planned, rungs, score, lambda: time.monotonic() > until)

    def _planned(self, candidates: Sequence[Candidate], budget: float) -> list[Candidate]:
        """Return as many settings as the budget is enough for, by a fixed estimate."""
        found: list[Candidate] = []
        spent = 0.0
        for candidate in candidates:
            steps = min(STEPS, -(-len(self.windows(candidate)) // BATCH)) * EPOCHS
            operations = 6 * BATCH * self.network(candidate).operations
            spent += 0.6 * steps * (_STEP + operations / _SPEED)
            if found and spent > budget:
                break
            found.append(candidate)
        return found

    def final(self, candidate: Candidate, epochs: int) -> tuple[Fitted, dict[str, Any]]:
        """Train on everything, for so many epochs. Return the model and its ``normalise``."""
        found = replace(self.problem, pieces=self.problem.whole)
        cut = windows.cut(found.pieces, candidate.window, candidate.features.transforms, found.rate)
        everything = np.ones(len(cut), np.bool_)
        transform = windows.normaliser(cut.values, by_channel=not candidate.features.transforms)
        prepared = windows.normalised(cut.values, transform)
        targets = found.targets(cut)
        scale, offset = self._scaling(targets)
        scaled = (targets - offset) / scale if self.loss == "squared" else targets
        examples = _examples(prepared, scaled, everything, self.loss)
        fitted = fit(self.backend, self.network(candidate), examples, None, self._schedule(candidate, epochs))
        if self.loss == "squared":
            fitted.model.stretch(scale, offset)
        return fitted, transform


def _examples(inputs: FloatArray, targets: Array, chosen: Array, loss: Loss) -> Examples:
    """Return the chosen windows. Each class weighs as much as any other, however many windows it has."""
    wanted = targets[chosen]
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
    return proposals.plan(problem.pieces, problem.rate, sizes)
