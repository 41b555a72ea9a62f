"""Space shuttle telemetry and the autoencoder that the demo's model is made of.

The data are UCI's Statlog (Shuttle) in the form of the ODDS benchmark, from the package ``river``. They have
49,097 rows of nine channels, and 7 % of the rows are anomalies. The channels are ``f1`` to ``f9``: the source
gives no other names; ``f1`` is a time. Rows stand in random order since UCI shuffled them, and no two are equal.

A hash of a row's nine values decides its part. So a row alone shows that it was not trained on. The autoencoder
learns to reproduce the normal rows of the training part. What it reproduces badly, by mean squared error, is
anomalous; the threshold is the one with the best F1 on the validation part. The test part is looked at once, at
the end, and is what the demo plays.

``converters/examples/shuttle`` trains it and makes the bundle.
"""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from limpet.contracts.data import Array, FloatArray

Bools: TypeAlias = NDArray[np.bool_]
Part: TypeAlias = Literal["training", "validation", "test"]

SEED = 20
CHANNELS = [f"f{i}" for i in range(1, 10)]
SHA256 = "1ed4bfa77233d95bff2c8ab2482725d2d800410daedf5919ad80ec6faf60ff59"
EXCERPT = "shuttle-test.csv.gz"
CLIP = 4.0  # standard deviations: a few readings are 140 away, which would leave int8 no steps for the rest
HIDDEN = (32, 3, 32)
EPOCHS = 60
BATCH = 256


@dataclass(frozen=True)
class Rows:
    """Telemetry as it came. ``values``: float64 (n, 9). ``anomalous``: bool (n,). ``parts``: one a row."""

    values: NDArray[np.float64]
    anomalous: Bools
    parts: NDArray[np.str_]

    def of(self, part: Part) -> Rows:
        """Return the rows of one part, in the order of the file."""
        chosen = self.parts == part
        return Rows(self.values[chosen], self.anomalous[chosen], self.parts[chosen])

    def normal(self) -> Rows:
        """Return the rows that are not anomalous."""
        chosen = ~self.anomalous
        return Rows(self.values[chosen], self.anomalous[chosen], self.parts[chosen])


def part_of(row: Sequence[float]) -> Part:
    """Return which part a row belongs to: training 60 %, validation 20 %, test 20 %."""
    text = ",".join(str(int(value)) for value in row)
    share = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") / 2**32
    return "training" if share < 0.6 else "validation" if share < 0.8 else "test"


def read(lines: Iterable[str]) -> Rows:
    """Read CSV lines: a header, then nine integers and the label 0 or 1. ``ValueError`` on anything else."""
    header, *body = lines
    table = np.array([[int(cell) for cell in line.split(",")] for line in body], np.float64)
    if table.ndim != 2 or table.shape[1] != len(CHANNELS) + 1 or not np.isin(table[:, -1], (0, 1)).all():
        raise ValueError(f"not shuttle telemetry: {header!r}")
    values = table[:, :-1]
    return Rows(values, table[:, -1] == 1, np.array([part_of(row) for row in values]))


def scaling(values: NDArray[np.float64]) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of each channel, rounded to what a manifest shows well."""
    return np.round(values.mean(axis=0), 4).tolist(), np.round(values.std(axis=0), 4).tolist()


def normalise(values: Array, mean: Sequence[float], std: Sequence[float], clip: float) -> FloatArray:
    """Do what the transform of that name does: float32, of the same shape."""
    scaled = (values.astype(np.float32) - np.array(mean, np.float32)) / np.array(std, np.float32)
    return np.asarray(scaled.clip(-clip, clip), np.float32)


def scores(inputs: FloatArray, outputs: FloatArray) -> FloatArray:
    """Return the mean squared error of each row, as the decoder ``anomaly`` has it: float32 (n,)."""
    return np.asarray(np.square(outputs - inputs).mean(axis=1), np.float32)


def threshold(score: FloatArray, anomalous: Bools) -> float:
    """Return the threshold of best F1, halfway to the next lower score, to four significant digits."""
    order = np.argsort(-score, kind="stable")
    ordered, found = score[order], np.cumsum(anomalous[order])
    f1 = 2 * found / (np.arange(1, len(score) + 1) + anomalous.sum())
    f1[:-1][ordered[:-1] == ordered[1:]] = 0  # no threshold parts equal scores
    best = int(f1.argmax())
    below = ordered[min(best + 1, len(score) - 1)]
    return float(f"{(ordered[best] + below) / 2:.4g}")


def excerpt(rows: Rows) -> bytes:
    """Return the rows as gzipped CSV: the channels and ``label``, 1 for an anomaly."""
    table = np.column_stack([rows.values, rows.anomalous]).astype(int)
    lines = [",".join([*CHANNELS, "label"]), *(",".join(map(str, row)) for row in table.tolist())]
    return gzip.compress(("\n".join(lines) + "\n").encode(), mtime=0)


def train(inputs: FloatArray) -> Any:
    """Return a Keras autoencoder that has seen ``inputs``, float32 (n, 9), for so many epochs."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(SEED)
    layers = [tf.keras.layers.Dense(units, "relu") for units in HIDDEN]
    network = tf.keras.Sequential(
        [tf.keras.Input((len(CHANNELS),)), *layers, tf.keras.layers.Dense(len(CHANNELS))]
    )
    network.compile(tf.keras.optimizers.Adam(), "mse", jit_compile=False)
    shuffle = np.random.default_rng(SEED)
    for _ in range(EPOCHS):
        order = shuffle.permutation(len(inputs))
        for start in range(0, len(inputs), BATCH):
            batch = inputs[order[start : start + BATCH]]
            network.train_on_batch(batch, batch)
    return network


def river_rows() -> Rows:
    """Read the telemetry from the installed package river, without importing it."""
    path = Path(str(metadata.distribution("river").locate_file("river/datasets/shuttle.csv.gz")))
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise ValueError("shuttle.csv.gz of the installed river is not the one this model is made of")
    return read(gzip.decompress(data).decode().splitlines())
