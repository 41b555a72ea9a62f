"""The search, the scores and their intervals, and one training, without a framework."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from limpet_convert.training import fitting, scoring, search
from limpet_convert.training.fitting import BATCH, Examples, Schedule
from limpet_convert.training.networks import Network

if TYPE_CHECKING:
    from pathlib import Path

    from limpet.contracts.data import Array, FloatArray
    from limpet_convert.training.search import Rung


def test_halving_trains_the_better_settings_longer() -> None:
    calls: list[tuple[int, int]] = []

    def score(setting: int, rung: Rung) -> float:
        calls.append((setting, rung.epochs))
        return -abs(setting - 6)

    found = search.halve(range(12), search.rungs(12, 5, 40), score, lambda: False)
    assert found.best == 6
    assert found.complete
    assert [sum(1 for _, epochs in calls if epochs == wanted) for wanted in (10, 20, 40)] == [12, 3, 1]


def test_the_best_of_each_kind_gets_a_second_rung() -> None:
    found = search.halve(
        range(12), search.rungs(12, 5, 40), lambda s, rung: s + 100 * (s == 2 and rung.epochs > 10), lambda: False,
        lambda setting: "slow" if setting < 3 else "fast",
    )  # fmt: skip
    assert found.best == 2


def test_when_it_is_late_one_setting_still_ends_every_rung() -> None:
    found = search.halve(range(12), search.rungs(12, 5, 40), lambda setting, _: setting, lambda: True)
    assert found.best == 0
    assert not found.complete
    assert [one.rung for one in found.trials] == [0, 1, 2]


def test_an_interval_is_by_recording_and_needs_five() -> None:
    right = np.repeat([1.0, 1, 1, 0, 1, 1], 10)
    groups = np.repeat(np.arange(6), 10)
    found = scoring.interval(groups, lambda at: float(right[at].mean()))
    assert found is not None
    assert found.low < 0.7 < right.mean() < found.high  # sixty independent windows would give .74 to .93
    perfect = scoring.interval(groups, lambda at: float(np.ones(60)[at].mean()))
    assert perfect == scoring.Interval(pytest.approx(6 / 9.84, abs=0.001), 1.0)
    assert scoring.interval(groups[:40], lambda at: float(right[at].mean())) is None


def test_a_model_that_guesses_is_no_better_than_chance_and_a_good_one_is() -> None:
    pieces = np.repeat(np.arange(20), 5)
    true = np.repeat(np.arange(20) % 2, 5)
    guesses = np.random.default_rng(3).integers(0, 2, 20).repeat(5)
    assert scoring.chance(guesses, true, pieces) > 0.05
    assert scoring.chance(true, true, pieces) < 0.01
    assert scoring.fewest_chance(["a", "a", "b", "b"]) == pytest.approx(1 / 6)


STEPS = fitting.steps(20)
"""Batches of an epoch over twenty windows."""


class Mean:
    """A model whose one weight moves to the mean of the targets, and then beyond."""

    def __init__(self) -> None:
        self.weight = 0.0
        self.steps = 0

    def step(self, inputs: FloatArray, targets: Array, weights: FloatArray) -> None:
        assert inputs.shape[0] == targets.shape[0] == len(weights) == BATCH
        self.steps += 1
        self.weight += 1.0

    def predict(self, inputs: FloatArray) -> FloatArray:
        return np.full((len(inputs), 1), self.weight, np.float32)

    def weights(self) -> Any:
        return self.weight

    def restore(self, weights: Any) -> None:
        self.weight = weights

    def stretch(self, scale: float, offset: float) -> None:
        raise NotImplementedError

    def save(self, path: Path) -> None:
        raise NotImplementedError


class Counting:
    name, suffix, options, setup = "counting", ".none", dict[str, Any](), 0.0

    def __init__(self) -> None:
        self.made: list[Mean] = []

    def make(self, network: Network, rate: float, seed: int) -> Mean:  # noqa: ARG002 - of the protocol
        self.made.append(Mean())
        return self.made[-1]


def test_training_stops_early_and_keeps_the_best_weights() -> None:
    network = Network("mlp", (1, 2), 1, 4, "squared")
    seen = Examples(
        np.zeros((20, 1, 2), np.float32), np.full((20, 1), 5 * STEPS, np.float32), np.ones(20, np.float32)
    )
    backend = Counting()
    fitted = fitting.fit(backend, network, seen, seen, Schedule(0.1, 50, 4, 1))
    assert (fitted.epoch, fitted.loss) == (5, 0.0)
    assert backend.made[0].weight == 5.0 * STEPS
    assert backend.made[0].steps == 9 * STEPS


def test_few_windows_are_seen_several_times_in_an_epoch() -> None:
    seen = Examples(np.zeros((20, 1, 1), np.float32), np.arange(20), np.ones(20, np.float32))
    found = list(fitting.batches(seen, np.random.default_rng(1), noise=False))
    assert len(found) >= fitting.FEWEST_STEPS
    counts = np.bincount(np.concatenate([targets[weights > 0] for _, targets, weights in found]))
    assert counts.max() - counts.min() <= 1


def test_batches_have_one_size_and_fill_up_with_nothing() -> None:
    seen = Examples(np.arange(600, dtype=np.float32).reshape(600, 1, 1), np.arange(600), np.ones(600, np.float32))
    found = list(fitting.batches(seen, np.random.default_rng(1), noise=False))
    assert [inputs.shape for inputs, _, _ in found] == [(BATCH, 1, 1)] * 19
    used = np.concatenate([targets[weights > 0] for _, targets, weights in found])
    assert sorted(used.tolist()) == list(range(600))
    for inputs, targets, _ in found:
        assert np.array_equal(inputs[:, 0, 0], targets)


def test_the_size_of_a_network_is_known_before_it_is_made() -> None:
    cnn = Network("cnn", (48, 6), 4, 16, "cross_entropy")
    assert cnn.parameters == (6 * 5 * 16 + 16) + (16 * 3 * 32 + 32) + (32 * 3 * 32 + 32) + (32 * 4 + 4)
    assert Network("cnn", (48, 6), 4, 8, "cross_entropy").kilobytes < cnn.kilobytes
