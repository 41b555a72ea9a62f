"""Which slices a result belongs to, by the configuration's groups and the time of day."""

from __future__ import annotations

from datetime import datetime

import pytest

from limpet.learning.slices import Groups, problems, slices

GROUPS: Groups = {
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


def test_groups_as_they_should_be_have_no_problem() -> None:
    assert list(problems(GROUPS)) == []


@pytest.mark.parametrize(
    ("groups", "problem"),
    [
        ({"a b": "north"}, 'groups: \'a b\': use letters, digits, ".", "_" and "-", at most 24 characters'),
        ({"site": "n/s"}, 'groups: \'n/s\': use letters, digits, ".", "_" and "-", at most 24 characters'),
        ({"shift": {"early": "6-14"}}, "groups.shift.early is '6-14'; use times of day as \"06:00-14:00\""),
        (
            {"shift": {"early": "06:00-24:00"}},
            "groups.shift.early is '06:00-24:00'; use times of day as \"06:00-14:00\"",
        ),
        ({f"g{n}": "x" for n in range(9)}, "groups: has 9 groups; use at most 8"),
        ({"t": {f"n{n}": "00:00-01:00" for n in range(17)}}, "groups.t: has 17 times of day; use at most 16"),
    ],
)
def test_what_is_wrong_with_groups_is_said_with_the_key(groups: Groups, problem: str) -> None:
    assert list(problems(groups)) == [problem]
