"""All features of an embedding together, with the maximum mean discrepancy (Gretton and others 2012).

Embeddings are whitened with the reference's covariance. Random Fourier features (Rahimi and Recht 2007) stand for
a Gaussian kernel: the discrepancy is the distance of their means. They are bounded, so that a bound for quadratic
forms (Hsu, Kakade and Zhang 2012) gives the threshold. It uses the covariance over time of the reference.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta

from limpet.contracts.drift import Moved
from limpet.contracts.monitor import Abilities
from limpet.monitors._effective import cautious_times
from limpet.monitors._limits import END, check_length, read_thresholds
from limpet.monitors._spans import MOST_SPANS, SpanLengths, Spans, Verdict, check_spans, span_lengths

if TYPE_CHECKING:
    from limpet.contracts.data import Array
    from limpet.contracts.monitor import Observed
    from limpet.contracts.reference import EmbeddingReference, Reference

ABILITIES = Abilities(needs=("embeddings",))

_WAVES = 64
_BLOCK = 5
"""Autocorrelation times in a block."""
_FARTHEST = 1e6
"""Whitened numbers are clipped to it."""

_Limit = Annotated[float, Meta(gt=0, le=1e6)]
_Mean = Annotated[float, Meta(ge=-1, le=1)]


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Options of the monitor ``multivariate``."""

    least: Annotated[float, Meta(ge=0, le=1)] = 0.01
    """Smallest squared discrepancy that is worth an alarm. It is 0 for equal distributions, 1 for far ones."""


