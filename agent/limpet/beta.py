"""The beta distribution: what counts of right and wrong answers say about a share. No numpy."""

from __future__ import annotations

import math
from typing import NamedTuple

_TINY = 1e-300
_STEPS = 500


class Interval(NamedTuple):
    """The limits between which a share is."""

    low: float
    high: float


def log_beta(a: float, b: float) -> float:
    """Return the logarithm of the beta function."""
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def cdf(x: float, a: float, b: float) -> float:
    """Return how probable a share of at most ``x`` is: the regularised incomplete beta function I_x(a, b)."""
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    front = math.exp(a * math.log(x) + b * math.log1p(-x) - log_beta(a, b))
    if x > (a + 1) / (a + b + 2):
        return 1 - front * _fraction(1 - x, b, a) / b
    return front * _fraction(x, a, b) / a


def _fraction(x: float, a: float, b: float) -> float:
    """Return the continued fraction of I_x(a, b) by Lentz's method (DLMF 8.17.22)."""
    c, d = 1.0, 1 / _away_from_zero(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, _STEPS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        change = 1.0
        for term in (even, odd):
            d = 1 / _away_from_zero(1 + term * d)
            c = _away_from_zero(1 + term / c)
            change = c * d
            value *= change
        if abs(change - 1) < 1e-13:
            break
    return value


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


def quantile(p: float, a: float, b: float) -> float:
    """Return the share below which the distribution has the probability ``p``."""
    # Newton's method, and bisection where that would leave the interval.
    low, high, at, scale = 0.0, 1.0, a / (a + b), log_beta(a, b)
    for _ in range(100):
        excess = cdf(at, a, b) - p
        low, high = (low, at) if excess > 0 else (at, high)
        density = math.exp((a - 1) * math.log(at) + (b - 1) * math.log1p(-at) - scale)
        after = at - excess / density if density > _TINY else low
        if not low < after < high:
            after = (low + high) / 2
        if abs(after - at) <= 1e-12 * at or not 0 < after < 1:
            return after
        at = after
    return at


def interval(right: int, answers: int, level: float = 0.95) -> Interval:
    """Return the credible interval of a share with Jeffreys' prior, Beta(1/2, 1/2), equal tails.

    The lower limit is 0 if none was right, the upper one 1 if all were. Source: Brown, Cai and DasGupta, Interval
    estimation for a binomial proportion (2001).
    """
    tail, a, b = (1 - level) / 2, right + 0.5, answers - right + 0.5
    low = quantile(tail, a, b) if right else 0.0
    high = quantile(1 - tail, a, b) if right < answers else 1.0
    return Interval(low, high)
