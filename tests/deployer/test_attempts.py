"""When a source is tried again, and how fast it may and must send. No clock is read."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from limpet.backoff import Backoff
from limpet.deployer import answers
from limpet.deployer.answers import LONGEST_WAIT, Asked, Body
from limpet.deployer.attempts import LEAST_RATE, MOST_FAILURES, Attempts, Pace
from limpet.deployer.failures import SourceFailedError

PAUSES = Backoff(1.0, 30.0, jitter=0.0)
NOW = datetime(2026, 11, 28, 12, 0, tzinfo=timezone.utc)
PASSING, FINAL = SourceFailedError("cut off"), SourceFailedError("404", final=True)


def test_pauses_double_until_a_source_is_given_up() -> None:
    attempts = Attempts(0, PAUSES)
    pauses = [attempts.pause(PASSING, 0) for _ in range(MOST_FAILURES)]
    assert pauses == [1.0, 2.0, 4.0, 8.0, None]


def test_progress_begins_the_count_again() -> None:
    attempts = Attempts(10, PAUSES)
    assert [attempts.pause(PASSING, present) for present in (10, 10, 11, 11, 12, 5)] == [
        1.0,
        2.0,
        1.0,
        2.0,
        1.0,
        2.0,
    ]


def test_what_a_slow_server_brings_is_no_progress() -> None:
    """It may give a byte in each attempt, and be tried for hours."""
    attempts, slow = Attempts(0, PAUSES), SourceFailedError("too slow", slow=True)
    assert [attempts.pause(slow, present) for present in range(1, MOST_FAILURES + 1)][-1] is None


def test_a_final_failure_ends_it_and_a_server_may_ask_for_more_time() -> None:
    assert Attempts(0, PAUSES).pause(FINAL, 100) is None
    assert Attempts(0, PAUSES).pause(SourceFailedError("503", wait=60.0), 0) == 60.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        ("Sat, 28 Nov 2026 12:00:30 GMT", 30.0),
        ("Sat, 28 Nov 2026 11:00:00 GMT", 0.0),
        ("999999999", LONGEST_WAIT),
        ("Sat, 28 Nov 9999 11:00:00 GMT", LONGEST_WAIT),
        ("-5", 0.0),
        ("soon", 0.0),
        ("", 0.0),
        ("9" * 400, 0.0),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(text: str, seconds: float) -> None:
    with pytest.raises(SourceFailedError) as raised:
        answers.read(503, {"Retry-After": text}, Asked(0, 10, 10), NOW)
    assert raised.value.wait == seconds
    assert not raised.value.final


def test_a_weak_etag_stands_for_no_version() -> None:
    assert answers.validator_of({"ETag": '"one"', "Last-Modified": "yesterday"}) == '"one"'
    assert answers.validator_of({"ETag": 'W/"one"', "Last-Modified": "yesterday"}) == "yesterday"
    assert not answers.validator_of({"ETag": '"' + "x" * 300 + '"'})
    assert not answers.validator_of({"Last-Modified": "a\r\nHost: evil"})


def test_a_part_may_be_shorter_than_what_was_asked_for() -> None:
    found = answers.read(206, {"Content-Range": "bytes 3-4/10"}, Asked(3, 10, 10, '"one"'), NOW)
    assert found == Body(3, 5, '"one"', afresh=False)


def test_a_rate_is_kept_by_waiting() -> None:
    pace = Pace(1000.0, 30.0, 0.0)
    now = 0.0
    for _ in range(10):
        now += pace.took(500, now)
    assert now == pytest.approx(5.0)
    assert Pace(0.0, 30.0, 0.0).took(1 << 30, 0.0) == 0.0


def test_a_server_is_too_slow_if_a_whole_window_brings_too_little() -> None:
    pace = Pace(0.0, 10.0, 100.0)
    pace.took(1, 105.0)
    assert not pace.too_slow(105.0)
    assert pace.too_slow(110.0)
    pace.took(int(LEAST_RATE * 10), 119.0)
    assert not pace.too_slow(120.0)
    slow = Pace(100.0, 10.0, 0.0)
    slow.took(300, 5.0)
    assert not slow.too_slow(10.0), "the limit on the rate would make it too slow"
