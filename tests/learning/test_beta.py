"""The beta distribution, against values of SciPy 1.17.1 (scipy.stats.beta)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limpet import beta


@pytest.mark.parametrize(
    ("x", "a", "b", "expected"),
    [
        (0.3, 2, 5, 0.5798250000000003),
        (0.9, 9000, 1000, 0.4964537792481396),
        (0.5, 0.5, 0.5, 0.5000000000000001),
        (0.01, 3, 40, 0.008583853799733485),
        (0.999, 200, 1.5, 0.9400978901816638),
        (0.85, 401, 41, 0.00014379263708663462),
        (0.6, 10.5, 300, 1.0),
    ],
)
def test_the_distribution_is_scipys(x: float, a: float, b: float, expected: float) -> None:
    assert beta.cdf(x, a, b) == pytest.approx(expected, rel=1e-9, abs=1e-300)


@pytest.mark.parametrize(
    ("right", "answers", "low", "high"),
    [
        (45, 50, 0.7946451719769524, 0.9608056356058162),
        (0, 10, 0.0, 0.21719626750921053),
        (10, 10, 0.7828037324907894, 1.0),
        (1, 1000, 0.00010791880468097968, 0.004664458808791372),
        (499, 500, 0.9906905183144927, 0.999784120024227),
        (5, 9, 0.25409386787461596, 0.8270322433271518),
        (0, 0, 0.0, 1.0),
    ],
)
def test_the_interval_is_that_of_jeffreys_prior(right: int, answers: int, low: float, high: float) -> None:
    assert beta.interval(right, answers) == pytest.approx((low, high), abs=1e-9)


@settings(max_examples=50)
@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_any_counts_have_an_interval_around_their_share(right: int, wrong: int) -> None:
    low, high = beta.interval(right, right + wrong)
    share = right / (right + wrong) if right + wrong else 0.5
    assert 0 <= low <= share <= high <= 1
