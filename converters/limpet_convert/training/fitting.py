"""One training: batches, early stopping, and the weights of the best epoch. Frameworks are in ``backends``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from limpet.contracts.data import Array, FloatArray
    from limpet_convert.training.networks import Network

BATCH = 32
FEWEST_STEPS, STEPS = 16, 100
"""Batches of an epoch. Few windows are seen several times in it; of many windows, each epoch sees others."""
_LEAST = 1e-7
_JITTER, _SCALE = 0.05, 0.1
"""Noise added to a raw window, in standard deviations, and the share by which it is made larger or smaller."""
_LOUDER = 0.3
"""Standard deviations by which a window of sound is made louder or quieter."""


class Model(Protocol):
    """A network in a framework."""

    def step(self, inputs: FloatArray, targets: Array, weights: FloatArray) -> None:
        """Learn from a batch of ``BATCH`` windows ``(BATCH, rows, channels)``."""

    def predict(self, inputs: FloatArray) -> FloatArray:
        """Return the outputs ``(n, outputs)``: probabilities or numbers."""

    def weights(self) -> Any:
        """Return a copy of all weights."""

    def restore(self, weights: Any) -> None:
        """Set all weights."""

    def last(self) -> tuple[FloatArray, FloatArray]:
        """Return the last layer: kernel ``(inputs, outputs)`` and bias ``(outputs,)``."""

    def set_last(self, kernel: FloatArray, bias: FloatArray) -> None:
        """Set the last layer."""

    def save(self, path: Path) -> None:
        """Write the model. The same weights give the same bytes."""


class Backend(Protocol):
    """A framework. ``suffix`` is that of its model files, ``options`` are those of ``[model]``.

    ``setup``: seconds that it takes to make a network ready.
    """

    name: str
    suffix: str
    options: dict[str, Any]
    setup: float

    def make(self, network: Network, rate: float, seed: int) -> Model:
        """Make a network with random weights. ``rate`` is the learning rate. ``noise``: see ``batches``."""


@dataclass(frozen=True)
class Examples:
    """``inputs``: float32 ``(n, rows, channels)``. ``targets``: int64 ``(n,)`` or float32 ``(n, outputs)``.

    ``weights``: float32 ``(n,)``, of a mean of 1.
    """

    inputs: FloatArray
    targets: Array
    weights: FloatArray

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(frozen=True)
class Schedule:
    """``epochs`` at most. After ``patience`` epochs without a better loss, training stops.

    ``rate`` is the learning rate. ``noise``, ``loudness``: see ``batches``.
    """

    rate: float
    epochs: int
    patience: int
    seed: int
    noise: bool = False
    loudness: bool = False


@dataclass(frozen=True)
class Fitted:
    """A trained model. ``epoch`` (from 1) is that of its weights, ``loss`` is that of the held-back windows."""

    model: Model
    epoch: int
    loss: float


def fit(backend: Backend, network: Network, seen: Examples, held: Examples | None, schedule: Schedule) -> Fitted:
    """Train a network. With ``held``, its weights are those of the epoch with the least loss on it."""
    model = backend.make(network, schedule.rate, schedule.seed)
    random = np.random.default_rng(schedule.seed)
    best, epoch, kept = float("inf"), 0, None
    for number in range(1, schedule.epochs + 1):
        for inputs, targets, weights in batches(seen, random, noise=schedule.noise, loudness=schedule.loudness):
            model.step(inputs, targets, weights)
        if held is None:
            continue
        now = loss(network, model.predict(held.inputs), held)
        if now < best:
            best, epoch, kept = now, number, model.weights()
        elif number - epoch >= schedule.patience:
            break
    if kept is not None:
        model.restore(kept)
    return Fitted(model, epoch or schedule.epochs, best)


def steps(windows: int) -> int:
    """Return how many batches an epoch has."""
    return min(STEPS, max(FEWEST_STEPS, -(-windows // BATCH)))


def batches(
    seen: Examples, random: np.random.Generator, *, noise: bool, loudness: bool = False
) -> Iterator[tuple[FloatArray, Array, FloatArray]]:
    """Yield an epoch's batches in random order. The last one is filled up with windows of weight 0.

    With ``noise``, each window is made a little larger or smaller and gets noise: the next sensor is not the same.
    With ``loudness``, a number is added to each window: logarithms of sound change so if it is louder.
    """
    wanted = steps(len(seen)) * BATCH
    rounds = max(1, -(-FEWEST_STEPS * BATCH // len(seen)))
    order = np.concatenate([random.permutation(len(seen)) for _ in range(rounds)])[:wanted]
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        weights = np.zeros(BATCH, np.float32)
        weights[: len(chosen)] = seen.weights[chosen]
        chosen = np.resize(chosen, BATCH)
        inputs = seen.inputs[chosen]
        if noise:
            scale = 1 + _SCALE * random.standard_normal((BATCH, 1, 1), np.float32)
            inputs = inputs * scale + np.float32(_JITTER) * random.standard_normal(inputs.shape, np.float32)
        if loudness:
            inputs = inputs + np.float32(_LOUDER) * random.standard_normal((BATCH, 1, 1), np.float32)
        yield inputs, seen.targets[chosen], weights


def loss(network: Network, outputs: FloatArray, examples: Examples) -> float:
    """Return the weighted mean loss, as the frameworks compute it."""
    if network.loss == "cross_entropy":
        right = outputs[np.arange(len(outputs)), examples.targets.astype(int)]
        each = -np.log(np.maximum(right, _LEAST))
    else:
        each = np.square(outputs - examples.targets.reshape(outputs.shape)).mean(axis=1)
    return float((each * examples.weights).sum() / max(float(examples.weights.sum()), _LEAST))
