"""Streams of windows that monitors can look at, and the reference that ``limpet-convert`` would make of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from limpet.contracts.monitor import Observed
from limpet.contracts.reference import (
    ClassReference,
    EmbeddingReference,
    FeatureReference,
    Reference,
)
from limpet.monitors._effective import autocorrelation_times

if TYPE_CHECKING:
    from limpet.contracts.drift import FeatureName

SECOND = 1_000_000_000
LABELS = ["idle", "walk", "run"]
PRIORS = np.array([0.5, 0.3, 0.2])
CONFUSION = np.array([[0.95, 0.04, 0.01], [0.05, 0.9, 0.05], [0.01, 0.09, 0.9]])
DIMENSIONS = 4
RATE = 10.0


def windows(
    seed: int, count: int, features: int = 4, priors: np.ndarray = PRIORS, start_ns: int = SECOND
) -> Observed:
    """Return windows without drift: normal features, classes as the confusion has them, ten a second."""
    random = np.random.default_rng(seed)
    true = random.choice(3, count, p=priors)
    said = (random.random((count, 1)) > CONFUSION.cumsum(axis=1)[true]).sum(axis=1).clip(0, 2)
    return Observed(
        features=random.normal(size=(count, features)).astype(np.float32),
        scores=random.beta(8, 2, count).astype(np.float32),
        classes=said.astype(np.int32),
        embeddings=random.normal(size=(count, DIMENSIONS)).astype(np.float32),
        times_ns=start_ns + (np.arange(count) * (SECOND / RATE)).astype(np.int64),
    )


def blocks(observed: Observed, size: int) -> list[Observed]:
    """Return the windows in blocks of at most ``size``."""
    return [part(observed, start, start + size) for start in range(0, len(observed), size)]


def part(observed: Observed, start: int, end: int) -> Observed:
    """Return some of the windows."""
    embeddings = observed.embeddings
    return Observed(
        features=observed.features[start:end],
        scores=observed.scores[start:end],
        classes=observed.classes[start:end],
        embeddings=None if embeddings is None else embeddings[start:end],
        times_ns=observed.times_ns[start:end],
        gap=observed.gap and start == 0,
    )


def feature(name: FeatureName, values: np.ndarray, channel: str = "", unit: str = "") -> FeatureReference:
    """Return what a reference has of one feature."""
    return FeatureReference(
        name=name,
        channel=channel,
        unit=unit,
        mean=float(values.mean()),
        std=float(values.std()),
        quantiles=[float(edge) for edge in np.quantile(values, np.linspace(0, 1, 33))],
        effective=len(values) / float(autocorrelation_times(values[:, None])[0]),
    )


def reference(observed: Observed, names: list[FeatureName] | None = None) -> Reference:
    """Return the reference of windows. Features are named a, b, ... unless they have ``names``."""
    names = names or [chr(ord("a") + index) for index in range(observed.features.shape[1])]
    embeddings = observed.embeddings
    assert embeddings is not None
    return Reference(
        windows=len(observed),
        rate=RATE,
        features=[feature(name, column) for name, column in zip(names, observed.features.T, strict=True)],
        score=feature("score", observed.scores),
        embedding=EmbeddingReference(
            seed=1,
            of=64,
            mean=embeddings.mean(axis=0).tolist(),
            precision=np.linalg.inv(np.cov(embeddings.T)).tolist(),
        ),
        classes=ClassReference(
            labels=LABELS,
            confusion=np.round(CONFUSION * PRIORS[:, None] * len(observed)).astype(int).tolist(),
            priors=PRIORS.tolist(),
        ),
    )
