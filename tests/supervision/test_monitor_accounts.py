"""Alarms of monitors become events where they begin and end, and what they saw adds up."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from limpet.contracts.drift import (
    DriftEvent,
    MonitorFigures,
    MonitorState,
    Moved,
    OpenAlarm,
)
from limpet.contracts.drift_words import sentence
from limpet.supervision.monitor_accounts import EVENTS_AT_ONCE, MonitorAccount

TIME = datetime(2026, 1, 1, tzinfo=timezone.utc)
MODEL = ("motion", 7)
ALARM = OpenAlarm(moved=[Moved(name="x.mean", before=1, now=3.25)], since_s=90, p_value=1e-9)


def state(alarm: OpenAlarm | None) -> MonitorFigures:
    return MonitorFigures(windows=10, monitors={"univariate": MonitorState(level=2.0, alarm=alarm)})


def take(account: MonitorAccount, figures: MonitorFigures | None, seconds: float = 0.0) -> list[DriftEvent]:
    return account.take(figures, MODEL, TIME + timedelta(seconds=seconds), seconds)


def test_an_alarm_is_one_event_at_its_begin_and_one_at_its_end() -> None:
    account = MonitorAccount()
    assert take(account, state(None)) == []
    (new,) = take(account, state(ALARM), 1)
    assert (new.type, new.monitor, new.moved, new.since_s) == ("new", "univariate", ALARM.moved, 90)
    assert take(account, state(ALARM), 2) == []
    health = account.health
    assert health is not None
    assert health.alarms == ["univariate"]
    alarm = health.monitors["univariate"].alarm
    assert alarm is not None
    assert alarm.since == TIME + timedelta(seconds=1 - 90)
    (end,) = take(account, state(None), 11)
    assert (end.type, end.since_s, end.reason) == ("end", 100, "")
    assert account.health is not None
    assert account.health.alarms == []


def test_an_alarm_ends_where_its_worker_has_no_such_monitor_any_more() -> None:
    account = MonitorAccount()
    take(account, state(ALARM))
    (end,) = take(account, None, 5)
    assert (end.type, end.reason) == ("end", "the monitor was started again")
    assert account.health is None


def test_too_many_events_wait_until_the_limit_allows_them_and_none_is_lost() -> None:
    account, events = MonitorAccount(), []
    for second in range(2 * EVENTS_AT_ONCE):
        events += take(account, state(ALARM if second % 2 else None), second / 1000)
    assert len(events) == EVENTS_AT_ONCE
    assert take(account, state(None), 1) == []
    assert [event.type for event in take(account, state(ALARM), 1000)] == ["new"]


def test_counts_add_up_and_begin_anew_with_another_model() -> None:
    account = MonitorAccount()
    figures = MonitorFigures(windows=10, skipped=2, busy_us=1000, spent_us=30, sketches={"x": [1, 2]})
    account.take(figures, MODEL, TIME, 0)
    account.take(figures, MODEL, TIME, 1)
    health = account.health
    assert health is not None
    assert (health.windows, health.skipped, health.cost, health.sketches) == (20, 4, 0.03, {"x": [2, 4]})
    account.take(figures, ("motion", 8), TIME, 2)
    assert account.health is not None
    assert (account.health.windows, account.health.sketches) == (10, {"x": [1, 2]})


def test_a_worker_cannot_make_sketches_without_limit() -> None:
    account = MonitorAccount()
    for turn in range(10):
        named = {f"{turn}-{n}": [1] for n in range(100)}
        account.take(MonitorFigures(sketches=named), MODEL, TIME, turn)
    account.take(MonitorFigures(sketches={"0-0": [5, 5, 5]}), MODEL, TIME, 11)
    assert account.health is not None
    assert len(account.health.sketches) == 130
    assert account.health.sketches["0-0"] == [5, 5, 5]


def test_events_read_as_sentences() -> None:
    new = DriftEvent(type="new", monitor="sensor", fault="stuck", moved=ALARM.moved, since_s=90, p_value=1e-9)
    assert sentence(new) == (
        "sensor: the sensor repeats the same value; x.mean moved from 1 to 3.25 (since 90 s, p = 1e-09)"
    )
    end = DriftEvent(type="end", monitor="univariate", since_s=7200)
    assert sentence(end) == "univariate: the alarm is over, 2 h after it began"
