"""Train the two models of a cascade on written digits as they were scanned. Runs in .venv-convert, see models.py.

The training part is 900 digits (scikit-learn), moved by a pixel and dimmed. The calibration part and the test part
are other digits as they are. The large model has 900 times as many multiply-adds.
"""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

import models
from limpet_convert.converters import keras
from limpet_convert.int8 import repeatable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from limpet.contracts.data import Array

TRAINED, VARIATIONS = 900, 5
"""Digits of the training part, and pictures made of each."""
NETWORKS: dict[str, tuple[list[tuple[int, int]], list[int], int]] = {
    "digits-light": ([(8, 1), (16, 2)], [], 12),
    "digits-large": ([(128, 1), (128, 1), (256, 2), (256, 1)], [128], 6),
}
"""Convolutions as channels and stride, dense layers, and epochs."""


def main() -> int:
    """Make the models that are missing."""
    import tensorflow as tf

    for name, network in NETWORKS.items():
        folder = models.MODELS / name
        if (folder / "data.npz").exists():
            continue
        tf.keras.utils.set_random_seed(16)
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "data").mkdir(parents=True)
        print(f"model {name}", flush=True)
        models.finish(name, folder, digits(folder, *network))
    return 0


def digits(
    folder: Path, convolutions: Sequence[tuple[int, int]], dense: Sequence[int], epochs: int
) -> dict[str, dict[str, Any]]:
    """Train a network, and write its data. Return the tables of its project file."""
    import tensorflow as tf
    from sklearn.datasets import load_digits

    found = load_digits()
    order = np.random.default_rng(3).permutation(len(found.images))
    layers = tf.keras.layers
    network = tf.keras.Sequential(
        [
            tf.keras.Input((8, 8, 1)),
            *(layers.Conv2D(n, 3, strides=by, padding="same", activation="relu") for n, by in convolutions),
            layers.Flatten(),
            *(layer for n in dense for layer in (layers.Dropout(0.4), layers.Dense(n, activation="relu"))),
            layers.Dense(10),
        ]
    )
    inputs, targets = _varied(found.images[order[:TRAINED]], found.target[order[:TRAINED]])
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(tf.keras.optimizers.Adam(2e-3), loss, jit_compile=False)
    network.fit(inputs / np.float32(16), targets, 64, epochs, verbose=0)
    keras.save(network, folder / "model.keras")
    np.save(folder / "data" / "ranges.npy", inputs.astype(np.uint8)[:: VARIATIONS // 2])
    for part, rows in (("calibration", order[TRAINED::2]), ("test", order[TRAINED + 1 :: 2])):
        pictures = found.images[rows].astype(np.uint8)[..., None]
        groups = np.where(found.target[rows] < 5, "low", "high")
        for suffix, values in (("", pictures), ("_targets", found.target[rows]), ("_groups", groups)):
            np.save(folder / "data" / f"{part}{suffix}.npy", values)
    return {
        "model": {"path": "model.keras", "options": {"open_batch": True}},
        "data": {
            "calibration": "data/ranges.npy",
            "test": "data/calibration.npy",
            "targets": "data/calibration_targets.npy",
            "groups": "data/calibration_groups.npy",
        },
        "bundle": {
            "task": "classify",
            "description": "Handwritten digits of 8 x 8 pixels, as they were scanned",
            "labels": [str(digit) for digit in range(10)],
            "transforms": [{"kind": "normalise", "mean": 0.0, "std": 16.0}],
            "decoder": models.LOGITS,
        },
    }


def _varied(images: Array, targets: Array) -> tuple[Array, Array]:
    """Return pictures of each digit, float32 ``(n, 8, 8, 1)`` from 0 to 16, and their digits."""
    random = np.random.default_rng(4)
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    pictures = []
    for number in range(VARIATIONS):
        x, y = random.integers(0, 3, (2, len(images))) if number else np.ones((2, len(images)), int)
        moved = np.stack([one[a : a + 8, b : b + 8] for one, a, b in zip(padded, x, y, strict=True)])
        dim = random.uniform(0.7, 1, (len(images), 1, 1)) if number else 1.0
        noise = random.normal(size=images.shape) if number else 0.0
        pictures.append((moved * dim + noise).round().clip(0, 16).astype(np.float32))
    return np.stack(pictures, axis=1).reshape(-1, 8, 8, 1), np.repeat(targets, VARIATIONS)


if __name__ == "__main__":
    repeatable()
    sys.exit(main())
