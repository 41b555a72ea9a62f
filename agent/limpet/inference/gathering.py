"""Windows and their results to blocks of numbers, for monitors and for the reference that they compare with.

Per window, a few thousand bytes are copied. Features are computed for many windows at once. The workstation
makes a reference with the same code, on the same stages, so that both mean the same.
"""

from __future__ import annotations

from math import nan, prod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from limpet.contracts.outputs import (
    Anomaly,
    Classification,
    Cluster,
    Detections,
    Embedding,
    Keypoints,
    Keyword,
    Labels,
    Regression,
)
from limpet.inference.projection import MOST_PROJECTED, Projection
from limpet.inference.window_features import features_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from numpy.typing import NDArray

    from limpet.contracts.data import FloatArray, TimeArray, Window
    from limpet.contracts.reference import FeatureReference
    from limpet.inference.pipeline import Pipeline
    from limpet.inference.window_features import WindowFeatures
    from limpet.wire.records import Result

BLOCK = 256
"""Windows whose numbers are handed on together, at most: most of the cost is that of a block."""
MADE_BYTES = 24 * 1024
"""Bytes of features of windows that wait to be handed on, about."""
PICKED_BYTES = 48 * 1024
"""Bytes of windows that wait for their features to be computed, about."""
MOST_JOINED = 256
"""Numbers of the model's first output that are part of an embedding beside the features, at most."""
FURTHEST = 8.0
"""Standard deviations that a feature counts in an embedding, at most."""
_PLAIN_OUTPUTS = frozenset({"classify", "keyword", "multilabel", "regress", "cluster"})
"""Decoders of models whose output is one row of numbers that belong together."""


class Gathered(NamedTuple):
    """n windows, oldest first. ``outputs`` ``(n, numbers)``: see ``Gathering.embeds``; no numbers if unused.

    The others are as in ``limpet.contracts.monitor.Observed``.
    """

    features: FloatArray
    scores: FloatArray
    classes: NDArray[np.int32]
    outputs: FloatArray
    times_ns: TimeArray


