from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.histogram import BUCKETS, bounds, bucket_of, merge, quantile
from limpet.inference.latency import Latency, buckets_of
from limpet.wire.records import TIMED_STEPS

durations = st.integers(-(2**63), 2**63 - 1) | st.integers(-5, 10**9)


@given(durations)
def test_a_duration_lies_within_the_bounds_of_its_bucket(value: int) -> None:
    bucket = bucket_of(value)
    low, high = bounds(bucket)
    assert 0 <= bucket < BUCKETS
    assert low <= max(value, 0) < high


def test_buckets_join_without_a_hole_and_are_a_sixteenth_wide_at_most() -> None:
    edges = [bounds(bucket) for bucket in range(BUCKETS)]
    assert edges[0][0] == 0
    assert edges[-1][1] == 2**63
    for (low, high), (following, _) in pairwise(edges):
        assert high == following
        assert high - low <= max(1, low / 16)


@given(st.lists(durations, min_size=1))
def test_many_at_once_fall_into_the_buckets_of_each_alone(values: list[int]) -> None:
    assert buckets_of(np.array(values, np.int64)).tolist() == [bucket_of(value) for value in values]


def test_many_at_once_around_every_edge() -> None:
    values = [
        edge + d for bucket in range(BUCKETS) for edge in bounds(bucket) for d in (-1, 0, 1) if edge + d < 2**63
    ]
    assert buckets_of(np.array(values, np.int64)).tolist() == [bucket_of(value) for value in values]


@given(st.lists(st.integers(0, 10**10), min_size=1), st.floats(0, 1))
def test_a_quantile_is_off_by_half_a_bucket_at_most(values: list[int], q: float) -> None:
    found = quantile(Counter(bucket_of(value) for value in values), q)
    true = sorted(values)[max(int(np.ceil(q * len(values))) - 1, 0)]
    assert found is not None
    assert abs(found - true) <= max(1, true / 16)


def test_the_quantile_of_nothing_is_none() -> None:
    assert quantile({}, 0.5) is None


def test_merging_adds_counts() -> None:
    into = {1: 2, 5: 1}
    merge(into, {5: 3, 9: 4})
    assert into == {1: 2, 5: 4, 9: 4}


@pytest.mark.parametrize("count", [0, 1, 1023, 1024, 1025, 5000])
def test_the_recorder_counts_every_duration_in_its_stage(count: int) -> None:
    rows = np.random.default_rng(count).integers(-10, 10**7, (count, len(TIMED_STEPS))) >> np.array([0, 5, 10, 20])
    latency = Latency()
    for row in rows.tolist():
        latency.record(*row)
    taken = latency.take()
    assert list(taken) == list(TIMED_STEPS)
    for stage, column in zip(TIMED_STEPS, rows.T.tolist(), strict=True):
        assert taken[stage] == Counter(bucket_of(value) for value in column)


def test_taking_starts_anew() -> None:
    latency = Latency()
    latency.record(1, 2, 3, 4)
    assert latency.take() == {"queue": {1: 1}, "transform": {2: 1}, "invoke": {3: 1}, "decode": {4: 1}}
    assert latency.take() == {stage: {} for stage in TIMED_STEPS}
    latency.record(-7, 0, 0, 0)
    assert latency.take()["queue"] == {0: 1}
