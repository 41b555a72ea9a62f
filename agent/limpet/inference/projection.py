"""Many numbers to a few, so that windows can be compared by the distance of their embeddings.

It is a count sketch: each number is added, with a random sign, to one of ``MOST_DIMENSIONS`` sums. That keeps
inner products in the mean, and needs little memory. Up to so many numbers are left as they are.

Source: Charikar, Chen and Farach-Colton, Finding frequent items in data streams (2002); Weinberger et al., Feature
hashing for large scale multitask learning (2009).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from limpet.contracts.reference import MOST_DIMENSIONS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from limpet.contracts.data import FloatArray

MOST_PROJECTED = 4096
"""Numbers of an embedding that count; the rest is not looked at."""


class Projection:
    """Projects rows of ``of`` numbers to ``dimensions``. One ``seed`` gives one projection everywhere."""

    def __init__(self, seed: int, of: int) -> None:
        """``ValueError`` if there are no numbers."""
        if of < 1:
            raise ValueError("there is nothing to project")
        self.seed, self.of = seed, of
        self.dimensions = min(of, MOST_DIMENSIONS)
        self._order: NDArray[np.intp] | None = None
        used = min(of, MOST_PROJECTED)
        if of > MOST_DIMENSIONS:
            random = _mixed(seed, used)
            # One number for each sum at least, so that none is empty; the rest falls anywhere.
            sums = (random >> np.uint64(1)) % np.uint64(MOST_DIMENSIONS)
            sums[:MOST_DIMENSIONS] = np.arange(MOST_DIMENSIONS, dtype=np.uint64)
            self._order = np.argsort(sums, kind="stable")
            self._starts = np.searchsorted(sums[self._order], np.arange(MOST_DIMENSIONS, dtype=np.uint64))
            signs = np.where(random & np.uint64(1), np.float32(1), np.float32(-1))
            self._signs = signs[self._order].astype(np.float32)

    def __call__(self, rows: FloatArray) -> FloatArray:
        """Return float32 ``(n, dimensions)`` of ``(n, of)``. ``ValueError`` for rows of another length."""
        if rows.ndim != 2 or rows.shape[1] != self.of:
            raise ValueError(f"embeddings of shape {list(rows.shape)}, not rows of {self.of} numbers")
        if self._order is None:
            return rows.astype(np.float32, copy=False)
        return np.asarray(np.add.reduceat(rows[:, self._order] * self._signs, self._starts, axis=1), np.float32)


def _mixed(seed: int, count: int) -> NDArray[np.uint64]:
    """Return ``count`` random numbers of 64 bits: SplitMix64, the same in every version of numpy."""
    with np.errstate(over="ignore"):
        z = (np.arange(1, count + 1, dtype=np.uint64) + np.uint64(seed % (1 << 64))) * np.uint64(
            0x9E3779B97F4A7C15
        )
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(z ^ (z >> np.uint64(31)))
