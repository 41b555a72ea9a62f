"""Which windows a shadow runs, how often it may, and how results wait for it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.wire.records import Result
from limpet.worker.held_results import MOST_HELD, HeldResults
from limpet.worker.shadow_turns import (
    CPU_AT_ONCE,
    MOST_CPU,
    WINDOWS_AT_ONCE,
    WINDOWS_PER_SECOND,
    Pace,
    Turns,
    in_share,
)


@pytest.mark.parametrize("hop", [1, 7, 64, 1000])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_a_share_is_met_evenly_and_is_always_the_same_windows(hop: int, share: float) -> None:
    ordinals = range(5, 5 + 1000 * hop, hop)
    chosen = [in_share(ordinal, share) for ordinal in ordinals]
    assert sum(chosen) == pytest.approx(1000 * share, abs=15)
    assert chosen == [in_share(ordinal, share) for ordinal in ordinals]


def test_one_window_in_so_many_is_run_and_all_of_the_share() -> None:
    turns = Turns(every=5, share=0.3)
    run = [ordinal for ordinal in range(100) if turns.next(ordinal)]
    assert set(run) == {n for n in range(100) if n % 5 == 0 or in_share(n, 0.3)}
    assert [n for n in range(100) if Turns(5, 0.0).answers(n)] == []


@given(
    st.lists(st.tuples(st.floats(0, 0.5), st.floats(0, 2)), max_size=300).map(
        lambda steps: [(sum(pause for pause, _ in steps[: n + 1]), cpu) for n, (_, cpu) in enumerate(steps)]
    )
)
def test_windows_and_cpu_time_stay_within_their_bounds_whatever_windows_take(
    steps: list[tuple[float, float]],
) -> None:
    pace, windows, used, longest = Pace(), 0, 0.0, 0.0
    for now, cpu in steps:
        if pace.take(now):
            windows += 1
            pace.spend(cpu)
            used, longest = used + cpu, max(longest, cpu)
        assert windows <= WINDOWS_AT_ONCE + WINDOWS_PER_SECOND * now + 1
        assert used <= CPU_AT_ONCE + MOST_CPU * now + longest + 1e-6


def result(sample: int) -> Result[Any]:
    return Result("p", "old", 1, "cpu", False, 1, 2, sample, 4, {})


def samples(results: list[Result[Any]]) -> list[int]:
    return [one.sample for one in results]


def test_a_result_that_waits_holds_back_those_behind_it_until_it_is_answered() -> None:
    held = HeldResults()
    assert samples(held.add(result(0), 0.0)) == [0]
    assert held.add(result(1), 5.0) == []
    assert held.add(result(2), 0.0) == []
    theirs = msgspec.structs.replace(result(1), model="new")
    ready = held.answer(1, theirs)
    assert [(one.sample, one.model) for one in ready] == [(1, "new"), (2, "old")]
    assert len(held) == 0


def test_a_result_that_waited_for_long_enough_is_reported_as_it_is_and_a_late_answer_changes_nothing() -> None:
    held = HeldResults()
    held.add(result(1), 5.0)
    held.add(result(2), 6.0)
    assert held.late(4.9) == []
    assert samples(held.late(5.0)) == [1]
    assert held.answer(1, msgspec.structs.replace(result(1), model="new")) == []
    assert samples(held.late(6.0)) == [2]


@given(st.lists(st.tuples(st.sampled_from(["add", "wait", "answer", "late"]), st.integers(0, 400)), max_size=600))
def test_each_result_is_reported_once_and_in_order(steps: list[tuple[str, int]]) -> None:
    held, out, count, now = HeldResults(), [], 0, 0.0
    for step, number in steps:
        now += 0.01
        if step == "answer":
            out += held.answer(
                number, msgspec.structs.replace(result(number), model="new") if number % 2 else None
            )
        elif step == "late":
            out += held.late(now)
        else:
            out += held.add(result(count), now + number / 1000 if step == "wait" else 0.0)
            count += 1
        assert len(held) <= MOST_HELD
    out += held.release()
    assert samples(out) == list(range(count))
