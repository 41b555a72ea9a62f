from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from limpet.supervision.roster import NAME, Roster

if TYPE_CHECKING:
    from pathlib import Path


def roster(state: Path) -> tuple[Roster, list[str]]:
    damaged: list[str] = []
    return Roster(state, damaged.append), damaged


def test_a_pipeline_that_is_gone_is_named_in_each_run_until_it_is_forgotten(tmp_path: Path) -> None:
    assert roster(tmp_path)[0].adopt(["one", "two"]) == set()
    assert roster(tmp_path)[0].adopt(["one"]) == {"two"}
    third = roster(tmp_path)[0]
    assert third.adopt(["one"]) == {"two"}
    assert third.adopt(["one"]) == set()  # a reload names it no second time
    for _ in range(3):
        third.health_published(connected=True)
    assert roster(tmp_path)[0].adopt(["one"]) == set()


def test_a_pipeline_that_comes_back_is_not_gone(tmp_path: Path) -> None:
    first = roster(tmp_path)[0]
    first.adopt(["one", "two"])
    assert first.adopt(["one"]) == {"two"}
    assert first.adopt(["one", "two"]) == set()
    assert roster(tmp_path)[0].adopt(["one", "two"]) == set()


def test_a_device_that_is_never_connected_remembers_a_bounded_number(tmp_path: Path) -> None:
    for n in range(300):
        roster(tmp_path)[0].adopt([f"p{n}"])
    assert len(roster(tmp_path)[0].adopt([])) == 100


@pytest.mark.parametrize(
    "content",
    [
        b"\0" * 100,
        b"",
        b'{"names":["a/#"],"crc":2071043023}',
        b'{"names":["one"],"crc":1}',
        b"[" * 100_000,
        b"\xff" * 2_000_000,
    ],
    ids=["zeros", "empty", "topic", "checksum", "nested", "large"],
)
def test_a_damaged_record_is_set_aside_and_names_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)
    first, damaged = roster(tmp_path)
    assert len(damaged) == 1
    assert first.adopt(["one"]) == set()
    assert (tmp_path / f"{NAME}.damaged").read_bytes() == content
    assert roster(tmp_path)[1] == []


def test_a_fifo_or_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"x")
    state = tmp_path / "state"
    state.mkdir()
    (state / NAME).symlink_to(precious)
    assert len(roster(state)[1]) == 1
    os.mkfifo(state / NAME)
    first, damaged = roster(state)
    assert len(damaged) == 1
    first.adopt(["one"])
    assert precious.read_bytes() == b"x"


def test_it_does_without_a_state_directory(tmp_path: Path) -> None:
    first, damaged = roster(tmp_path / "absent")
    assert (first.adopt(["one"]), first.adopt([]), damaged) == (set(), {"one"}, [])


def test_pipelines_that_take_no_pictures_any_more_are_named_until_brokers_know(tmp_path: Path) -> None:
    first = roster(tmp_path)[0]
    first.adopt(["one", "two", "three"], ["one", "two"])
    assert first.unpictured == set()
    second = roster(tmp_path)[0]
    second.adopt(["one", "three"], ["three"])
    assert second.unpictured == {"one", "two"}
    third = roster(tmp_path)[0]
    third.adopt(["one", "three"], ["three", "one"])
    assert third.unpictured == {"two"}
    for _ in range(3):
        third.health_published(connected=True)
    fourth, damaged = roster(tmp_path)
    fourth.adopt(["one", "three"], ["three", "one"])
    assert (fourth.unpictured, damaged) == (set(), [])
