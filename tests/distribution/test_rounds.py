"""Which chunk is sent next when many devices lack different ones."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from limpet.distribution.rounds import ON_ITS_WAY, Rounds


def sent_by(rounds: Rounds, now: float, most: int = 1000) -> list[int]:
    indices: list[int] = []
    while len(indices) < most and (index := rounds.next()) is not None:
        rounds.note_sent(now)
        indices.append(index)
    return indices


def test_requests_of_many_devices_are_merged() -> None:
    rounds = Rounds(10)
    for _ in range(100):
        rounds.request([(0, 3), (7, 7)], 0.0)
    rounds.request([(2, 5)], 0.0)
    assert rounds.waiting == 7
    assert sent_by(rounds, 0.0) == [0, 1, 2, 3, 4, 5, 7]
    assert (rounds.sent, rounds.waiting, rounds.number) == (7, 0, 1)


def test_a_chunk_goes_out_once_in_a_round() -> None:
    rounds = Rounds(6)
    rounds.request([(0, 5)], 0.0)
    assert sent_by(rounds, 0.0, 3) == [0, 1, 2]
    late = ON_ITS_WAY + 1
    rounds.request([(0, 5)], late)  # a device that joins late
    assert sent_by(rounds, late) == [3, 4, 5, 0, 1, 2]
    assert rounds.number == 2


def test_a_request_that_crossed_the_chunk_does_not_count() -> None:
    rounds = Rounds(2)
    rounds.request([(0, 1)], 0.0)
    assert sent_by(rounds, 0.0) == [0, 1]
    rounds.request([(0, 1)], ON_ITS_WAY / 2)
    assert rounds.next() is None
    rounds.request([(1, 1)], ON_ITS_WAY)
    assert sent_by(rounds, ON_ITS_WAY) == [1]


@given(st.lists(st.tuples(st.integers(), st.integers()), max_size=300))
def test_ranges_of_a_stranger_cost_no_more_than_one_round(requested: list[tuple[int, int]]) -> None:
    rounds = Rounds(50)
    rounds.request(requested, 0.0)
    indices = sent_by(rounds, 0.0)
    assert len(indices) == len(set(indices)) <= 50
    assert set(indices) <= set(range(50))


@given(st.lists(st.tuples(st.integers(0, 49), st.integers(0, 49)), max_size=3))
def test_disjoint_requests_are_all_sent(requested: list[tuple[int, int]]) -> None:
    rounds = Rounds(50)
    wanted = set()
    for pair in requested:
        first, last = sorted(pair)
        rounds.request([(first, last)], 0.0)
        wanted |= set(range(first, last + 1))
    assert sent_by(rounds, 0.0) == sorted(wanted)
