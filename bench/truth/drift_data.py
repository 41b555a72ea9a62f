"""Real windows for the parts about drift: recordings that are played again and again in random order, as streams.

    motions   four motions of a wrist, two seconds each (BasicMotions; aeon). Windows of 20 samples, 2 apart
    vowels    nine speakers, cepstra of a spoken vowel (JapaneseVowels; aeon). Windows of 7 frames, 1 apart
    digits    written digits (scikit-learn), 16 x 16 pixels, each shifted and dimmed at random

Each has a small classifier of scikit-learn. It is trained on half of the recordings, and never sees one class, the
last one. The other half is what a device sees. A stream plays recordings as a whole, so that windows follow each
other as they did. A reference is a stream, too: both come from one process, and a reference is as wrong as one is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.neural_network import MLPClassifier

from limpet import plugins
from limpet.contracts.drift import FeatureName  # noqa: TC001
from limpet.contracts.monitor import Observed
from limpet.contracts.reference import ClassReference, EmbeddingReference, FeatureReference, Reference
from limpet.contracts.stage import Spec
from limpet.inference.gathering import BLOCK, Embeddings
from limpet.inference.window_features import features_of
from limpet.monitors._effective import autocorrelation_times

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from limpet.contracts.data import Array
    from limpet.inference.window_features import WindowFeatures

INTERVAL_NS = 100_000_000
MONTH = 26_000_000
"""Windows of a month at ten a second."""
QUANTILES = 33


@dataclass(frozen=True)
class Recordings:
    """``windows`` of all recordings in their order, ``(n, *window)``. ``starts``: where each recording begins.

    ``classes``: of each recording. The last class is the one that the model does not know.
    """

    windows: Array
    starts: Array
    classes: Array

    @property
    def lengths(self) -> Array:
        """Windows of each recording."""
        return np.diff(np.append(self.starts, len(self.windows)))

    def of(self, chosen: Array) -> Recordings:
        """Return some recordings."""
        windows = [self.windows[self.starts[one] : self.starts[one] + self.lengths[one]] for one in chosen]
        starts = np.cumsum([0, *(len(one) for one in windows[:-1])])
        return Recordings(np.concatenate(windows), starts, self.classes[chosen])


@dataclass(frozen=True)
class Task:
    """One data set with its classifier. ``held``: what a device sees."""

    name: str
    held: Recordings
    model: Any
    features: WindowFeatures
    labels: list[str]

    def outputs(self, windows: Array) -> Array:
        """Return the probabilities of the classes that the model knows."""
        return np.asarray(self.model.predict_proba(windows.reshape(len(windows), -1) / self.scale), np.float32)

    @property
    def scale(self) -> float:
        """What a sample is divided by before the model."""
        return 16.0 if self.name == "digits" else 1.0


def _cut(series: list[Array], classes: Array, size: int, hop: int) -> Recordings:
    """Return windows of ``(channels, samples)`` series."""
    windows, starts, count = [], [], 0
    for one in series:
        rows = np.asarray(one, np.float32).T
        cut = [rows[at : at + size] for at in range(0, len(rows) - size + 1, hop)]
        starts.append(count)
        count += len(cut)
        windows += cut
    return Recordings(np.stack(windows), np.array(starts), classes)


def series(name: str) -> tuple[list[Array], Array]:
    """Return the series ``(channels, samples)`` and the classes of a set that the package aeon holds."""
    series, names = [], []
    for part in ("TRAIN", "TEST"):
        path = metadata.distribution("aeon").locate_file(f"aeon/datasets/data/{name}/{name}_{part}.ts")
        lines = Path(str(path)).read_text(encoding="utf-8").splitlines()
        for line in lines[lines.index("@data") + 1 :]:
            *channels, label = line.split(":")
            series.append(np.array([[float(cell) for cell in one.split(",")] for one in channels]))
            names.append(label.strip())
    return series, np.unique(names, return_inverse=True)[1]


def _motions() -> tuple[Recordings, Spec]:
    found, classes = series("BasicMotions")
    channels = ("ax", "ay", "az", "gx", "gy", "gz")
    return _cut(found, classes, 20, 2), Spec(
        shape=(20, 6), dtype=np.dtype(np.float32), rate=10.0, channels=channels
    )


def _vowels() -> tuple[Recordings, Spec]:
    found, classes = series("JapaneseVowels")
    channels = tuple(f"c{number}" for number in range(1, 13))
    return _cut(found, classes, 7, 1), Spec(
        shape=(7, 12), dtype=np.dtype(np.float32), rate=100.0, channels=channels
    )


def _digits() -> tuple[Recordings, Spec]:
    from sklearn.datasets import load_digits

    found = load_digits()
    random = np.random.default_rng(4)
    images = np.kron(np.repeat(found.images, 4, axis=0), np.ones((1, 2, 2)))
    moves = random.integers(-2, 3, (len(images), 2))
    moved = np.stack([np.roll(one, tuple(move), (0, 1)) for one, move in zip(images, moves, strict=True)])
    dimmed = moved * random.uniform(0.6, 1, (len(images), 1, 1)) + random.normal(0, 0.5, moved.shape)
    windows = dimmed.clip(0, 16).astype(np.float32)[..., None]
    return Recordings(windows, np.arange(len(windows)), np.repeat(found.target, 4)), Spec(
        shape=(16, 16, 1), dtype=np.dtype(np.float32)
    )


SETS: dict[str, Callable[[], tuple[Recordings, Spec]]] = {
    "motions": _motions,
    "vowels": _vowels,
    "digits": _digits,
}


@cache
def task(name: str) -> Task:
    """Return a data set, with a classifier trained on half of its recordings without the last class."""
    recordings, spec = SETS[name]()
    order = np.random.default_rng(7).permutation(len(recordings.starts))
    if name == "digits":  # the four pictures of a digit stay together
        order = (np.random.default_rng(7).permutation(len(order) // 4)[:, None] * 4 + np.arange(4)).ravel()
    half, last = len(order) // 2, int(recordings.classes.max())
    known = order[:half][recordings.classes[order[:half]] < last]
    training, held = recordings.of(known), recordings.of(order[half:])
    features = features_of(spec, (), spec.shape)
    model = MLPClassifier((32,), random_state=0, max_iter=60, early_stopping=len(training.windows) > 2000)
    made = Task(name, held, model, features, [f"class {number}" for number in range(last)])
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it could train longer
        model.fit(
            training.windows.reshape(len(training.windows), -1) / made.scale,
            np.repeat(training.classes, training.lengths),
        )
    return made


@dataclass(frozen=True)
class Numbers:
    """What monitors see of many windows, but for embeddings. ``outputs``: of the model."""

    features: Array
    scores: Array
    classes: Array
    outputs: Array

    def __getitem__(self, chosen: Any) -> Numbers:
        return Numbers(self.features[chosen], self.scores[chosen], self.classes[chosen], self.outputs[chosen])


def numbers(made: Task, windows: Array) -> Numbers:
    """Return what monitors see of windows."""
    outputs = made.outputs(windows)
    parts = [made.features.of(windows[at : at + 4096]) for at in range(0, len(windows), 4096)]
    return Numbers(np.concatenate(parts), outputs.max(axis=1), outputs.argmax(axis=1).astype(np.int32), outputs)


def order(made: Task, random: np.random.Generator, count: int, priors: Array | None = None) -> Array:
    """Return places of ``count`` windows of the held recordings: whole recordings, drawn by the priors of classes.

    ``priors``: of all classes, default: as often as there are recordings, and none of the unknown class.
    """
    held = made.held
    weights = np.bincount(held.classes, minlength=len(made.labels) + 1).astype(float)
    wanted = np.append(weights[:-1], 0) if priors is None else priors
    each = (wanted / wanted.sum() / np.maximum(weights, 1))[held.classes]
    drawn = random.choice(len(each), int(count / held.lengths.mean() * 1.2) + 9, p=each / each.sum())
    lengths = held.lengths[drawn]
    ends = np.cumsum(lengths)
    places = np.arange(ends[-1]) - np.repeat(ends - lengths, lengths) + np.repeat(held.starts[drawn], lengths)
    if len(places) < count:
        return np.concatenate([places, order(made, random, count - len(places), priors)])
    return places[:count]


def reference_of(
    seen: Numbers, names: list[FeatureName], channels: list[str], labels: list[str], rate: float
) -> Reference:
    """Return the reference of these windows, with a model that is always right."""
    features = [
        _feature(name, channel, column)
        for name, channel, column in zip(names, channels, seen.features.T, strict=True)
    ]
    embeddings = Embeddings(features, seen.outputs.shape[1], whole=False)
    rows = embeddings(seen.features, seen.outputs).astype(np.float64)
    covariance = np.cov(rows.T)
    ridge = 1e-3 * np.trace(covariance) / len(covariance)
    counts = np.bincount(seen.classes, minlength=len(labels))
    return Reference(
        windows=len(seen.scores),
        rate=rate,
        features=features,
        score=_feature("score", "", seen.scores),
        embedding=EmbeddingReference(
            seed=1,
            of=embeddings.of,
            mean=rows.mean(axis=0).tolist(),
            precision=np.linalg.inv(covariance + ridge * np.eye(len(covariance))).tolist(),
        ),
        classes=ClassReference(
            labels=labels, confusion=np.diag(counts).tolist(), priors=(counts / counts.sum()).tolist()
        ),
    )


def _feature(name: FeatureName, channel: str, values: Array) -> FeatureReference:
    column = values.astype(np.float64)
    return FeatureReference(
        name=name,
        channel=channel,
        mean=float(column.mean()),
        std=float(column.std()),
        quantiles=np.quantile(column, np.linspace(0, 1, QUANTILES)).tolist(),
        effective=len(column) / float(autocorrelation_times(column[:, None])[0]),
    )


@dataclass
class Watch:
    """All monitors of one device, calibrated on one reference. ``left_out``: those that could not be, and why."""

    embeddings: Embeddings
    monitors: dict[str, Any]
    left_out: dict[str, str]

    def blocks(self, seen: Numbers, jitter: Array, first: int = 0) -> Iterator[Observed]:
        """Return windows in the blocks that a device looks at. ``jitter``: of their times, in ns."""
        times = (np.arange(first, first + len(seen.scores)) * INTERVAL_NS + jitter).astype(np.int64)
        for at in range(0, len(times), BLOCK):
            part = slice(at, at + BLOCK)
            some = seen[part]
            rows = self.embeddings(some.features, some.outputs)
            yield Observed(some.features, some.scores, some.classes, rows, times[part])


def watch(seen: Numbers, names: list[FeatureName], channels: list[str], labels: list[str]) -> Watch:
    """Calibrate all monitors so that together they raise one false alarm a month."""
    reference = reference_of(seen, names, channels, labels, 1e9 / INTERVAL_NS)
    embeddings = Embeddings(reference.features, seen.outputs.shape[1], whole=False)
    times = (np.arange(len(seen.scores)) * INTERVAL_NS).astype(np.int64)
    observed = Observed(seen.features, seen.scores, seen.classes, embeddings(seen.features, seen.outputs), times)
    kinds = plugins.names("monitors")
    monitors, left_out = {}, {}
    for kind in kinds:
        module = plugins.load("monitors", kind)
        try:
            thresholds = module.calibrate(module.Config(), observed, reference, 1 / MONTH / len(kinds))
            monitors[kind] = module.open(module.Config(), reference, thresholds)
        except ValueError as error:
            left_out[kind] = str(error)
    return Watch(embeddings, monitors, left_out)


def names_of(made: Task) -> tuple[list[FeatureName], list[str]]:
    """Return the names of the features, and their channels."""
    return [one.name for one in made.features.features], [one.channel for one in made.features.features]
