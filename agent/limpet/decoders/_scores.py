"""Rows of scores: what several decoders need of a model's output that has one score for each class."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from limpet.decoders._activation import Activation, calibrated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.data import Array, FloatArray, TensorSpec


def row_size(kind: str, outputs: Sequence[TensorSpec]) -> int:
    """Return how many numbers the first output has for one window. ``ValueError`` if it is no row of numbers."""
    if not outputs:
        raise ValueError(f"{kind} takes one row of numbers, and the model has no output")
    tensor = outputs[0]
    if tensor.dtype.kind not in "fiu":
        raise ValueError(f"{kind} takes numbers, and output {tensor.name!r} has {tensor.dtype}")
    wide = [size for size in tensor.shape[1:] if size != 1]
    first = tensor.shape[:1] if tensor.shape[:1] not in {(-1,), (1,)} else ()
    sizes = [*first, *wide]
    if len(sizes) > 1 or -1 in sizes or 0 in sizes:
        raise ValueError(
            f"{kind} takes one row of numbers, not an output of shape {list(tensor.shape)}; "
            f"{tensor.name!r} is the model's first output"
        )
    return prod(sizes)


def names(kind: str, labels: Sequence[str], size: int) -> list[str]:
    """Return the names of so many classes. ``ValueError`` if there are labels for another number, or twice."""
    if labels and len(labels) != size:
        raise ValueError(f"{kind}: there are {len(labels)} labels for {size} scores")
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if list(labels).count(label) > 1)
        raise ValueError(f"{kind}: the label {twice!r} appears twice")
    return list(labels) or [str(number) for number in range(size)]


def class_name(labels: Sequence[str], kind: int) -> str:
    """Return the label of a class, or its number if there is no label for it."""
    return labels[kind] if kind < len(labels) else str(kind)


def activated(
    activation: Activation, raw: Array, temperature: float = 1.0, *, exclusive: bool = True
) -> FloatArray:
    """Return scores, float32 ``(n,)``, with what the model left out. NaN and infinity may become NaN.

    ``exclusive``: whether the classes exclude each other, which a ``temperature`` other than 1 needs to know.
    """
    scores: FloatArray = raw.ravel()
    if scores.dtype != np.float32:
        scores = scores.astype(np.float32)
    with np.errstate(all="ignore"):
        return calibrated(scores, activation, temperature, exclusive=exclusive and len(scores) > 1)


def shown(scores: FloatArray) -> FloatArray | None:
    """Return a copy of scores for ``Window.scores``, ``None`` if one of them is not finite."""
    return scores.copy() if np.isfinite(scores).all() else None
