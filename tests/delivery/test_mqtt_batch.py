"""Batching, on a clock that the test moves."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from limpet.delivery.mqtt.batch import Batch, Batcher
from limpet.delivery.mqtt.outgoing import json_array, json_size


def test_the_first_after_a_quiet_period_goes_at_once() -> None:
    batcher = Batcher(count=10, age=0.25, size=1000)
    assert batcher.add("motion", b"1", 100.0) == [Batch("motion", 100.0, (b"1",))]
    assert batcher.add("motion", b"2", 100.3) == [Batch("motion", 100.3, (b"2",))]


def test_what_comes_faster_is_collected_until_the_batch_before_is_old() -> None:
    batcher = Batcher(count=10, age=0.25, size=1000)
    batcher.add("motion", b"1", 100.0)
    assert batcher.add("motion", b"2", 100.1) == []
    assert batcher.add("motion", b"3", 100.2) == []
    assert batcher.next_due() == 100.25
    assert batcher.due(100.24) == []
    assert batcher.since() == 100.1
    assert batcher.due(100.25) == [Batch("motion", 100.1, (b"2", b"3"))]
    assert batcher.next_due() == batcher.since() == math.inf
    assert batcher.add("motion", b"4", 100.3) == []


def test_a_full_batch_goes_at_once() -> None:
    batcher = Batcher(count=2, age=0.25, size=1000)
    batcher.add("motion", b"1", 100.0)
    batcher.add("motion", b"2", 100.01)
    assert batcher.add("motion", b"3", 100.02) == [Batch("motion", 100.01, (b"2", b"3"))]


def test_a_batch_stays_under_its_size() -> None:
    batcher = Batcher(count=100, age=0.25, size=10)
    batcher.add("motion", b"1", 100.0)
    batcher.add("motion", b"12345", 100.01)
    assert batcher.add("motion", b"67890", 100.02) == [Batch("motion", 100.01, (b"12345",))]
    assert batcher.flush(100.03) == [Batch("motion", 100.02, (b"67890",))]


def test_keys_do_not_wait_for_each_other() -> None:
    batcher = Batcher(count=10, age=0.25, size=1000)
    batcher.add("motion", b"1", 100.0)
    assert batcher.add("camera", b"1", 100.0) == [Batch("camera", 100.0, (b"1",))]


@given(
    arrivals=st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 0.5), st.integers(1, 60)), max_size=60),
    count=st.integers(1, 5),
    size=st.integers(20, 100),
)
def test_nothing_is_lost_or_reordered_and_no_bound_is_passed(
    arrivals: list[tuple[str, float, int]], count: int, size: int
) -> None:
    batcher = Batcher(count=count, age=0.25, size=size)
    now = 0.0
    out: dict[str, list[bytes]] = {"a": [], "b": [], "c": []}
    for number, (key, pause, length) in enumerate(arrivals):
        now += pause
        batches = batcher.due(now)
        batches += batcher.add(key, b"%d" % number + b"x" * length, now)
        for name, _, items in batches:
            assert 0 < len(items) <= count
            assert len(items) == 1 or json_size(items) <= size
            out[name] += items
    for name, _, items in batcher.flush(now):
        out[name] += items
    for name, items in out.items():
        numbers = [int(item.rstrip(b"x")) for item in items]
        assert numbers == [n for n, arrival in enumerate(arrivals) if arrival[0] == name]


def test_one_item_is_an_object_and_more_are_an_array() -> None:
    assert json_array([b"{}"]) == b"{}"
    assert json_array([b"{}", b"[]"]) == b"[{},[]]"
