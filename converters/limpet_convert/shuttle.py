"""Train, quantize, measure and package the demo's model: an int8 autoencoder over space shuttle telemetry.

    python -m limpet_convert.shuttle --out FOLDER

The data are UCI's Statlog (Shuttle) in the form of the ODDS benchmark, as the package ``river`` carries them:
49,097 rows of nine channels, ``f1`` to ``f9`` (the source gives no other names; ``f1`` is a time), 7 % of them
anomalies. Rows stand in random order since UCI shuffled them, and no two are equal.

A row's part is decided by a hash of its own nine values, so that anyone can tell from a row alone that it was
not trained on. The autoencoder learns to reproduce the normal rows of the training part. What it reproduces
badly, by mean squared error, is anomalous; the threshold is the one with the best F1 on the validation part.
The test part is looked at once, at the end, and is what the demo plays.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import platform
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from limpet.manifest import Manifest, Tolerance, WindowSpec
from limpet_convert import package
from limpet_convert.int8 import Int8, describe, quantize, repeatable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from limpet.types import Array, FloatArray

Bools: TypeAlias = NDArray[np.bool_]
Part: TypeAlias = Literal["training", "validation", "test"]

VERSION = 1
SEED = 20
CHANNELS = [f"f{i}" for i in range(1, 10)]
SHA256 = "1ed4bfa77233d95bff2c8ab2482725d2d800410daedf5919ad80ec6faf60ff59"
EXCERPT = "shuttle-test.csv.gz"
UNIT = "standard deviations"
CLIP = 4.0  # standard deviations: a few readings lie 140 away, which would leave int8 no steps for the rest
HIDDEN = (32, 3, 32)
EPOCHS = 60
BATCH = 256
GOLDEN_NORMAL, GOLDEN_ANOMALOUS = 24, 8
GOLDEN_STEPS = 3  # how many steps of the output's scale runtimes may differ by


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


def auc(score: FloatArray, anomalous: Bools) -> float:
    """Return the area under the ROC curve: the chance that an anomaly scores above a normal row, ties half.

    Mann and Whitney's U over the ranks, divided by the number of pairs.
    """
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positive = int(anomalous.sum())
    wins = ranks[anomalous].sum() - positive * (positive + 1) / 2
    return float(wins / (positive * (len(score) - positive)))


def metrics(score: FloatArray, anomalous: Bools, limit: float) -> dict[str, float]:
    """Return AUC, precision, recall and F1 when rows that score ``limit`` or more are called anomalous."""
    said = score >= limit
    right = int((said & anomalous).sum())
    precision, recall = right / max(int(said.sum()), 1), right / int(anomalous.sum())
    f1 = 2 * precision * recall / (precision + recall) if right else 0.0
    figures = {"auc": auc(score, anomalous), "precision": precision, "recall": recall, "f1": f1}
    return {name: round(value, 5) for name, value in figures.items()}


def compare(exact: FloatArray, quantized: FloatArray, anomalous: Bools, limit: float) -> dict[str, Any]:
    """Return the manifest's metrics from the scores of the float and of the int8 model on the test part."""
    return {
        "part": "test",
        "rows": len(anomalous),
        "anomalies": int(anomalous.sum()),
        "float": metrics(exact, anomalous, limit),
        "int8": metrics(quantized, anomalous, limit),
        "agreement": round(float(((exact >= limit) == (quantized >= limit)).mean()), 5),
    }


def golden_rows(rows: Rows) -> NDArray[np.intp]:
    """Return the indices, in order, of the first normal and the first anomalous rows that become golden."""
    normal, anomalous = np.flatnonzero(~rows.anomalous), np.flatnonzero(rows.anomalous)
    return np.sort(np.concatenate([normal[:GOLDEN_NORMAL], anomalous[:GOLDEN_ANOMALOUS]]))


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


def provenance(rows: Rows) -> dict[str, Any]:
    """Return what was used to make the model: the data, how they were split, versions, seed, command."""
    tools = {name: metadata.version(name) for name in ("tensorflow-cpu", "keras", "numpy", "ai-edge-litert")}
    return {
        "command": "python -m limpet_convert.shuttle --out FOLDER",
        "data": {
            "name": "Statlog (Shuttle), UCI Machine Learning Repository, in the form of ODDS",
            "licence": "CC-BY-4.0",
            "doi": "10.24432/C5WS31",
            "file": f"shuttle.csv.gz of the Python package river {metadata.version('river')}",
            "sha256": SHA256,
        },
        "split": {
            "rule": "SHA-256 of the row's values as CSV, first 4 bytes / 2^32: training < .6 <= validation < .8",
            "rows": {part: int((rows.parts == part).sum()) for part in ("training", "validation", "test")},
            "trained_on": len(rows.of("training").normal().values),
        },
        "training": {"layers": [*HIDDEN, len(CHANNELS)], "epochs": EPOCHS, "batch": BATCH, "seed": SEED},
        "tools": {"python": ".".join(platform.python_version_tuple()[:2]), **tools},
    }


def make(rows: Rows, folder: Path) -> Manifest:
    """Train, quantize, measure, and write the bundle and the excerpt of test rows into ``folder``."""
    mean, std = scaling(rows.of("training").normal().values)
    seen, held_out, test = (
        normalise(part.values, mean, std, CLIP)
        for part in (rows.of("training").normal(), rows.of("validation"), rows.of("test"))
    )
    network = train(seen)
    model = quantize(network, seen, batch=None)
    int8 = Int8(model)
    limit = threshold(scores(held_out, int8(held_out)), rows.of("validation").anomalous)
    found = scores(test, network.predict_on_batch(test)), scores(test, int8(test))
    golden = test[golden_rows(rows.of("test"))]
    outputs = describe(int8.output, "reconstruction", UNIT)
    (folder / EXCERPT).write_bytes(excerpt(rows.of("test")))
    return package.write(
        folder,
        Manifest(
            name="shuttle",
            version=VERSION,
            task="anomaly",
            description="Autoencoder over nine channels of space shuttle telemetry; tells anomalous rows",
            licence="Apache-2.0",
            tolerance=Tolerance(round(GOLDEN_STEPS * outputs.scale[0], 6)),
            inputs=[describe(int8.input, "readings", UNIT, CHANNELS)],
            outputs=[outputs],
            window=WindowSpec(size=1, hop=1),
            transforms=[{"kind": "normalise", "mean": mean, "std": std, "clip": CLIP}],
            # Neighbouring rows have nothing to do with each other here: no hysteresis.
            decoder={"kind": "anomaly", "threshold": limit, "release": limit},
            metrics=compare(*found, rows.of("test").anomalous, limit),
            provenance=provenance(rows),
        ),
        model,
        inputs=[golden[:, None]],
        outputs=[int8(golden)[:, None]],
    )


def river_rows() -> Rows:
    """Read the telemetry from the installed package river, without importing it."""
    path = Path(str(metadata.distribution("river").locate_file("river/datasets/shuttle.csv.gz")))
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise ValueError("shuttle.csv.gz of the installed river is not the one this model is made of")
    return read(gzip.decompress(data).decode().splitlines())


def main() -> None:
    """Make the model and print what was measured."""
    parser = argparse.ArgumentParser(prog="python -m limpet_convert.shuttle", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the bundle goes")
    folder = parser.parse_args().out
    repeatable()
    done = make(river_rows(), folder)
    sys.stdout.write(
        json.dumps({"bundle": package.file_name(done), "decoder": done.decoder, **done.metrics}, indent=2)
    )
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
