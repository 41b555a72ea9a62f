"""What the recipes share: digits, one small network in Keras and in PyTorch, and how a result is measured."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0", "CUDA_VISIBLE_DEVICES": ""}

import keras
import numpy as np
import tensorflow as tf
import torch
from sklearn.datasets import load_digits

from limpet_convert import compare, observers, tuning
from limpet_convert.converters.keras import to_tflite as from_keras
from limpet_convert.converters.torch import to_tflite as from_torch
from limpet_convert.quantize import quantize

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from limpet.contracts.data import Array

SEED, BATCH, TRAINED = 3, 32, 1200


class Digits:
    """Images float32 ``(n, 8, 8, 1)`` from 0 to 1 and their classes, for training and for the test."""

    def __init__(self) -> None:
        digits = load_digits()
        order = np.random.default_rng(SEED).permutation(len(digits.images))
        images, classes = (digits.images[..., None] / 16).astype(np.float32), digits.target
        self.images, self.test = images[order[:TRAINED]], images[order[TRAINED:]]
        self.classes, self.truth = classes[order[:TRAINED]], classes[order[TRAINED:]]

    def batches(self, epochs: int) -> Any:
        """Yield indices of batches."""
        shuffle = np.random.default_rng(SEED)
        for _ in range(epochs):
            yield from np.array_split(shuffle.permutation(len(self.images)), len(self.images) // BATCH)


def keras_network(widths: Sequence[int]) -> Any:
    keras.utils.set_random_seed(SEED)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(widths[0], 3, padding="same", activation="relu", name="strokes"),
            layers.Conv2D(widths[1], 3, strides=2, padding="same", activation="relu", name="parts"),
            layers.Flatten(),
            layers.Dense(widths[2], activation="relu", name="mix"),
            layers.Dense(10, name="head"),
        ]
    )


def torch_network(widths: Sequence[int]) -> torch.nn.Sequential:
    torch.manual_seed(SEED)
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(1, widths[0], 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(widths[0], widths[1], 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(widths[1] * 16, widths[2]),
        nn.ReLU(),
        nn.Linear(widths[2], 10),
    )


def keras_fit(
    network: Any, digits: Digits, epochs: int, rate: float = 1e-3, after: Callable[[], object] = lambda: None
) -> None:
    """Train on cross entropy; ``after`` is called after each step."""
    optimizer, loss = keras.optimizers.Adam(rate), keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function(reduce_retracing=True)
    def step(images: Any, classes: Any) -> None:
        with tf.GradientTape() as tape:
            error = loss(classes, network(images, training=True))
        variables = network.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(error, variables), variables, strict=True))

    network(digits.images[:1])
    optimizer.build(network.trainable_variables)
    for batch in digits.batches(epochs):
        step(digits.images[batch], digits.classes[batch])
        after()


def pictures(images: Array) -> torch.Tensor:
    """Return images as PyTorch has them, channels first."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def torch_fit(
    network: Any, digits: Digits, epochs: int, rate: float = 1e-3, after: Callable[[], object] = lambda: None
) -> None:
    """Train on cross entropy; ``after`` is called after each step."""
    x, y = pictures(digits.images), torch.from_numpy(digits.classes)
    optimizer = torch.optim.Adam(network.parameters(), rate)
    for batch in digits.batches(epochs):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(x[batch]), y[batch]).backward()
        optimizer.step()
        after()


def measure(network: Any, digits: Digits) -> dict[str, float]:
    """Return accuracy in float and int8, the int8 file's bytes as it is and compressed, and microseconds a run."""
    if isinstance(network, torch.nn.Module):
        model = from_torch(network.eval(), (pictures(digits.images[:1]),), "channels_last")
    else:
        model = from_keras(network)
    int8 = quantize(model, "int8", observers.ranges(model, digits.images[:300]))
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for name, content in (("float", model), ("int8", int8)):
            path = Path(folder) / f"{name}.tflite"
            path.write_bytes(content)
            said = compare.run(path, digits.test).values[0].reshape(len(digits.test), -1).argmax(axis=1)
            found[name] = round(float((said == digits.truth).mean()), 4)
        found["bytes"], found["compressed"] = len(int8), len(zlib.compress(int8, 9))
        found["microseconds"] = round(tuning.median_microseconds(path, digits.test), 1)
    return found


def print_comparisons(results: dict[str, dict[str, float]]) -> None:
    """Print a line a result."""
    for name, figures in results.items():
        print(f"{name:34} {json.dumps(figures)}")
    sys.stdout.flush()
