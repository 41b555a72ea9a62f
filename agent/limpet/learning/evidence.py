"""Evidence that a share has fallen, which may be looked at after each answer.

``log_evidence`` is the logarithm of a mixture of likelihood ratios. While the share is at least ``least``, the
mixture has a mean of at most 1, whenever one looks. By Ville's inequality it exceeds X with a probability of at
most 1 / X. ``strongest`` looks at all ends of a sequence, as the share may have fallen at any time. On average at
least ``LONGEST`` answers pass before that exceeds ``LONGEST`` without a cause.

Sources: Howard et al., Time-uniform, nonparametric, nonasymptotic confidence sequences (2021); Shin, Ramdas and
Rinaldo, E-detectors (2023).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from limpet import beta

if TYPE_CHECKING:
    from collections.abc import Sequence

LONGEST = 10_000.0
"""Answers that pass on average before a false alarm, at least."""
LEAST_WRONG = 3
"""Wrong answers without which there is no evidence."""


def log_evidence(right: int, wrong: int, least: float) -> float:
    """Return the evidence that the share is anywhere below ``least``, against a share of just ``least``."""
    below = beta.cdf(least, right + 1, wrong + 1)
    if below <= 0:
        return -math.inf
    mixture = beta.log_beta(right + 1, wrong + 1) + math.log(below) - math.log(least)
    return mixture - right * math.log(least) - wrong * math.log1p(-least)


def strongest(answers: Sequence[bool], least: float) -> float:
    """Return the strongest evidence of all ends of a sequence, oldest first, that the share is below ``least``."""
    least = min(max(least, 0.01), 0.999)
    best, right, wrong = -math.inf, 0, 0
    for answer in reversed(answers):
        right, wrong = right + answer, wrong + (not answer)
        if not answer and wrong >= LEAST_WRONG and wrong > (1 - least) * (right + wrong):
            best = max(best, log_evidence(right, wrong, least))
    return best


def has_fallen(answers: Sequence[bool], least: float) -> bool:
    """Whether the share of right answers is below ``least`` now, or was a moment ago."""
    return strongest(answers, least) > math.log(LONGEST)
