"""A 1-D convolutional network (Keras) that classifies four motions from a wrist-worn IMU.

Data: BasicMotions of the UEA archive, in the package aeon. There are 40 recordings to train on and 40 to test.
Each has 100 samples at 10 Hz of three accelerations and three angular rates. Written as CSV, a folder for each
motion.
"""

from importlib import metadata
from pathlib import Path

import numpy as np

from limpet_convert.converters import keras
from limpet_convert.int8 import repeatable

BUILD = Path(__file__).parent / "build"
CHANNELS = ["ax", "ay", "az", "gx", "gy", "gz"]
LABELS = ["badminton", "running", "standing", "walking"]
MEAN = [1.9, -1.2, 0.4, 0.0, 0.0, 0.0]
STD = [5.0, 4.0, 3.0, 1.5, 1.5, 2.0]
SIZE, HOP = 50, 10
EPOCHS = 12


def recordings(part: str) -> list[tuple[np.ndarray, int]]:
    """Return the recordings of a part, float32 (100, 6), and their motions."""
    name = f"aeon/datasets/data/BasicMotions/BasicMotions_{part}.ts"
    lines = Path(str(metadata.distribution("aeon").locate_file(name))).read_text().splitlines()
    found = []
    for line in lines[lines.index("@data") + 1 :]:
        *channels, label = line.strip().split(":")
        values = np.array([[float(v) for v in channel.split(",")] for channel in channels], np.float32).T
        found.append((values, LABELS.index(label.lower())))
    return found


def write(part: list[tuple[np.ndarray, int]], folder: Path) -> None:
    for number, (values, label) in enumerate(part):
        place = folder / LABELS[label]
        place.mkdir(parents=True, exist_ok=True)
        header = ",".join(["time", *CHANNELS])
        table = np.column_stack([np.arange(len(values)) / 10, values])
        np.savetxt(place / f"{number:02d}.csv", table, "%.6g", ",", header=header, comments="")


def windows(part: list[tuple[np.ndarray, int]]) -> tuple[np.ndarray, np.ndarray]:
    pairs = [
        ((values[start : start + SIZE] - np.float32(MEAN)) / np.float32(STD), label)
        for values, label in part
        for start in range(0, len(values) - SIZE + 1, HOP)
    ]
    return np.stack([w for w, _ in pairs]), np.array([label for _, label in pairs])


def main() -> None:
    repeatable()
    import tensorflow as tf

    train, test = recordings("TRAIN"), recordings("TEST")
    write(train, BUILD / "calibration")
    write(test, BUILD / "test")
    tf.keras.utils.set_random_seed(7)
    layers = tf.keras.layers
    network = tf.keras.Sequential(
        [
            tf.keras.Input((SIZE, len(CHANNELS))),
            layers.Conv1D(64, 5, padding="same", activation="relu", name="wide"),
            layers.MaxPooling1D(2),
            layers.Conv1D(128, 5, padding="same", activation="relu", name="deep"),
            layers.Conv1D(128, 3, padding="same", activation="relu", name="last"),
            layers.GlobalAveragePooling1D(),
            layers.Dense(128, activation="relu", name="mix"),
            layers.Dense(len(LABELS), activation="softmax", name="head"),
        ]
    )
    network.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
    inputs, targets = windows(train)
    network.fit(inputs, targets, 16, EPOCHS, verbose=0)
    keras.save(network, BUILD / "model.keras")


if __name__ == "__main__":
    main()
