"""Rows to samples: ordinals, gaps, calibration and stamps, on clocks that the test moves."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.contracts.data import Rows
from limpet.sources._rows import Calibration, Continuity, Shaper

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.data import Samples

MINUTE = 60_000_000
WRAP = 1 << 32


def rows(
    sequence: Sequence[int] | None = None,
    time_us: Sequence[int] | None = None,
    values: Sequence[Sequence[float]] = (),
    gap: Sequence[bool] = (),
) -> Rows:
    count = len(sequence or time_us or values)
    return Rows(
        np.array(values or [[0.0]] * count, np.float64),
        np.array(gap or [False] * count),
        None if sequence is None else np.array(sequence, np.int64),
        None if time_us is None else np.array(time_us, np.int64),
    )


def placed(continuity: Continuity, given: Rows, now_us: int = 0) -> tuple[list[int], list[bool]]:
    kept, ordinals = continuity.place(given, now_us)
    assert len(kept.values) == len(kept.gap) == len(ordinals)
    return ordinals.tolist(), kept.gap.tolist()


@pytest.mark.parametrize(
    ("modulo", "sequence", "ordinals", "gaps", "dropped"),
    [
        (None, [7, 8, 9], [0, 1, 2], [], {}),
        (None, [7, 10, 11], [0, 3, 4], [1], {"sequence_gap": 2}),
        (None, [7, 10, 20], [0, 3, 13], [1, 2], {"sequence_gap": 11}),
        (None, [7, 7, 8, 8, 8, 9], [0, 1, 2], [], {"duplicate": 3}),
        (None, [7, 8, 0, 1], [0, 1, 2, 3], [2], {"restarted": 1}),
        (None, [7, 8, 5, 9], [0, 1, 2, 6], [2, 3], {"restarted": 1, "sequence_gap": 3}),
        (10, [8, 9, 0, 1], [0, 1, 2, 3], [], {}),
        (10, [8, 1], [0, 3], [1], {"sequence_gap": 2}),
        (10, [8, 4], [0, 1], [1], {"restarted": 1}),
        (10, [9, 9, 0, 0], [0, 1], [], {"duplicate": 2}),
        (65536, [65534, 65535, 0], [0, 1, 2], [], {}),
        (65536, [30000, 0], [0, 1], [1], {"restarted": 1}),
    ],
)
def test_sequence_numbers(
    modulo: int | None, sequence: list[int], ordinals: list[int], gaps: list[int], dropped: dict[str, int]
) -> None:
    expected = (ordinals, [n in gaps for n in range(len(ordinals))])
    counted: Counter[str] = Counter()
    assert placed(Continuity(modulo, counted), rows(sequence)) == expected
    assert counted == dropped
    one_by_one: Counter[str] = Counter()
    continuity = Continuity(modulo, one_by_one)
    pairs = [placed(continuity, rows([number])) for number in sequence]
    assert ([n for o, _ in pairs for n in o], [g for _, gap in pairs for g in gap]) == expected
    assert one_by_one == dropped


@given(st.lists(st.integers(0, 255), max_size=40), st.integers(0, 40))
def test_samples_kept_and_missing_add_up(sequence: list[int], cut: int) -> None:
    counted: Counter[str] = Counter()
    continuity = Continuity(256, counted)
    ordinals = [n for part in (sequence[:cut], sequence[cut:]) for n in placed(continuity, rows(part))[0]]
    assert ordinals == sorted(set(ordinals))
    assert len(ordinals) == len(sequence) - counted["duplicate"]
    assert continuity.next == len(ordinals) + counted["sequence_gap"]


def test_a_damaged_frame_between_rows_that_follow_lost_nothing() -> None:
    continuity = Continuity(None, Counter())
    assert placed(continuity, rows([1, 2], gap=[False, True])) == ([0, 1], [False, False])
    assert placed(continuity, rows([3, 4], gap=[True, False])) == ([2, 3], [False, False])


def test_without_counters_the_framing_says_where_gaps_are() -> None:
    continuity = Continuity(None, Counter())
    values = [[1.0], [2.0]]
    assert placed(continuity, rows(values=values, gap=[False, True])) == ([0, 1], [False, True])
    assert placed(continuity, rows(values=values, gap=[True, False])) == ([2, 3], [True, False])


def test_a_restart_that_looks_like_a_loss_shows_on_the_clock() -> None:
    counted: Counter[str] = Counter()
    continuity = Continuity(65536, counted)
    placed(continuity, rows([40000], [5 * MINUTE]), now_us=77 * MINUTE)
    assert placed(continuity, rows([0, 1], [100, 200]), now_us=78 * MINUTE) == ([1, 2], [True, False])
    assert counted == {"restarted": 1}


def test_a_restart_in_the_upper_half_of_the_clock_shows_as_a_leap() -> None:
    counted: Counter[str] = Counter()
    continuity = Continuity(65536, counted)
    placed(continuity, rows([40000], [60 * MINUTE]), now_us=0)
    assert placed(continuity, rows([0], [100]), now_us=MINUTE) == ([1], [True])
    assert placed(continuity, rows([1], [200]), now_us=MINUTE) == ([2], [False])
    assert counted == {"restarted": 1}


def test_a_loss_is_a_loss_when_bytes_came_late() -> None:
    counted: Counter[str] = Counter()
    continuity = Continuity(65536, counted)
    placed(continuity, rows([0], [MINUTE]), now_us=0)
    placed(continuity, rows([10], [MINUTE + 10_000]), now_us=5 * MINUTE)  # the agent was stopped for five minutes
    placed(continuity, rows([30_000], [6 * MINUTE]), now_us=5 * MINUTE + 5000)
    assert counted == {"sequence_gap": 9 + 29_989}


def test_the_clock_wraps_unseen() -> None:
    counted: Counter[str] = Counter()
    continuity = Continuity(None, counted)
    for n in range(0, 100 * MINUTE, MINUTE):
        placed(continuity, rows(None, [n % WRAP, (n + 1000) % WRAP]), now_us=n)
    assert not counted


def test_a_clock_alone_shows_a_restart() -> None:
    counted: Counter[str] = Counter()
    continuity = Continuity(None, counted)
    times = [MINUTE, MINUTE - 1000, MINUTE + 1000, 0]
    assert placed(continuity, rows(None, times)) == ([0, 1, 2, 3], [False, False, False, True])
    assert counted == {"restarted": 1}


def shaper(rate: float | None = None, dropped: Counter[str] | None = None, **given: Any) -> Shaper:
    neutral: dict[str, Any] = {"scale": 1.0, "offset": 0.0, "low": -np.inf, "high": np.inf}
    calibration = Calibration(**{key: np.array(number) for key, number in (neutral | given).items()})
    return Shaper(calibration, rate, Counter() if dropped is None else dropped)


def shaped(shape: Shaper, given: Rows, now_ns: int = 0, first: int = 0) -> list[Samples]:
    return list(shape.shape(given, np.arange(len(given.values)) + first, now_ns, now_ns + 10**18))


def test_calibration_is_by_channel_and_the_range_is_of_real_values() -> None:
    dropped: Counter[str] = Counter()
    shape = shaper(None, dropped, scale=[2.0, 10.0], offset=[1.0, 0.0], low=[0.0, -20.0], high=[5.0, 20.0])
    (samples,) = shaped(shape, rows(values=[[1, -2], [2, 2], [-0.5, 0]]))
    assert samples.values.tolist() == [[3, -20], [5, 20], [0, 0]]
    assert samples.values.dtype == np.float32
    assert not dropped
    assert shaped(shape, rows(values=[[2.1, 0], [0, -2.1], [3, 3]]), first=3) == []
    assert dropped == {"out_of_range": 3}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39, -1e300])
def test_what_float32_cannot_say_is_dropped_and_leaves_a_gap(bad: float) -> None:
    dropped: Counter[str] = Counter()
    before, after = shaped(shaper(None, dropped), rows(values=[[1], [2], [bad], [4], [5]]))
    assert (before.values.tolist(), before.index, before.gap) == ([[1], [2]], 0, False)
    assert (after.values.tolist(), after.index, after.gap) == ([[4], [5]], 3, True)
    assert dropped == {"not_finite": 1}


def test_a_gap_at_the_end_of_a_read_marks_the_next() -> None:
    shape = shaper()
    (first,) = shaped(shape, rows(values=[[1], [np.nan]]))
    (second,) = shaped(shape, rows(values=[[3], [4]]), first=2)
    (third,) = shaped(shape, rows(values=[[5]]), first=4)
    assert [(s.index, s.gap) for s in (first, second, third)] == [(0, False), (2, True), (4, False)]


def test_stamps_are_spread_back_by_the_rate_and_never_go_back() -> None:
    shape = shaper(1000.0)
    (first,) = shaped(shape, rows(values=[[1], [2], [3]]), now_ns=10_000_000)
    assert first.monotonic_ns.tolist() == [8_000_000, 9_000_000, 10_000_000]
    assert (first.wall_ns - first.monotonic_ns).tolist() == [10**18] * 3
    (second,) = shaped(shape, rows(values=[[4], [5], [6]]), now_ns=11_000_000, first=3)
    assert second.monotonic_ns.tolist() == [10_000_000, 10_000_000, 11_000_000]


def test_a_loss_within_a_read_moves_the_stamps_before_it() -> None:
    given = rows(values=[[1], [2]])
    first, second = shaper(1000.0).shape(given, np.array([0, 5]), 10_000_000, 10_000_000)
    assert (first.monotonic_ns.tolist(), second.monotonic_ns.tolist()) == ([5_000_000], [10_000_000])


def test_without_a_rate_the_board_says_how_far_apart_samples_are() -> None:
    given = rows(None, [WRAP - 5, 10, 8, 15])
    (samples,) = shaped(shaper(), given, now_ns=1_000_000)
    assert samples.monotonic_ns.tolist() == [980_000, 993_000, 993_000, 1_000_000]


def test_without_either_all_have_the_time_of_the_read() -> None:
    (samples,) = shaped(shaper(), rows(values=[[1], [2]]), now_ns=7)
    assert samples.monotonic_ns.tolist() == [7, 7]
