"""Scores as ranks: which share of the reference's windows has a smaller score. A rank is between 0 and 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from limpet.contracts.data import Array
    from limpet.contracts.reference import FeatureReference, Reference


def score_of(reference: Reference) -> FeatureReference:
    """Return what the reference has of the score. ``ValueError`` if there is none."""
    if reference.score is None:
        raise ValueError("the reference has no score")
    return reference.score


class Ranks:
    """Ranks of scores, by the reference's quantiles. Equal quantiles have their mean rank.

    A score beyond them has the rank 0 or 1.
    """

    def __init__(self, score: FeatureReference) -> None:
        quantiles = np.maximum.accumulate(np.asarray(score.quantiles, np.float64))
        self._values, first, counts = np.unique(quantiles, return_index=True, return_counts=True)
        self._ranks = (first + (counts - 1) / 2) / (len(quantiles) - 1)

    def of(self, scores: Array) -> Array:
        """Return the ranks of scores that are numbers. The others are left out."""
        numbers = np.asarray(scores, np.float64)
        return np.interp(numbers[~np.isnan(numbers)], self._values, self._ranks, left=0.0, right=1.0)
