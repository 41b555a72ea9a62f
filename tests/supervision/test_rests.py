"""When the fork server rests."""

from __future__ import annotations

from limpet.supervision.rests import MOST_PATIENCE, REST_AFTER, WORTH_IT, Rests


def test_it_rests_once_it_has_had_nothing_to_do_for_a_while() -> None:
    rests = Rests(100.0)
    rests.use(105.0)
    assert not rests.due(105.0 + REST_AFTER - 1, None)
    assert rests.due(105.0 + REST_AFTER, None)
    assert not rests.due(105.0 + REST_AFTER + 1, None)  # it does already


def test_it_does_not_rest_shortly_before_a_process_is_to_be_started() -> None:
    rests = Rests(0.0)
    assert not rests.due(50.0, 50.0 + REST_AFTER - 1)
    assert not rests.due(50.0, 49.0)
    assert rests.due(50.0, 50.0 + REST_AFTER)


def test_after_a_short_rest_it_waits_twice_as_long_for_the_next_one() -> None:
    rests = Rests(0.0)
    now = wait = REST_AFTER
    assert rests.due(now, None)
    for _ in range(20):
        now += WORTH_IT - 1
        rests.use(now)
        wait = min(2 * wait, MOST_PATIENCE)
        assert not rests.due(now + wait - 1, None)
        now += wait
        assert rests.due(now, None)
    assert wait == MOST_PATIENCE


def test_a_long_rest_makes_up_for_short_ones() -> None:
    rests = Rests(0.0)
    assert rests.due(REST_AFTER, None)
    rests.use(REST_AFTER + 1)
    assert rests.due(REST_AFTER + 1 + 2 * REST_AFTER, None)
    rests.use(1000.0)
    assert rests.due(1000.0 + REST_AFTER, None)
