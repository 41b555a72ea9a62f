"""A Markov chain over classes: how probable each class is in the next step, by how probable it is now."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

SUM_SLACK = 0.01
"""How far from 1 a row or the shares may add up, as numbers are rounded in a file."""
LEAST = 1e-6
"""Least share of a class, so that a class can always come back."""


def shares(given: Mapping[str, float], labels: Sequence[str], key: str) -> NDArray[np.float64]:
    """Return shares in the order of the labels. They add up to 1. ``ValueError`` says what is wrong with them."""
    unknown = [label for label in given if label not in labels]
    if unknown:
        raise ValueError(f"{key} has {unknown[0]!r}, which is no label of the model")
    missing = [label for label in labels if label not in given]
    if missing:
        raise ValueError(f"{key} has no share of {missing[0]!r}; give one for each label")
    found = np.array([given[label] for label in labels], np.float64)
    if abs(found.sum() - 1) > SUM_SLACK:
        raise ValueError(f"the shares in {key} add up to {found.sum():.6g}; they must add up to 1")
    found = np.maximum(found, LEAST)
    return np.asarray(found / found.sum())


def matrix(rows: Sequence[Sequence[float]], size: int) -> NDArray[np.float64]:
    """Return a transition matrix whose rows add up to 1. ``ValueError`` says what is wrong with it."""
    if len(rows) != size or any(len(row) != size for row in rows):
        raise ValueError(f"transition must have {size} rows of {size} numbers, one for each label")
    found = np.array(rows, np.float64)
    sums = found.sum(axis=1)
    worst = int(np.abs(sums - 1).argmax())
    if abs(sums[worst] - 1) > SUM_SLACK:
        raise ValueError(f"row {worst} of transition adds up to {sums[worst]:.6g}; it must add up to 1")
    found /= sums[:, None]
    return found


def staying(stay: float, priors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the chain that stays with a probability, and otherwise draws the next class from the priors."""
    size = len(priors)
    return np.asarray(stay * np.eye(size) + (1 - stay) * np.broadcast_to(priors, (size, size)))


def stationary(transition: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of the steps that a chain spends in each class."""
    size = len(transition)
    found = np.full(size, 1 / size)
    # The average over two steps has the same shares, and it converges also for a chain that alternates.
    lazy = (transition + np.eye(size)) / 2
    for _ in range(64):
        lazy = lazy @ lazy
        newer = found @ lazy
        if np.abs(newer - found).max() < 1e-12:
            break
        found = newer
    found = np.maximum(newer, LEAST)
    return np.asarray(found / found.sum())


def conditioned(
    transition: NDArray[np.float64], usual: NDArray[np.float64], now: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the chain whose shares are ``now`` in place of ``usual``, and that changes as often as before.

    Each change is more or less probable by how much more or less of its target there is. For a chain in which
    each change is as frequent as its reverse, the shares are then exactly ``now``.
    """
    changes = transition.copy()
    np.fill_diagonal(changes, 0)
    before = float(usual @ changes.sum(axis=1))
    changes *= now / usual
    after = float(now @ changes.sum(axis=1))
    if after > 0:
        changes *= before / after
    changes /= max(1.0, float(changes.sum(axis=1).max()))
    # The changes of a class that never stays may add up to a rounding error above 1.
    np.fill_diagonal(changes, np.maximum(1 - changes.sum(axis=1), 0))
    return changes
