from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np
import pytest

from limpet.explanation.attribution import Attribution, occlusion, rise, shapley

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from limpet.explanation.attribution import Asking

    Value = Callable[[NDArray[np.float64]], float]


def run(asking: Asking, value: Value) -> tuple[Attribution, int]:
    """Return what a method found about a function of the shares, and how often it asked."""
    count = 0
    try:
        share = next(asking)
        while True:
            count += 1
            share = asking.send(value(share))
    except StopIteration as done:
        return done.value, count


def crooked(share: NDArray[np.float64]) -> float:
    """Parts that work together, against each other, and not at all."""
    a, b, c, d = share[:4]
    return 3 * a - b + 5 * a * c + 2 * b * c * d - 0.5 * d * d


def ends(parts: int, value: Value = crooked) -> tuple[float, float]:
    return value(np.ones(parts)), value(np.zeros(parts))


def by_all_orders(parts: int, value: Value) -> NDArray[np.float64]:
    """Shapley values by their definition: the mean over all orders."""
    added = np.zeros(parts)
    orders = list(permutations(range(parts)))
    for order in orders:
        share = np.zeros(parts)
        for part in order:
            before = value(share)
            share[part] = 1
            added[part] += value(share) - before
    return added / len(orders)


def test_exact_shapley_values_are_the_means_over_all_orders() -> None:
    found, count = run(shapley(5, *ends(5), 32), crooked)
    assert found.exact
    assert count == 30
    np.testing.assert_allclose(found.values, by_all_orders(5, crooked), atol=1e-12)


def test_sampled_shapley_values_add_up_and_are_within_their_errors_of_the_exact_ones() -> None:
    found, count = run(shapley(8, *ends(8), 200), crooked)
    assert not found.exact
    assert count <= 198
    whole, hidden = ends(8)
    assert found.values.sum() == pytest.approx(whole - hidden)
    assert found.errors is not None
    exact, _ = run(shapley(8, whole, hidden, 256), crooked)
    assert (np.abs(found.values - exact.values) <= 4 * found.errors + 1e-9).all()
    assert found.errors[4:].max() == 0  # parts that do nothing


def test_the_same_question_gets_the_same_answer() -> None:
    first, second = (run(shapley(8, *ends(8), 100), crooked)[0] for _ in range(2))
    np.testing.assert_array_equal(first.values, second.values)
    one, other = (run(rise((8,), 100, smooth=False), crooked)[0] for _ in range(2))
    np.testing.assert_array_equal(one.values, other.values)


def test_shapley_says_how_many_invokes_it_needs() -> None:
    with pytest.raises(ValueError, match=r"Shapley values of 12 parts need at least 24 invokes"):
        run(shapley(12, 1.0, 0.0, 23), crooked)
    found, count = run(shapley(12, *ends(12), 24), crooked)
    assert count == 22
    assert found.errors is None


def test_one_part_has_all_of_the_difference() -> None:
    found, count = run(shapley(1, 0.75, 0.25, 2), crooked)
    assert count == 0
    assert found.values.tolist() == [0.5]


def test_occlusion_is_how_far_the_value_sinks_without_a_part() -> None:
    whole, _ = ends(5)
    found, count = run(occlusion(5, whole), crooked)
    assert count == 5
    assert found.values.tolist() == [8.0, 1.0, 7.0, 1.5, 0.0]


def test_rise_finds_the_slope_of_a_value_over_each_part() -> None:
    weights = np.arange(6.0)
    found, count = run(rise((6,), 400, smooth=False), lambda share: float(share @ weights))
    assert count == 400
    assert found.errors is not None
    assert (np.abs(found.values - weights) <= 4 * found.errors).all()
    assert found.errors.max() < 1


def test_smooth_masks_of_rise_point_at_the_pixel_that_counts() -> None:
    shape = (20, 30)

    def bright(share: NDArray[np.float64]) -> float:
        assert share.min() >= 0
        assert share.max() <= 1
        return float(share.reshape(shape)[5, 21])

    found, _ = run(rise(shape, 300, smooth=True), bright)
    assert found.values.reshape(shape)[5, 21] == pytest.approx(1.0)
    top = np.unravel_index(found.values.argsort()[-30:], shape)
    assert np.abs(top[0] - 5).max() <= 4
    assert np.abs(top[1] - 21).max() <= 5
