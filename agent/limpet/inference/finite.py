"""NaN and infinity do not reach a model: a quantized input would hide them."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from msgspec.structs import replace

from limpet.contracts.data import Samples
from limpet.errors import ModelError

if TYPE_CHECKING:
    from limpet.contracts.data import Array


def finite_runs(samples: Samples) -> list[Samples]:
    """Return a block without the samples that have a NaN or an infinite value, in runs with a gap between them.

    If none is left, return one empty block with a gap.
    """
    values = samples.values
    if values.dtype.kind != "f" or np.isfinite(values).all():
        return [samples]
    good = np.logical_and.reduce(np.isfinite(values.reshape(len(values), -1)), axis=1)
    edges = np.flatnonzero(np.diff(good)) + 1
    runs = [
        Samples(
            values[first:end],
            samples.monotonic_ns[first:end],
            samples.wall_ns[first:end],
            samples.index + first,
            samples.gap or first > 0,
        )
        for first, end in pairwise([0, *edges.tolist(), len(values)])
        if good[first]
    ]
    return runs or [replace(samples, values=values[:0], gap=True)]


def refuse_not_finite(values: Array) -> None:
    """Raise ``ModelError`` if the transforms made a NaN or an infinite value."""
    flat = values.ravel()
    if not (math.isfinite(flat.dot(flat)) or np.isfinite(values).all()):  # The first is faster, and rarely wrong.
        raise ModelError("samples so large that window and transforms make NaN or infinity of them")