class _Thresholds(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """``means`` of the random features. ``limits``: of each span, the squared discrepancy.

    ``trace``, ``square`` and ``largest`` are of the covariance over time. They are the sum of its eigenvalues,
    that of their squares, and the largest one. ``windows``: of the reference. ``distance``: the mean distance of
    a window from the reference's mean, in standard deviations.
    """

    spans: SpanLengths
    means: Annotated[list[_Mean], Meta(max_length=_WAVES)]
    limits: Annotated[list[_Limit], Meta(max_length=MOST_SPANS)]
    trace: _Limit
    square: _Limit
    largest: _Limit
    windows: Annotated[int, Meta(ge=1, le=1 << 53)]
    distance: Annotated[float, Meta(ge=0, le=1e9)]


def calibrate(config: Config, observed: Observed, reference: Reference, allowed: float) -> dict[str, Any]:
    """Return the discrepancy of each span. ``ValueError`` if the reference has too few embeddings."""
    del config
    waves = _Waves(_embedding(reference))
    if observed.embeddings is None or len(observed) < 2:
        raise ValueError("the reference's windows have no embeddings")
    white = waves.whitened(observed.embeddings)
    made = waves.of(white)
    times = cautious_times(made)
    spans = span_lengths(times)
    eigenvalues = _covariance_over_time(made, times)
    trace, square, largest = (float(one) for one in (eigenvalues.sum(), (eigenvalues**2).sum(), eigenvalues.max()))
    floor = 1e-9
    thresholds = _Thresholds(
        spans=spans,
        means=np.round(made.mean(axis=0), 7).tolist(),
        limits=[1.0] * len(spans),
        trace=max(trace, floor),
        square=max(square, floor**2),
        largest=max(largest, floor),
        windows=len(made),
        distance=float(np.linalg.norm(white, axis=1).mean()),
    )
    thresholds.limits = [
        round(_limit(thresholds, span, allowed * span / len(spans)), 8) for span in thresholds.spans
    ]
    if min(thresholds.limits) >= 1:
        raise ValueError(
            f"{len(made)} windows of the reference are worth {len(made) / times.min():.0f} independent ones."
            " That is too few for so rare false alarms"
        )
    return dict(msgspec.structs.asdict(thresholds))


def _covariance_over_time(made: Array, times: Array) -> Array:
    """Return the eigenvalues of the covariance of a mean over n windows, times n.

    It is estimated by means over blocks that overlap, and by the autocorrelation times. The larger one counts.
    """
    centred = made.astype(np.float64) - made.mean(axis=0)
    scaled = centred * np.sqrt(times)
    by_times = np.linalg.eigvalsh(scaled.T @ scaled / len(scaled))
    size = max(1, min(round(_BLOCK * float(times.max())), len(made) // 20))
    sums = np.cumsum(np.concatenate([np.zeros((1, centred.shape[1])), centred]), axis=0)
    means = (sums[size:] - sums[:-size]) / size
    # A block of a few autocorrelation times shows too little, and few blocks may show too little by chance.
    more = (1 + 1 / _BLOCK) * (1 + 2 * math.sqrt(size / len(made)))
    by_blocks = np.linalg.eigvalsh(means.T @ means / len(means)) * size * more
    larger: Array = by_times if by_times.sum() >= by_blocks.sum() else by_blocks
    return np.maximum(larger, 0)


def open(config: Config, reference: Reference, thresholds: dict[str, Any]) -> Spans:
    """Prepare to compare. ``ValueError`` if the thresholds do not fit the reference."""
    waves = _Waves(_embedding(reference))
    read = read_thresholds("multivariate", _Thresholds, thresholds)
    check_length("multivariate", "means", len(read.means), _WAVES)
    check_length("multivariate", "limits", len(read.limits), len(read.spans))
    check_spans("multivariate", read.spans)
    return Spans(read.spans, _Discrepancy(waves, read, config.least))


def _embedding(reference: Reference) -> EmbeddingReference:
    embedding = reference.embedding
    if embedding is None or not embedding.mean:
        raise ValueError("the reference has no embeddings")
    count = len(embedding.mean)
    if len(embedding.precision) != count or any(len(row) != count for row in embedding.precision):
        raise ValueError(f"the reference's precision of embeddings is no table of {count} by {count} numbers")
    return embedding


def _limit(thresholds: _Thresholds, span: int, chance: float) -> float:
    """Return the squared discrepancy that the mean over a span has with at most this chance."""
    exponent = math.log(1 / min(chance, 0.5))
    bound = thresholds.trace + 2 * math.sqrt(thresholds.square * exponent) + 2 * thresholds.largest * exponent
    return bound * _share(thresholds, span)


def _share(thresholds: _Thresholds, span: int) -> float:
    """Return the covariance of the difference of two means, in that of a mean over one window."""
    return 1 / span + 1 / thresholds.windows


class _Waves:
    """Random Fourier features of embeddings, as the reference's seed gives them."""

    def __init__(self, embedding: EmbeddingReference) -> None:
        self._mean = np.array(embedding.mean)
        count = len(self._mean)
        precision = np.array(embedding.precision)
        values, vectors = np.linalg.eigh((precision + precision.T) / 2)
        self._whitening = vectors * np.sqrt(np.maximum(values, 0))
        normal, uniform = _random(embedding.seed, _WAVES * count)
        self._frequencies = (normal.reshape(count, _WAVES) / math.sqrt(count)).astype(np.float32)
        self._phases = (2 * math.pi * uniform[:_WAVES]).astype(np.float32)

    def whitened(self, embeddings: Array) -> Array:
        """Return the embeddings with mean 0 and covariance 1, if they are like the reference's."""
        with np.errstate(all="ignore"):
            white = (np.nan_to_num(np.asarray(embeddings, np.float64)) - self._mean) @ self._whitening
        clipped: Array = np.clip(np.nan_to_num(white), -_FARTHEST, _FARTHEST).astype(np.float32)
        return clipped

    def of(self, white: Array) -> Array:
        """Return the features ``(n, _WAVES)`` of whitened embeddings."""
        made: Array = np.cos(white @ self._frequencies + self._phases) * np.float32(math.sqrt(2 / _WAVES))
        return made


def _random(seed: int, count: int) -> tuple[Array, Array]:
    """Return normal and uniform numbers, the same with every version of NumPy: it keeps a generator's bits."""
    bits = np.random.PCG64(seed).random_raw(3 * count)
    first, second, third = ((bits >> np.uint64(11)) * 2.0**-53).reshape(3, count)
    return np.sqrt(-2 * np.log(1 - first)) * np.cos(2 * math.pi * second), third


class _Discrepancy:
    """The discrepancy from the reference, over a span."""

    def __init__(self, waves: _Waves, thresholds: _Thresholds, least: float) -> None:
        self._waves = waves
        self._thresholds = thresholds
        self._means = np.array(thresholds.means)
        self._least = least

    def sums(self, observed: Observed) -> Array:
        """Return the sums of the features, and that of the distances from the reference's mean."""
        if observed.embeddings is None:
            raise ValueError("a window has no embedding")
        white = self._waves.whitened(observed.embeddings)
        distances = np.sqrt((white**2).sum(axis=1))
        return np.append(self._waves.of(white).sum(axis=0, dtype=np.float64), distances.sum(dtype=np.float64))

    def judge(self, index: int, means: Array) -> Verdict:
        """Compare the means of the features with the reference's."""
        known = self._thresholds
        squared = float(((means[:-1] - self._means) ** 2).sum())
        ratio = math.sqrt(squared / max(known.limits[index], self._least))
        beyond = squared / _share(known, known.spans[index]) - known.trace
        root = math.sqrt(known.square + 2 * known.largest * max(beyond, 0)) - math.sqrt(known.square)
        p_value = math.exp(-min((root / (2 * known.largest)) ** 2, 700.0))
        moved = [Moved(name="embedding", before=known.distance, now=float(means[-1]))] if ratio >= END else []
        return Verdict(ratio, moved, p_value)
