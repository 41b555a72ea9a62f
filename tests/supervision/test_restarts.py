from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from limpet.supervision.restarts import COOL_OFF, LIMIT, Restarts


def test_the_first_restart_comes_at_once_and_later_ones_later() -> None:
    restarts = Restarts()
    delays = []
    for number in range(LIMIT - 1):
        restarts.crashed(float(number))
        delays.append(restarts.not_before - number)
    assert delays[0] <= 0.125
    assert all(later > sooner for sooner, later in itertools.pairwise(delays))
    assert not restarts.open


def test_too_many_crashes_open_the_circuit_until_it_is_proven() -> None:
    restarts = Restarts()
    for number in range(LIMIT):
        restarts.crashed(float(number))
    assert restarts.open
    assert restarts.not_before >= LIMIT - 1 + COOL_OFF
    restarts.crashed(COOL_OFF + 10)  # the one try after cooling off
    assert restarts.open
    restarts.open = False
    restarts.crashed(10 * COOL_OFF)
    assert not restarts.open


@given(st.lists(st.floats(0, 30), max_size=50))
def test_a_restart_never_lies_in_the_past_nor_too_far_ahead(pauses: list[float]) -> None:
    restarts, now = Restarts(), 0.0
    for pause in pauses:
        now += pause
        restarts.crashed(now)
        assert now < restarts.not_before <= now + 1.25 * COOL_OFF
