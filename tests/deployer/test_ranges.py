"""Ranges of bytes behave like sets of bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from limpet.deployer import ranges

LENGTH = 40
PAIR = st.tuples(st.integers(0, LENGTH), st.integers(0, LENGTH))
CHANGES = st.lists(st.tuples(st.booleans(), PAIR), max_size=30)


@given(CHANGES)
def test_ranges_are_what_a_set_of_bytes_would_be(changes: list[tuple[bool, tuple[int, int]]]) -> None:
    found: ranges.Ranges = ()
    there: set[int] = set()
    for is_added, (begin, end) in changes:
        if is_added:
            found = ranges.added(found, begin, end)
            there |= set(range(begin, end))
        else:
            found = ranges.removed(found, begin, end)
            there -= set(range(begin, end))
        assert ranges.sound(found, LENGTH)
        assert {byte for pair in found for byte in range(*pair)} == there
        assert ranges.total(found) == len(there)
        missing = ranges.missing(found, LENGTH)
        assert {byte for pair in missing for byte in range(*pair)} == set(range(LENGTH)) - there


@given(CHANGES, PAIR)
def test_a_range_is_covered_if_each_byte_is_there(
    changes: list[tuple[bool, tuple[int, int]]], asked: tuple[int, int]
) -> None:
    found: ranges.Ranges = ()
    for _, (begin, end) in changes:
        found = ranges.added(found, begin, end)
    there = {byte for pair in found for byte in range(*pair)}
    assert ranges.covers(found, *asked) == (set(range(*asked)) <= there)


@given(st.lists(st.tuples(st.integers(-5, LENGTH + 5), st.integers(-5, LENGTH + 5)), max_size=5))
def test_only_rising_ranges_within_the_file_are_sound(pairs: list[tuple[int, int]]) -> None:
    built: ranges.Ranges = ()
    for begin, end in pairs:
        built = ranges.added(built, begin, end)
    inside = all(begin >= 0 and end <= LENGTH for begin, end in built)
    assert ranges.sound(pairs, LENGTH) == (tuple(pairs) == built and inside)
