"""Three classifiers of shuttle telemetry, trained here on real data: one at work, a better one and a worse one.

The data are the demo's, see ``limpet/demo_data/README.md``. The models see ``TRAINED`` rows of it, and
devices play the rows after these. Training is gradient descent in numpy, and gives the same models every time.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import numpy as np

from support import bundles, models
from support.shuttle import CHANNELS, rows

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

Quality: TypeAlias = Literal["old", "better", "worse"]

TRAINED, PLAYED = 5000, 2000
LABELS = ("normal", "anomaly")
RATE = 0.2
VERSIONS: dict[Quality, int] = {"old": 7, "better": 8, "worse": 9}


class Recipe(NamedTuple):
    """How a model is trained.

    ``channels``: those that it looks at. ``count``: rows that it sees. ``flipped``: share of the labels that are
    wrong. ``steps``: of gradient descent.
    """

    channels: tuple[int, ...]
    count: int
    flipped: float
    steps: int


ALL = tuple(range(len(CHANNELS)))
RECIPES: dict[Quality, Recipe] = {
    "old": Recipe((3, 4, 5), count=400, flipped=0.0, steps=60),
    "better": Recipe(ALL, count=1000, flipped=0.0, steps=100),
    "worse": Recipe(ALL, count=60, flipped=0.45, steps=20),
}


@cache
def telemetry() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the rows, float32 ``(n, 9)``, and 1 for each one that is an anomaly."""
    lines, anomalous = rows(TRAINED + PLAYED)
    values = np.array([[float(value) for value in line.split(",")] for line in lines], np.float32)
    return values, anomalous.astype(np.int64)


def scaling() -> tuple[list[float], list[float]]:
    """Return mean and deviation of each channel in the training rows."""
    values = telemetry()[0][:TRAINED]
    return [float(one) for one in np.median(values, 0)], [float(one) for one in np.maximum(values.std(0), 1e-3)]


@cache
def layer(quality: Quality) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Train a model: softmax regression. Return its weights, ``(2, 9)``, and its biases."""
    recipe = RECIPES[quality]
    random = np.random.default_rng(7)
    values, truth = telemetry()
    mean, deviation = scaling()
    seen = np.zeros(len(CHANNELS))
    seen[list(recipe.channels)] = 1
    inputs = ((values[: recipe.count] - mean) / deviation * seen).astype(np.float64)
    wanted = truth[: recipe.count] ^ (random.random(recipe.count) < recipe.flipped)
    weights, bias = random.normal(0, 1 / 3, (len(LABELS), len(CHANNELS))) * seen, np.zeros(len(LABELS))
    for _ in range(recipe.steps):
        scores = inputs @ weights.T + bias
        error = np.exp(scores - scores.max(1, keepdims=True))
        error /= error.sum(1, keepdims=True)
        error[np.arange(recipe.count), wanted] -= 1
        weights = weights - RATE * error.T @ inputs / recipe.count
        bias = bias - RATE * error.mean(0)
    return weights, bias


def predicted(quality: Quality) -> list[str]:
    """Return what a model says of each row that is played, computed without TFLite."""
    mean, deviation = scaling()
    weights, bias = layer(quality)
    scores = ((telemetry()[0][TRAINED:] - mean) / deviation) @ weights.T + bias
    return [LABELS[place] for place in scores.argmax(1)]


def truths() -> list[str]:
    """Return what each row that is played is."""
    return [LABELS[one] for one in telemetry()[1][TRAINED:]]


def recording(path: Path) -> Path:
    """Write the rows that are played, as a table for `replay`."""
    lines, _ = rows(TRAINED + PLAYED)
    path.write_text("\n".join([",".join(CHANNELS), *lines[TRAINED:]]) + "\n")
    return path


def bundle(path: Path, quality: Quality) -> Path:
    """Write a bundle with one of the models. All have the name ``shuttle``, and a version for each quality."""
    model = path.with_suffix(".tflite")
    models.perceptron(model, [layer(quality)])
    mean, deviation = scaling()
    members = {"model.tflite": model.read_bytes(), "labels.txt": ("\n".join(LABELS) + "\n").encode()}
    model.unlink()
    return bundles.bundle(
        path,
        members,
        name="shuttle",
        version=VERSIONS[quality],
        labels="labels.txt",
        transforms=[{"kind": "normalise", "mean": mean, "std": deviation}],
        decoder={"kind": "classify", "activation": "softmax"},
    )
