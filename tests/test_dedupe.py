"""Telling redeliveries from news."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.dedupe import RUNS, Dedupe, Runs


@given(st.lists(st.integers(0, 60), max_size=200))
def test_it_knows_exactly_what_it_has_seen(numbers: list[int]) -> None:
    runs = Runs()
    seen: set[int] = set()
    for number in numbers:
        assert runs.add(number) == (number not in seen)
        seen.add(number)
    assert {number for number in range(62) if number in runs} == seen
    gaps = list(zip(runs.ends, runs.starts[1:], strict=False))
    assert all(start > end + 1 for end, start in gaps)


def test_streams_do_not_mix() -> None:
    seen = Dedupe()
    ids = [f"{device}/{pipeline}/{boot}/7" for device in "ab" for pipeline in "pq" for boot in ("1-x", "2-x")]
    assert all(seen.add(identifier) for identifier in ids)
    assert not any(seen.add(identifier) for identifier in ids)


def test_a_long_stream_costs_one_run_and_one_with_many_holes_a_bounded_number() -> None:
    long, holed = Runs(), Runs()
    for number in range(10_000):
        assert long.add(number)
    assert (long.starts, long.ends) == ([0], [9_999])
    for number in range(0, 4 * RUNS, 2):
        assert holed.add(number)
    assert len(holed.starts) == len(holed.ends) == RUNS
    assert 4 * RUNS - 2 in holed
    assert 0 not in holed  # the lowest are forgotten


def test_old_streams_are_forgotten() -> None:
    seen = Dedupe(streams=2)
    for number in range(10):
        assert seen.add(f"d/p/1-x/{number}")
    seen.add("d/p/2-x/0")
    seen.add("d/p/3-x/0")
    assert seen.add("d/p/1-x/5")


@pytest.mark.parametrize("identifier", ["", "7", "d/p/7", "d/p/b/x", "d/p/b/-1", "a/b/c/d/1", "d/p/b/²"])
def test_what_is_no_id_is_refused(identifier: str) -> None:
    with pytest.raises(ValueError, match="no result's id"):
        Dedupe().add(identifier)


def test_hostile_ids_are_refused() -> None:
    seen = Dedupe()
    for identifier in ("d/p/1-x/" + "9" * 5000, "d" * 10_000 + "/p/1-x/1", "d/p/1-x/-1", "d/p/1-x/\u0663"):
        with pytest.raises(ValueError, match="is no result's id"):
            seen.add(identifier)
