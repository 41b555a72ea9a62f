"""Which slices a result belongs to, by the configuration's groups and the time of day."""

from __future__ import annotations

from datetime import datetime

import pytest

from limpet.learning.slices import slices

GROUPS: dict[str, str | dict[str, str]] = {
    "site": "north",
    "shift": {"early": "06:00-14:00", "late": "14:00-22:00", "night": "22:00-06:00"},
    "lunch": {"yes": "12:00-13:00"},
}


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("06:00", ["site=north", "shift=early"]),
        ("12:59", ["site=north", "shift=early", "lunch=yes"]),
        ("14:00", ["site=north", "shift=late"]),
        ("21:59", ["site=north", "shift=late"]),
        ("22:00", ["site=north", "shift=night"]),
        ("00:00", ["site=north", "shift=night"]),
        ("05:59", ["site=north", "shift=night"]),
    ],
)
def test_a_time_of_day_chooses_the_value_of_a_group(time: str, expected: list[str]) -> None:
    assert slices(GROUPS, datetime.fromisoformat(f"2026-11-28T{time}:30")) == expected