class Gathering:
    """Gathers windows of one pipeline. ``see`` is an observer, see ``Pipeline.observe``.

    ``features`` says what the features are. ``block``: windows after which it is full. ``embeds``: how many
    numbers of the model's first output are in an embedding. ``whole``: they are the embedding, without the
    features. ``labels``: the classes, in the order of the indices in ``Gathered.classes``.
    """

    def __init__(self, pipeline: Pipeline, labels: Sequence[str] = ()) -> None:
        plan, inputs = pipeline.plan, pipeline.completed.inputs
        self.features: WindowFeatures = features_of(
            plan.transforms.windows, _units(pipeline), inputs[0].shape if inputs else ()
        )
        self.whole = plan.decoder.kind == "embed"
        self.embeds = _embedded_numbers(pipeline)
        self._bytes_as = pipeline.graph.byte_values if self.features.reads == "inputs" else None
        self._indices: dict[str | None, int] = {label: index for index, label in enumerate(labels)}
        count, picked = len(self.features.features), self.features.picked
        self.block = max(16, min(BLOCK, MADE_BYTES // (4 * (count + self.embeds + 1))))
        self._made = np.zeros((self.block, count), np.float32)
        self._scores = np.zeros(self.block, np.float32)
        self._classes = np.zeros(self.block, np.int32)
        self._outputs = np.zeros((self.block, self.embeds), np.float32)
        self._times = np.zeros(self.block, np.int64)
        self._room = (
            1 if -1 in picked else max(1, min(self.block, _picked_bytes(self.features) // (4 * prod(picked))))
        )
        self._waiting = None if -1 in picked else np.zeros((self._room, *picked), np.float32)
        self._reads_samples = self.features.reads == "samples"
        self._done = self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def full(self) -> bool:
        """Whether ``take`` must be called before the next window."""
        return self._count == self.block

    @property
    def nbytes(self) -> int:
        """Bytes of its buffers."""
        arrays = (self._made, self._scores, self._classes, self._outputs, self._times)
        return sum(array.nbytes for array in arrays) + (0 if self._waiting is None else self._waiting.nbytes)

    def see(self, window: Window, result: Result[Any]) -> None:
        """Take a window that has its result."""
        place = self._count
        values: Any = window.samples if self._reads_samples else window.inputs[0]
        picked = self.features.pick(values)
        if self._bytes_as is not None:
            picked = self._bytes_as[picked]
        if self._waiting is None:
            self._made[place] = self.features.of_picked(np.asarray(picked, np.float32)[np.newaxis])[0]
            self._done = place + 1
        else:
            self._waiting[place - self._done] = picked
        output = result.output
        self._scores[place] = score_of(output)
        self._classes[place] = self._indices.get(label_of(output), -1)
        if self.embeds:
            outputs = window.outputs[0].reshape(-1)[: self.embeds]
            # The light model of a cascade may have another output.
            self._outputs[place] = outputs if len(outputs) == self.embeds else np.nan
        self._times[place] = window.taken_ns
        self._count = place + 1
        if self._count - self._done == self._room:
            self._compute()

    def take(self) -> Gathered:
        """Return the windows since the last call. The arrays are valid until the next window."""
        self._compute()
        n, self._count, self._done = self._count, 0, 0
        return Gathered(self._made[:n], self._scores[:n], self._classes[:n], self._outputs[:n], self._times[:n])

    def drop(self) -> None:
        """Forget the windows since ``take`` was called last."""
        self._count = self._done = 0

    def _compute(self) -> None:
        new = self._count - self._done
        if new and self._waiting is not None:
            self._made[self._done : self._count] = self.features.of_picked(self._waiting[:new])
            self._done = self._count


class Embeddings:
    """Features and outputs of windows to embeddings, projected as a reference says.

    ``reference``: of the features, in the order in which they are computed; each counts in standard deviations.
    ``outputs``: numbers of the model's output. ``whole``: the output alone is the embedding.
    """

    def __init__(self, reference: Sequence[FeatureReference], outputs: int, *, whole: bool, seed: int = 1) -> None:
        """``ValueError`` if there are no numbers."""
        self._whole = whole and outputs > 0
        spread = np.array([one.std for one in reference])
        self._mean = np.array([one.mean for one in reference], np.float32)
        self._scale = np.where(spread > 0, 1 / np.maximum(spread, 1e-30), 0).astype(np.float32)
        self.of = outputs if self._whole else len(reference) + outputs
        self.projection = Projection(seed, self.of)

    def __call__(self, features: FloatArray, outputs: FloatArray) -> FloatArray:
        """Return float32 ``(n, dimensions)``. Numbers that are not finite count as 0."""
        rows = outputs
        if not self._whole:
            with np.errstate(all="ignore"):
                standard = (features - self._mean) * self._scale
            rows = np.concatenate([np.clip(standard, -FURTHEST, FURTHEST), outputs], axis=1)
        if not np.isfinite(rows).all():
            rows = np.nan_to_num(rows, nan=0.0, posinf=0.0, neginf=0.0)
        return self.projection(rows)


def score_of(output: Any) -> float:
    """Return the number that a result is watched by: how sure the model is, or what it measures. NaN for none."""
    read = _SCORES.get(type(output))
    value = None if read is None else read(output)
    return nan if value is None else value


def label_of(output: Any) -> str | None:
    """Return the class that a result names, ``None`` if it names none or abstains."""
    kind = type(output)
    if kind is Labels:
        return output.labels[0].label if output.labels else None
    return output.label if kind in _LABELLED else None


def _first_score(found: Sequence[Any]) -> float | None:
    return found[0].score if found else None


_SCORES: dict[type, Callable[[Any], float | None]] = {
    Classification: lambda output: output.score,
    Anomaly: lambda output: output.score,
    Keyword: lambda output: output.score,
    Regression: lambda output: next(iter(output.values.values()), None),
    Embedding: lambda output: output.similarity,
    Cluster: lambda output: output.distance,
    Labels: lambda output: _first_score(output.labels),
    Detections: lambda output: _first_score(output.detections),
    Keypoints: lambda output: _first_score(output.poses),
}
_LABELLED = frozenset({Classification, Cluster, Embedding})


def _picked_bytes(features: WindowFeatures) -> int:
    """Return the bytes of windows that may wait. Pictures have few features, and so leave more room."""
    return PICKED_BYTES if features.reads == "samples" else 2 * PICKED_BYTES


def _embedded_numbers(pipeline: Pipeline) -> int:
    outputs = pipeline.completed.outputs
    if not outputs or -1 in outputs[0].shape[1:]:
        return 0
    count, kind = abs(prod(outputs[0].shape)), pipeline.plan.decoder.kind
    if kind == "embed":
        return min(count, MOST_PROJECTED)
    return count if kind in _PLAIN_OUTPUTS and count <= MOST_JOINED else 0


def _units(pipeline: Pipeline) -> Sequence[str]:
    """Return the units of the channels that the model takes."""
    units, chosen = pipeline.plan.spec.units, pipeline.plan.columns
    return units if chosen is None or not units else [units[column] for column in chosen]
