"""The nearest of known centres, or none if it is too far away: the states of a machine, kinds of sounds."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import msgspec
import numpy as np
from msgspec import Meta

from limpet.contracts.decoder import Abilities
from limpet.contracts.outputs import Cluster
from limpet.decoders._scores import names, row_size

if TYPE_CHECKING:
    from limpet.contracts.data import Array, FloatArray, Window
    from limpet.contracts.stage import Spec

ABILITIES = Abilities(output=Cluster, reads_inputs=False)

DIGITS = 6
Point: TypeAlias = Annotated[list[float], Meta(min_length=1, max_length=4096)]
Radius = Annotated[float, Meta(gt=0)]


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The centres, and how far from them a window may be.

    Features are first standardised with ``mean`` and ``std``. The metric is then the Euclidean distance, or 1 less
    the cosine.
    """

    centres: Annotated[list[Point], Meta(min_length=1, max_length=256)]
    """A row of numbers for each cluster, as many as the model's first output has. Example: `[[0.1, 0.9], [0.8,
    0.2]]`."""
    labels: list[str] = []
    """Names of the clusters. Default: the model's labels, or numbers from 0. Example: `["idle", "cutting"]`."""
    radius: Radius | list[Radius] | None = None
    """Largest distance from a centre, or one for each. Default: no limit. Example: `[0.4, 0.6]`."""
    metric: Literal["euclidean", "cosine"] = "euclidean"
    """How distance is measured."""
    mean: list[float] = []
    """What is subtracted from each feature first. Default: nothing. Example: `[0.2, 1.5]`."""
    std: list[Radius] = []
    """What each feature is then divided by. Default: 1. Example: `[1.0, 0.5]`."""

    def __post_init__(self) -> None:
        sizes = {len(centre) for centre in self.centres}
        if len(sizes) > 1:
            found = " and ".join(map(str, sorted(sizes)))
            raise ValueError(f"centres must have equally many numbers, not {found}")
        if not all(map(isfinite, (*(x for centre in self.centres for x in centre), *self.mean))):
            raise ValueError("centres and mean must be finite numbers")
        if self.metric == "cosine" and not all(map(any, self.centres)):
            raise ValueError("a centre of zeros has no direction, and the metric is the cosine")
        for name, value in (("mean", self.mean), ("std", self.std)):
            if value and len(value) not in sizes:
                raise ValueError(f"{name} has {len(value)} numbers, and a centre has {sizes.pop()}")
        if isinstance(self.radius, list) and len(self.radius) != len(self.centres):
            raise ValueError(f"radius has {len(self.radius)} numbers for {len(self.centres)} centres")


def open(config: Config, spec: Spec) -> ClusterDecoder:
    """Prepare to measure. ``ValueError`` if the model's first output has not as many numbers as a centre."""
    size = row_size("cluster", spec.outputs)
    if size != len(config.centres[0]):
        raise ValueError(f"a centre has {len(config.centres[0])} numbers, and the model's first output {size}")
    given = config.labels or (spec.labels if len(spec.labels) == len(config.centres) else ())
    return ClusterDecoder(config, names("cluster", given, len(config.centres)), spec)


class ClusterDecoder:
    """Remembers nothing from window to window."""

    def __init__(self, config: Config, labels: list[str], spec: Spec) -> None:
        self.spec = spec
        self._labels = labels
        size = len(config.centres[0])
        self._mean = np.array(config.mean or [0.0] * size)
        self._std = np.array(config.std or [1.0] * size)
        self._cosine = config.metric == "cosine"
        self._centres = self._prepared(np.array(config.centres, np.float64), standardised=True)
        radius = np.inf if config.radius is None else config.radius
        self._radius = np.broadcast_to(np.array(radius, np.float64), len(labels))

    def __call__(self, window: Window) -> Window:
        """Return the window with its cluster, of equals the first."""
        with np.errstate(all="ignore"):
            features = self._prepared(window.outputs[0].ravel().astype(np.float64)[np.newaxis])
            distances = self._distances(features)
            best = int(distances.argmin())
        distance = float(distances[best])
        if not isfinite(distance):
            window.result = Cluster(None, None, None)
        else:
            name = self._labels[best]
            inside = distance <= self._radius[best]
            window.result = Cluster(name if inside else None, name, round(distance, DIGITS))
        return window

    def reset(self) -> None:
        """Do nothing: nothing is remembered."""

    def _prepared(self, points: Array, *, standardised: bool = False) -> Array:
        """Return points ``(n, features)`` standardised, and of length 1 for the cosine."""
        scaled = points if standardised else (points - self._mean) / self._std
        return scaled / np.linalg.norm(scaled, axis=1, keepdims=True) if self._cosine else scaled

    def _distances(self, features: Array) -> FloatArray:
        if self._cosine:
            found = 1 - self._centres @ features[0]
        else:
            found = np.linalg.norm(self._centres - features, axis=1)
        return np.where(np.isnan(found), np.inf, found)
