"""Train the models of ``make truth`` and make bundles of them, in build/truth/models/NAME. Runs in .venv-convert.

    telemetry  rows of the space shuttle, normal or anomalous (real; river)
    imu        four motions from two seconds of a wrist's motion (real; BasicMotions, aeon)
    imu-short  the same from half a second
    digits     written digits, shifted and with noise (real strokes, simulated noise; scikit-learn)
    keywords   ten words (simulated: eSpeak NG speaks, with noise)
    sensor     one channel of the space shuttle, estimated from others (real; river)

Each folder has ``float.tflite``, ``int8.tflite``, the bundle with its reference, ``convert.toml``, and two files
for NumPy. ``data.npz`` has ``calibration_inputs`` float32 ``(n, *shape)`` as the model gets them, ``_targets``
``(n,)`` and ``_groups`` ``(n,)``, and the same of ``test_``. ``samples.npz`` has ``calibration`` and ``test``: the
same windows as they come from the sensor. The bundle's reference, temperature and quantiles come from the
calibration part. The test part is in no model and no bundle.

Arguments name the models that are wanted. Default: those that are not there yet. Classifiers give logits.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec.structs import replace

from limpet_convert import data, project, shuttle
from limpet_convert.conversion import Conversion
from limpet_convert.converters import keras
from limpet_convert.int8 import repeatable
from limpet_convert.progress import Progress
from limpet_convert.training import project_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from limpet.contracts.data import Array
    from limpet_convert.project import Project

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "build" / "truth" / "models"
EXAMPLES = ROOT / "converters" / "examples"
RANGES = 2000
"""Windows that the ranges of int8 are taken from."""
SIZE, HOP = 20, 2
"""Samples of a window of the IMU."""
SHORT = 5
"""Samples of a short one. They do not overlap."""
VARIATIONS = 8
"""Of each written digit that no model has seen."""
VOICES = ["en-us+m4", "en-gb+f3", "en-us+f5", "en-gb+m6", "en-gb+f1", "en-us+m8", "en-us+f2", "en-gb+m1"]
"""Voices that the keywords are calibrated and tested with."""
MORE_VOICES = ["en-us+f3", "en-gb+m4", "en-gb+f5", "en-us+m6"]
"""Voices that it learns from beside those of the example."""
ESTIMATED, SEEN = "f5", ["f1", "f2", "f3", "f4", "f6", "f7"]
"""The channel of the shuttle that is estimated, and those it is estimated from."""


def main(wanted: Sequence[str]) -> int:
    """Make the models with these names, or those that are missing."""
    if unknown := set(wanted) - set(MAKERS):
        print(f"bench/truth/models.py: no model has the name {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    import tensorflow as tf

    for name, make in MAKERS.items():
        tf.keras.utils.set_random_seed(16)
        folder = MODELS / name
        if name in wanted or not (wanted or (folder / "data.npz").exists()):
            shutil.rmtree(folder, ignore_errors=True)
            (folder / "data").mkdir(parents=True)
            print(f"model {name}", flush=True)
            finish(name, folder, make(folder))
    return 0


def finish(name: str, folder: Path, tables: dict[str, dict[str, Any]]) -> None:
    """Write the project file, make the variants and the bundle, and write the arrays."""
    tables["bundle"] = {"name": name, "version": 1, "licence": "Apache-2.0", **tables["bundle"]}
    tables["data"] = {"calibration": "data/ranges", "test": "data/calibration", "samples": RANGES} | tables["data"]
    tables["card"] = {"purpose": "Measures Limpet itself; see make truth."}
    tables["verify"] = {"max_metric_loss": 100.0, "min_agreement": 0.0, "max_calibration_loss": 100.0}
    file = folder / project_file.NAME
    project_file.write(file, tables)
    wanted = project.read(file)
    conversion = Conversion(wanted, folder, Progress())
    conversion.variant(wanted.bundle.variant)
    conversion.package(None)
    raw = replace(wanted.bundle, transforms=[])
    arrays: dict[str, Array] = {}
    samples: dict[str, Array] = {}
    for part in ("calibration", "test"):
        one = replace(wanted, data=_of_part(wanted, folder / "data", part))
        found = data.held_back(one)
        groups = data.groups(one, len(found))
        if found.targets is None or groups is None:
            raise ValueError(f"{name}: the windows of {part} have no targets or no groups")
        arrays |= {f"{part}_inputs": found.values, f"{part}_targets": found.targets, f"{part}_groups": groups}
        samples[part] = data.windows(replace(one, bundle=raw), one.data.test).values
    np.savez(folder / "data.npz", **arrays)
    np.savez(folder / "samples.npz", **samples)
    accuracy = {key: round(value, 4) for key, value in conversion.measure("int8").converted.items() if key in KEPT}
    print(f"  {len(arrays['calibration_targets'])} + {len(arrays['test_targets'])} windows, int8: {accuracy}")


def _of_part(wanted: Project, folder: Path, part: str) -> project.Data:
    """Return the table of the project, with the windows of another part as those that are held back."""
    found = next(path for path in (folder / f"{part}.npy", folder / part) if path.exists())
    targets = folder / f"{part}_targets.npy"
    return replace(
        wanted.data,
        test=found,
        targets=targets if targets.exists() else None,
        groups=folder / f"{part}_groups.npy",
    )


def telemetry(folder: Path) -> dict[str, dict[str, Any]]:
    """Train on 60 % of the rows. The groups are thirds of the flight, by the channel that is a time."""
    rows = shuttle.river_rows()
    training = rows.of("training")
    mean, std = shuttle.scaling(training.normal().values)
    network = _dense((9,), [32, 16], 2)
    inputs = shuttle.normalise(training.values, mean, std, shuttle.CLIP)
    _fit(network, inputs, training.anomalous.astype(np.int64), epochs=6)
    keras.save(network, folder / "model.keras")
    np.save(folder / "data" / "ranges.npy", training.values[:RANGES].astype(np.float32))
    thirds = np.quantile(training.values[:, 0], (1 / 3, 2 / 3))
    for part, of in (("calibration", rows.of("validation")), ("test", rows.of("test"))):
        groups = np.array(["early", "middle", "late"])[np.searchsorted(thirds, of.values[:, 0])]
        _save_rows(folder / "data", part, of.values.astype(np.float32), of.anomalous.astype(np.int64), groups)
    return {
        "model": {"path": "model.keras", "options": {"open_batch": True}},
        "data": _rows_of("calibration"),
        "bundle": {
            "task": "classify",
            "description": "Says whether a row of space shuttle telemetry is normal",
            "labels": ["normal", "anomalous"],
            "channels": shuttle.CHANNELS,
            "window": {"size": 1},
            "transforms": [{"kind": "normalise", "mean": mean, "std": std, "clip": shuttle.CLIP}],
            "decoder": LOGITS,
        },
    }


def sensor(folder: Path) -> dict[str, dict[str, Any]]:
    """Train a network that estimates one channel of the shuttle from six others, in normal flight."""
    rows = shuttle.river_rows().normal()
    columns, column = [shuttle.CHANNELS.index(name) for name in SEEN], shuttle.CHANNELS.index(ESTIMATED)
    training = rows.of("training")
    mean, std = shuttle.scaling(training.values[:, columns])
    centre, spread = float(training.values[:, column].mean()), float(training.values[:, column].std())
    network = _dense((len(SEEN),), [48, 32], 1)
    inputs = shuttle.normalise(training.values[:, columns], mean, std, shuttle.CLIP)
    _fit(network, inputs, (training.values[:, column] - centre) / spread, epochs=6)
    keras.save(network, folder / "model.keras")
    np.save(folder / "data" / "ranges.npy", training.values[:RANGES, columns].astype(np.float32))
    thirds = np.quantile(training.values[:, 0], (1 / 3, 2 / 3))
    for part, of in (("calibration", rows.of("validation")), ("test", rows.of("test"))):
        groups = np.array(["early", "middle", "late"])[np.searchsorted(thirds, of.values[:, 0])]
        targets = (of.values[:, column] - centre) / spread
        _save_rows(folder / "data", part, of.values[:, columns].astype(np.float32), targets, groups)
    return {
        "model": {"path": "model.keras", "options": {"open_batch": True}},
        "data": _rows_of("calibration"),
        "bundle": {
            "task": "regress",
            "description": f"Estimates {ESTIMATED} of the space shuttle from six other channels",
            "channels": SEEN,
            "window": {"size": 1},
            "transforms": [{"kind": "normalise", "mean": mean, "std": std, "clip": shuttle.CLIP}],
            "decoder": {"kind": "regress", "names": [ESTIMATED]},
        },
    }


def imu_short(folder: Path) -> dict[str, dict[str, Any]]:
    """Do as ``imu``, with windows so short that one alone is often wrong."""
    return imu(folder, SHORT, SHORT, epochs=40)


def imu(folder: Path, size: int = SIZE, hop: int = HOP, epochs: int = 3) -> dict[str, dict[str, Any]]:
    """Train on 40 recordings, calibrate on 20 and test on 20. The groups are the recordings."""
    import tensorflow as tf

    example = _example("imu")
    training, held = example.recordings("TRAIN"), example.recordings("TEST")
    example.write(training, folder / "data" / "ranges")
    for part, chosen in (("calibration", held[::2]), ("test", held[1::2])):
        example.write(chosen, folder / "data" / part)
        files = sorted((folder / "data" / part).rglob("*.csv"))
        names = [f"{file.parent.name}-{file.stem}" for file in files]
        np.save(folder / "data" / f"{part}_groups.npy", np.repeat(names, (100 - size) // hop + 1))
    layers = tf.keras.layers
    network = tf.keras.Sequential(
        [
            tf.keras.Input((size, len(example.CHANNELS))),
            layers.Conv1D(24, 5, padding="same", activation="relu"),
            layers.MaxPooling1D(2),
            layers.Conv1D(32, 3, padding="same", activation="relu"),
            layers.GlobalAveragePooling1D(),
            layers.Dense(len(example.LABELS)),
        ]
    )
    pairs = [
        ((values[start : start + size] - np.float32(example.MEAN)) / np.float32(example.STD), label)
        for values, label in training
        for start in range(0, len(values) - size + 1, hop)
    ]
    _fit(network, np.stack([w for w, _ in pairs]), np.array([label for _, label in pairs]), epochs)
    keras.save(network, folder / "model.keras")
    return {
        "model": {"path": "model.keras"},
        "data": {"groups": "data/calibration_groups.npy"},
        "bundle": {
            "task": "classify",
            "description": f"Tells four motions from {size / 10:g} s of a wrist's motion",
            "labels": example.LABELS,
            "channels": example.CHANNELS,
            "rate": 10.0,
            "window": {"size": size, "hop": hop},
            "transforms": [{"kind": "normalise", "mean": example.MEAN, "std": example.STD}],
            "decoder": LOGITS,
        },
    }


def digits(folder: Path) -> dict[str, dict[str, Any]]:
    """Train on variations of 900 digits, calibrate and test on those of others. The groups: clean and noisy."""
    import tensorflow as tf
    from sklearn.datasets import load_digits

    found = load_digits()
    order = np.random.default_rng(3).permutation(len(found.images))
    random = np.random.default_rng(4)
    layers = tf.keras.layers
    network = tf.keras.Sequential(
        [
            tf.keras.Input((8, 8, 1)),
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.Conv2D(24, 3, strides=2, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dense(32, activation="relu"),
            layers.Dense(10),
        ]
    )
    images, targets, _ = _varied(found.images[order[:900]], found.target[order[:900]], random)
    _fit(network, (images / 16).astype(np.float32), targets, epochs=8)
    keras.save(network, folder / "model.keras")
    np.save(folder / "data" / "ranges.npy", images[:RANGES])
    for part, rows in (("calibration", order[900::2]), ("test", order[901::2])):
        _save_rows(folder / "data", part, *_varied(found.images[rows], found.target[rows], random))
    return {
        "model": {"path": "model.keras", "options": {"open_batch": True}},
        "data": _rows_of("calibration"),
        "bundle": {
            "task": "classify",
            "description": "Handwritten digits of 8 x 8 pixels",
            "labels": [str(digit) for digit in range(10)],
            "transforms": [{"kind": "normalise", "mean": 0.0, "std": 16.0}],
            "decoder": LOGITS,
        },
    }


def _varied(images: Array, targets: Array, random: np.random.Generator) -> tuple[Array, Array, Array]:
    """Return ``VARIATIONS`` of each picture, uint8 ``(n, 8, 8, 1)``, their digits, and clean or noisy."""
    many = np.repeat(images, VARIATIONS, axis=0)
    x, y = random.integers(-1, 2, (2, len(many)))
    moved = np.stack([np.roll(one, (a, b), (0, 1)) for one, a, b in zip(many, x, y, strict=True)])
    noise = random.uniform(0, 4, len(many))
    dimmed = moved * random.uniform(0.6, 1, (len(many), 1, 1))
    values = dimmed + random.normal(size=many.shape) * noise[:, None, None]
    pixels = values.round().clip(0, 16).astype(np.uint8)
    groups = np.where(noise < 2, "clean", "noisy")
    return pixels[..., None], np.repeat(targets, VARIATIONS), groups


def keywords(folder: Path) -> dict[str, dict[str, Any]]:
    """Train the example's network. No voice that it learns calibrates or tests. The groups are the voices."""
    import tomllib
    import torch

    torch.use_deterministic_algorithms(mode=True)
    torch.set_num_threads(1)
    torch.manual_seed(5)
    example = _example("keywords")
    bundle = tomllib.loads((EXAMPLES / "keywords" / "convert.toml").read_text())["bundle"]
    speaker = example.Speaker()
    place = folder / "data"
    for number, (part, voices) in enumerate(
        {"ranges": [*example.TRAIN_VOICES, *MORE_VOICES], "calibration": VOICES, "test": VOICES}.items()
    ):
        example.utterances(speaker, voices, number, place / part)
    for part in ("calibration", "test"):
        names = [file.stem.split("-", 1)[1].rsplit("-", 1)[0] for file in sorted((place / part).rglob("*.wav"))]
        np.save(place / f"{part}_groups.npy", np.array(names))
    inputs, targets = example.features(place / "ranges")
    network = example.network()
    x, y = torch.from_numpy(inputs)[:, None], torch.from_numpy(targets)
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    shuffle = np.random.default_rng(5)
    for _ in range(8):
        for batch in np.array_split(shuffle.permutation(len(x)), len(x) // example.BATCH):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(x[batch]), y[batch]).backward()
            optimizer.step()
    torch.export.save(torch.export.export(network.eval(), (x[:1],)), folder / "model.pt2")
    wanted = ("task", "description", "labels", "rate", "window", "transforms")
    return {
        "model": {"path": "model.pt2"},
        "data": {"groups": "data/calibration_groups.npy", "samples": 200},
        "bundle": {key: bundle[key] for key in wanted} | {"decoder": LOGITS},
    }


def _example(name: str) -> Any:
    """Return the module that trains an example of the documentation."""
    path = EXAMPLES / name / "train.py"
    spec = importlib.util.spec_from_file_location(f"train_{name}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path}: cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _dense(shape: tuple[int, ...], widths: Sequence[int], outputs: int) -> Any:
    import tensorflow as tf

    layers = tf.keras.layers
    hidden = [layers.Dense(width, activation="relu") for width in widths]
    return tf.keras.Sequential([tf.keras.Input(shape), *hidden, layers.Dense(outputs)])


def _fit(network: Any, inputs: Array, targets: Array, epochs: int) -> None:
    """Train: classes as whole numbers by cross entropy of logits, others by squared error."""
    import tensorflow as tf

    classes = targets.dtype.kind == "i"
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True) if classes else "mse"
    network.compile(tf.keras.optimizers.Adam(2e-3), loss, jit_compile=False)
    network.fit(inputs, targets, 64, epochs, verbose=0)


def _save_rows(folder: Path, part: str, samples: Array, targets: Array, groups: Array) -> None:
    for suffix, values in (("", samples), ("_targets", targets), ("_groups", groups)):
        np.save(folder / f"{part}{suffix}.npy", values)


def _rows_of(part: str) -> dict[str, Any]:
    """Return the table of data that are rows in files of NumPy."""
    names = {"test": part, "targets": f"{part}_targets", "groups": f"{part}_groups"}
    return {"calibration": "data/ranges.npy"} | {key: f"data/{name}.npy" for key, name in names.items()}


LOGITS = {"kind": "classify", "activation": "softmax"}
KEPT = ("accuracy", "ece", "mae", "r2")
MAKERS: dict[str, Callable[[Path], dict[str, dict[str, Any]]]] = {
    "telemetry": telemetry,
    "imu": imu,
    "imu-short": imu_short,
    "digits": digits,
    "keywords": keywords,
    "sensor": sensor,
}


if __name__ == "__main__":
    repeatable()
    sys.exit(main(sys.argv[1:]))
