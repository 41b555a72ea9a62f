"""Windows, byte budgets and disk space of updates."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.contracts.updates import UpdateWindow
from limpet.updates.schedule import (
    LONGEST_LOOK,
    Conditions,
    Disk,
    budget_left,
    never_meet,
    next_look,
    spend,
    to_prune,
    until_tomorrow,
    why_no_room,
    why_not_now,
)
from support.update_world import bundle, request

NIGHT = UpdateWindow(begin="22:30", end="04:00")
TIMES = st.builds(lambda minute: f"{minute // 60:02}:{minute % 60:02}", st.integers(0, 1439))
WINDOWS = st.builds(UpdateWindow, begin=st.none() | TIMES, end=st.none() | TIMES)
BERLIN = ZoneInfo("Europe/Berlin")


def at(time: str) -> Conditions:
    return Conditions(local=datetime.fromisoformat(f"2026-11-28T{time}+01:00"))


@pytest.mark.parametrize("time", ["22:30:00", "23:59:59", "00:00:00", "03:59:59"])
def test_a_window_that_passes_midnight_is_open_on_both_sides(time: str) -> None:
    assert why_not_now([NIGHT], at(time)) == ""


@pytest.mark.parametrize("time", ["22:29:59", "04:00:00", "12:00:00"])
def test_a_window_is_closed_outside_of_its_times(time: str) -> None:
    assert why_not_now([NIGHT], at(time)) == "The model waits for its window from 22:30 to 04:00."


def test_a_window_with_one_limit_lasts_from_or_until_midnight() -> None:
    late, early = UpdateWindow(begin="22:00"), UpdateWindow(end="06:00")
    assert [why_not_now([late], at(time)) for time in ("23:59:00", "00:00:00")] == [
        "",
        "The model waits for its window from 22:00.",
    ]
    assert [bool(why_not_now([early], at(time))) for time in ("00:00:00", "06:00:00", "23:00:00")] == [
        False,
        True,
        True,
    ]


def test_equal_times_are_the_whole_day() -> None:
    whole = UpdateWindow(begin="05:00", end="05:00")
    assert [why_not_now([whole], at(f"{hour:02}:00:00")) for hour in range(24)] == [""] * 24


def test_a_window_of_times_is_closed_while_the_clock_is_not_set_and_another_one_is_not() -> None:
    assert why_not_now([NIGHT], Conditions()) == (
        "The model waits for its window from 22:30 to 04:00. The clock is not set."
    )
    assert why_not_now([UpdateWindow(idle=True)], Conditions()) == ""


def test_idle_and_mains_are_conditions_of_their_own() -> None:
    assert "less busy" in why_not_now([UpdateWindow(idle=True)], Conditions(busy=True))
    assert "on mains" in why_not_now([UpdateWindow(mains=True)], Conditions(on_battery=True))
    assert why_not_now([UpdateWindow()], Conditions(busy=True, on_battery=True)) == ""


def test_all_windows_must_be_open() -> None:
    device = UpdateWindow(begin="01:00", end="05:00")
    assert why_not_now([device, NIGHT], at("02:00:00")) == ""
    assert why_not_now([device, NIGHT], at("23:00:00")) == "The model waits for its window from 01:00 to 05:00."
    assert why_not_now([NIGHT, device], at("04:30:00")) == "The model waits for its window from 22:30 to 04:00."


def test_windows_without_a_common_minute_are_known() -> None:
    assert never_meet([NIGHT, UpdateWindow(begin="04:00", end="22:30")])
    assert not never_meet([NIGHT, UpdateWindow(begin="03:59", end="22:30")])
    assert not never_meet([UpdateWindow(idle=True), NIGHT])


def test_the_next_look_is_when_the_window_opens_but_within_an_hour() -> None:
    assert next_look([NIGHT], at("22:00:30")) == 1770.0
    assert next_look([NIGHT], at("12:00:00")) == LONGEST_LOOK
    assert next_look([NIGHT], Conditions()) == LONGEST_LOOK
    assert next_look([UpdateWindow(idle=True)], Conditions(busy=True)) == 60.0
    assert next_look([UpdateWindow(mains=True)], Conditions(on_battery=True)) == 60.0


@given(WINDOWS, WINDOWS, st.integers(0, 86399))
def test_looks_find_every_window_at_its_first_second(one: UpdateWindow, other: UpdateWindow, second: int) -> None:
    windows = [one, other]
    now = datetime(2026, 11, 28, tzinfo=timezone.utc) + timedelta(seconds=second)
    opens = next(
        (
            now + timedelta(seconds=later)
            for later in (0, *range(60 - now.second, 86400, 60))
            if not why_not_now(windows, Conditions(local=now + timedelta(seconds=later)))
        ),
        None,
    )
    assert (opens is None) <= never_meet(windows)
    looks = 0
    while opens is not None and why_not_now(windows, Conditions(local=now)):
        now += timedelta(seconds=next_look(windows, Conditions(local=now)))
        looks += 1
        assert now <= opens
        assert looks < 60


@pytest.mark.parametrize(
    ("day", "hour", "expected"),
    [
        ("2026-03-29", 0, "2026-03-29T03:00:00+02:00"),  # 02:00 to 03:00 does not exist on this day.
        ("2026-10-25", 0, "2026-10-25T02:00:00+02:00"),  # It exists twice.
    ],
)
def test_summer_time_delays_no_window(day: str, hour: int, expected: str) -> None:
    window = UpdateWindow(begin="02:00", end="04:00")
    now = datetime.fromisoformat(f"{day}T{hour:02}:00").replace(tzinfo=BERLIN)
    while why_not_now([window], Conditions(local=now)):
        wait = next_look([window], Conditions(local=now))
        now = (now.astimezone(timezone.utc) + timedelta(seconds=wait)).astimezone(BERLIN)
    assert now.isoformat() == expected


def test_a_budget_counts_the_bytes_of_a_local_day() -> None:
    today, tomorrow = at("23:59:00").local, datetime.fromisoformat("2026-11-29T00:00:00+01:00")
    spent = spend(spend({}, today, 60), today, 30)
    assert budget_left(100, spent, today) == 10
    assert budget_left(100, spend(spent, today, 50), today) == 0
    assert budget_left(100, spent, tomorrow) == 100
    assert budget_left(None, spent, today) is None
    assert until_tomorrow(today) == 61.0
    assert until_tomorrow(at("12:00:00").local) == LONGEST_LOOK
    assert until_tomorrow(None) == LONGEST_LOOK


def test_a_clock_that_is_not_set_has_a_budget_too_and_old_days_are_forgotten() -> None:
    spent = spend({}, None, 60)
    assert budget_left(100, spent, None) == 40
    for day in range(1, 10):
        spent = spend(spent, datetime(2026, 1, day, tzinfo=timezone.utc), 1)
    assert spent == {"2026-01-07": 1, "2026-01-08": 1, "2026-01-09": 1, "unset": 60}


def test_room_is_needed_for_what_stays_and_for_the_new_bundle_with_its_patch() -> None:
    old, new = bundle("a", 1), bundle("a", 2)
    patched = request(new, sources=[{"patch_of": old.file_sha256, "url": "https://x", "length": 5}])
    assert why_no_room(request(new), [old, old], Disk(bound=20, free=10)) == ""
    assert why_no_room(patched, [old], Disk(bound=25, free=15)) == ""
    assert "needs 15 bytes, and models that must stay have 10" in why_no_room(
        patched, [old], Disk(bound=24, free=15)
    )
    assert "The disk has 14 free" in why_no_room(patched, [old], Disk(bound=25, free=14))


def test_only_what_no_pipeline_has_is_pruned() -> None:
    files = ["a-1.limpet", "a-2.limpet", "notes"]
    assert to_prune(files, [bundle("a", 2)]) == ["a-1.limpet", "notes"]
