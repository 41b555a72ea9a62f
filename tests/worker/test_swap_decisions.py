"""When a successor takes over, and when the old pipeline goes on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.worker.swap import Changes, Phase, Seen, Step, changes, next_step, superseded

NAMES = st.sampled_from("abc")
REVISIONS = st.dictionaries(NAMES, st.integers(1, 3))


@pytest.mark.parametrize(
    ("phase", "seen", "step"),
    [
        (Phase.OPENING, Seen(), Step.WAIT),
        (Phase.OPENING, Seen(finished=True), Step.SETTLE),
        (Phase.OPENING, Seen(finished=True, error="no such model"), Step.FAIL),
        (Phase.OPENING, Seen(overdue=True), Step.FAIL),
        (Phase.SETTLING, Seen(finished=True), Step.WAIT),
        (Phase.SETTLING, Seen(finished=True, chosen=True, ready=True), Step.TAKE_OVER),
        (Phase.SETTLING, Seen(finished=True, chosen=True), Step.FAIL),
        (Phase.TRIAL, Seen(finished=True, chosen=True, ready=True), Step.WAIT),
    ],
)
def test_what_is_seen_of_a_successor_decides_the_next_step(phase: Phase, seen: Seen, step: Step) -> None:
    assert next_step(phase, seen) is step


def test_only_a_proven_successor_takes_over() -> None:
    for phase in Phase:
        for bits in range(16):
            seen = Seen(bool(bits & 1), "" if bits & 2 else "why", bool(bits & 4), bool(bits & 8))
            if next_step(phase, seen) is Step.TAKE_OVER:
                assert phase is Phase.SETTLING
                assert seen.ready


def test_what_runs_as_assigned_is_left_alone() -> None:
    assert changes({"a": 1}, {}, (), {"a": 1}) == Changes([], [], [])


def test_a_changed_pipeline_is_swapped_and_a_new_one_is_opened() -> None:
    assert changes({"a": 1, "gone": 2}, {}, (), {"a": 3, "new": 4}) == Changes(["gone"], ["new"], ["a"])


def test_a_successor_that_failed_is_not_tried_again() -> None:
    assert changes({"a": 1}, {"a": 2}, (), {"a": 2}).swap == []
    assert changes({"a": 1}, {"a": 2}, (), {"a": 3}).swap == ["a"]


def test_a_pipeline_has_one_successor_at_a_time() -> None:
    assert changes({"a": 1}, {}, {"a"}, {"a": 3}).swap == []
    assert changes({}, {}, {"a"}, {"a": 3}).open == []  # the old pipeline has failed since


def test_a_successor_is_given_up_once_another_one_is_assigned_or_none() -> None:
    assert superseded({"a": 2, "b": 2, "c": 2}, {"a": 2, "b": 3}) == ["b", "c"]


@given(REVISIONS, REVISIONS, st.sets(NAMES), REVISIONS)
def test_each_pipeline_is_closed_opened_swapped_or_left_alone(
    running: dict[str, int], failed: dict[str, int], swapping: set[str], wanted: dict[str, int]
) -> None:
    todo = changes(running, failed, swapping, wanted)
    assert len({*todo.close, *todo.open, *todo.swap}) == sum(map(len, todo))
    assert set(todo.close) == running.keys() - wanted.keys()
    assert set(todo.open) == wanted.keys() - running.keys() - swapping
    assert set(todo.swap) <= running.keys() & wanted.keys() - swapping
    for name in running.keys() & wanted.keys() - swapping:
        assert (name in todo.swap) == (wanted[name] not in (running[name], failed.get(name)))
