"""Which parts of the memory for tensors are in use."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from limpet.gateway.channels.spans import Span, Spans
from limpet.wire.guest_records import ALIGN

SIZE = 1 << 12


@given(st.lists(st.one_of(st.integers(0, 2000), st.just(None)), max_size=60), st.randoms())
def test_parts_in_use_never_overlap_and_lie_within_the_memory(steps: list[int | None], random: object) -> None:
    spans, used = Spans(SIZE), []
    for step in steps:
        if step is None:
            if used:
                spans.give_back(used.pop(random.randrange(len(used))))  # type: ignore[attr-defined]
        elif (span := spans.take(step)) is not None:
            used.append(span)
        for one in used:
            assert one.offset % ALIGN == 0
            assert one.offset + one.size <= SIZE
        ordered = sorted(used)
        assert all(a.offset + a.size <= b.offset for a, b in pairwise(ordered))
    assert bool(spans) == bool(used)


def test_a_part_that_is_given_back_twice_does_not_free_its_successor() -> None:
    spans = Spans(2 * ALIGN)
    first = spans.take(ALIGN)
    assert first is not None
    spans.give_back(first)
    second = spans.take(ALIGN)
    assert second == first
    spans.give_back(first)
    assert spans.take(2 * ALIGN) is None
    assert spans.take(ALIGN) == Span(ALIGN, ALIGN)


def test_the_lowest_free_part_is_used_first() -> None:
    spans = Spans(SIZE)
    first, second = spans.take(100), spans.take(100)
    assert first is not None
    spans.give_back(first)
    assert spans.take(50) == Span(0, ALIGN)
    assert second == Span(128, 128)
