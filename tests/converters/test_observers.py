"""Ranges from data: the true extremes, percentiles, the least squared error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet_convert import observers
from limpet_convert.errors import ConvertError
from limpet_convert.observers import BINS, Spread
from support import models

if TYPE_CHECKING:
    from pathlib import Path

    from limpet.contracts.data import FloatArray


def spread(values: FloatArray) -> Spread:
    made = Spread(float(values.min()), float(values.max()), np.zeros(BINS, np.int64))
    made.add(values)
    return made


@pytest.fixture
def network(tmp_path: Path) -> bytes:
    return models.dense(tmp_path / "float.tflite", 4, 4, int8=False, layers=2).read_bytes()


def test_minmax_is_that_of_all_samples_not_their_average(network: bytes) -> None:
    inputs = np.zeros((100, 1, 4), np.float32)
    inputs[17, 0, 2], inputs[60, 0, 1] = 9.0, -5.0
    found = observers.ranges(network, inputs)
    assert {(r.low, r.high) for r in found.values()} == {(-5.0, 9.0)}
    assert set(found) == {"input", "hidden1", "output"}


def test_a_percentile_leaves_out_rare_values_on_both_sides() -> None:
    values = np.concatenate([np.linspace(-1, 1, 100_000), [50.0, -40.0]]).astype(np.float32)
    low, high = observers.percentile(spread(values), 99.9)
    assert -1.1 < low < -0.9
    assert 0.9 < high < 1.1
    assert observers.minmax(spread(values)) == (-40.0, 50.0)


def test_a_percentile_of_all_is_nearly_minmax() -> None:
    values = np.random.default_rng(0).normal(size=5000).astype(np.float32)
    low, high = observers.percentile(spread(values), 100)
    assert (low, high) == pytest.approx(observers.minmax(spread(values)), rel=0.01)


def test_the_least_squared_error_clips_a_spike_and_keeps_an_even_spread() -> None:
    random = np.random.default_rng(0)
    spiked = np.concatenate([random.normal(size=100_000), [60.0]]).astype(np.float32)
    assert observers.mse(spread(spiked))[1] < 57
    even = random.uniform(-1, 1, 100_000).astype(np.float32)
    assert observers.mse(spread(even))[1] == pytest.approx(1, abs=0.02)


def test_the_range_of_least_error_has_less_error_than_the_extremes() -> None:
    values = np.random.default_rng(0).standard_t(3, 50_000).astype(np.float32)

    def error(low: float, high: float) -> float:
        step = (high - low) / 255
        stored = np.rint((values.clip(low, high) - low) / step) * step + low
        return float(((stored - values) ** 2).mean())

    assert error(*observers.mse(spread(values))) < error(*observers.minmax(spread(values)))


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=50))
def test_every_observer_stays_within_what_was_seen_and_zero(values: list[float]) -> None:
    seen = spread(np.array(values, np.float32))
    for low, high in (observers.minmax(seen), observers.percentile(seen, 99), observers.mse(seen)):
        assert low <= high
        assert min(seen.low, 0) - 1e-3 <= low
        assert high <= max(seen.high, 0) + abs(seen.high) * 1e-6 + 1e-3


def test_a_tensor_that_is_not_finite_is_named(network: bytes) -> None:
    inputs = np.full((3, 1, 4), np.finfo(np.float32).max, np.float32)
    inputs[1] = np.inf
    with pytest.raises(ConvertError, match="'input' is not finite"):
        observers.ranges(network, inputs)


def test_progress_ends_at_one(network: bytes) -> None:
    shares: list[float] = []
    observers.ranges(network, np.ones((5, 1, 4), np.float32), "percentile", 99.0, shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1
