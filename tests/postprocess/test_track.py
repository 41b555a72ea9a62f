"""Objects keep their ids through what happens before a camera."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limpet.contracts.data import Window
from limpet.contracts.detected_events import ObjectEvent
from limpet.contracts.outputs import Detection, Detections
from limpet.contracts.stage import Spec
from limpet.postprocess import track
from limpet.postprocess._matching import matched
from limpet.postprocess._tracking import Ids
from postprocess.scenes import SECOND, Actor, Played, play, tracker, window_of


def steady(rate: float, seconds: float) -> list[float]:
    return [1000 + step / rate for step in range(int(rate * seconds))]


def walk(begin: float, speed: float, height: float = 0.5) -> Any:
    """Return a walk to the right, from a time of 1000 s on."""
    return lambda time: (begin + speed * (time - 1000), height)


def kinds(played: Played) -> list[str]:
    return [event.type for event in played.events]


def test_an_object_is_one_from_its_first_frame_to_its_last() -> None:
    played = play([Actor(walk(0.1, 0.2))], steady(15, 4))
    assert played.switches == 0
    assert played.outputs[0].detections == []
    assert played.outputs[-1].counts == {"person": 1}
    assert played.outputs[-1].totals == {"person": 1}
    assert kinds(played)[0] == "new"
    assert set(kinds(played)[1:]) <= {"update"}


@pytest.mark.parametrize("rate", [5, 10, 15, 30])
@pytest.mark.parametrize("seed", range(3))
def test_two_that_cross_keep_their_ids(rate: float, seed: int) -> None:
    """They pass before each other, the one behind is hidden while they overlap."""
    right, left = walk(0.15, 0.2), walk(0.85, -0.2, 0.55)

    def hidden(time: float) -> Any:
        return None if abs(right(time)[0] - left(time)[0]) < 0.06 else right(time)

    played = play([Actor(hidden), Actor(left)], steady(rate, 3.5), noise=0.03, seed=seed)
    assert played.switches == 0
    assert played.outputs[-1].totals == {"person": 2}


def test_five_in_a_crowd_keep_their_ids() -> None:
    actors = [Actor(walk(0.1 + 0.15 * n, 0.06 * (-1) ** n, 0.3 + 0.1 * n)) for n in range(5)]
    played = play(actors, steady(12, 6), noise=0.03)
    assert played.switches == 0
    assert played.outputs[-1].totals == {"person": 5}


def test_an_object_behind_a_post_comes_out_with_its_id() -> None:
    place = walk(0.1, 0.15)
    played = play([Actor(lambda time: None if 1002 < time < 1003 else place(time))], steady(10, 5), noise=0.02)
    assert played.switches == 0
    assert kinds(played).count("new") == 1
    assert "end" not in kinds(played)
    while_hidden = [output for output in played.outputs if not output.detections][5:]
    assert while_hidden
    assert all(output.counts == {"person": 1} for output in while_hidden)


def test_an_object_that_scores_low_for_a_while_is_still_there() -> None:
    actor = Actor(walk(0.1, 0.1), score=lambda time: 0.2 if 1001 < time < 1005 else 0.9)
    played = play([actor], steady(10, 7), stage=tracker(seconds=1.0))
    assert played.switches == 0
    assert kinds(played).count("new") == 1
    assert len(played.ids[0]) == 70 - 2


def test_what_scores_low_begins_no_object() -> None:
    assert play([Actor(walk(0.1, 0.1), score=lambda _: 0.4)], steady(10, 3)).events == []


def test_a_flicker_is_never_an_object() -> None:
    """A false positive in every third frame, and one in two frames in a row."""
    times = steady(10, 6)
    flicker = Actor(lambda time: (0.5, 0.5) if round((time - 1000) * 10) % 3 == 0 else None)
    twice = Actor(lambda time: (0.2, 0.5) if round((time - 1000) * 10) in {20, 21} else None)
    played = play([flicker, twice], times)
    assert played.events == []
    assert all(output.detections == [] and output.counts == {} for output in played.outputs)


def test_one_who_leaves_and_one_who_enters_are_two() -> None:
    leaving = Actor(lambda time: (0.9, 0.5) if time < 1003 else None)
    entering = Actor(lambda time: (0.1, 0.5) if time >= 1004 else None)
    played = play([leaving, entering], steady(10, 9), stage=tracker(seconds=2.0))
    assert set(played.ids[0]).isdisjoint(played.ids[1])
    assert kinds(played).count("new") == 2
    (end,) = (event for event in played.events if isinstance(event, ObjectEvent) and event.type == "end")
    assert end.id == played.ids[0][0]
    assert end.unseen_s == pytest.approx(2.0, abs=0.25)
    assert end.age_s == pytest.approx(5.0, abs=0.25)
    assert played.outputs[-1].counts == {"person": 1}
    assert played.outputs[-1].totals == {"person": 2}


def test_frames_may_come_at_any_rate_and_be_missing() -> None:
    rng = np.random.default_rng(4)
    times = [1000 + time for time in np.sort(rng.uniform(0, 8, 60)).tolist()]
    times = [time for time in times if not 1003 < time < 1004.5]
    played = play([Actor(walk(0.05, 0.1)), Actor(walk(0.95, -0.1, 0.2))], times, noise=0.02)
    assert played.switches == 0
    assert played.outputs[-1].totals == {"person": 2}


def test_a_cat_never_becomes_a_dog() -> None:
    cat = Actor(lambda time: (0.5, 0.5) if time < 1002 else None, label="cat")
    dog = Actor(lambda time: (0.5, 0.5) if time >= 1002 else None, label="dog")
    played = play([cat, dog], steady(10, 4))
    assert set(played.ids[0]).isdisjoint(played.ids[1])
    assert played.outputs[-1].totals == {"cat": 1, "dog": 1}


def test_labels_that_the_model_confuses_are_one_object_with_the_label_that_scored_most() -> None:
    stage = tracker(alike=[["car", "truck"]], confirm=3)
    box = (0.4, 0.4, 0.6, 0.6)
    scores = [(0.8, 0.6), (0.0, 0.7), (0.9, 0.0), (0.0, 0.9), (0.6, 0.8)]
    windows = [
        stage(window_of([Detection(*each, box) for each in (("car", car), ("truck", truck)) if each[1]], at / 10))
        for at, (car, truck) in enumerate(scores)
    ]
    assert [event.label for window in windows for event in window.events] == ["car"]
    assert [len(window.result.detections) for window in windows] == [0, 0, 1, 1, 1]
    assert windows[-1].result.detections[0].label == "car"
    assert windows[-1].result.totals == {"car": 1}


def test_a_label_is_alike_in_one_group_alone() -> None:
    with pytest.raises(ValueError, match="twice"):
        track.Config(alike=[["car", "truck"], ["car", "bus"]])


def test_lost_is_a_matter_of_time_also_while_no_frame_comes() -> None:
    stage = tracker(seconds=2.0)
    play([Actor(walk(0.5, 0.0))], steady(10, 1), stage=stage)
    assert stage.idle(Window(np.empty(0), int(1002.8 * SECOND), 0, 0)).events == []
    (end,) = stage.idle(Window(np.empty(0), int(1003.0 * SECOND), 0, 0)).events
    assert (end.type, end.unseen_s) == ("end", 2.1)
    played = play([Actor(walk(0.5, 0.0))], [time + 4 for time in steady(10, 1)], stage=stage)
    assert kinds(played) == ["new"]
    assert played.ids[0][-1] != end.id


def test_updates_come_for_much_change_and_at_most_each_few_seconds() -> None:
    still = play([Actor(walk(0.5, 0.0))], steady(10, 20))
    assert kinds(still) == ["new"]
    moving = play([Actor(walk(0.05, 0.045))], steady(10, 20), stage=tracker(update_seconds=4.0))
    assert kinds(moving) == ["new", *["update"] * 4]
    better = play([Actor(walk(0.5, 0.0), score=lambda time: 0.6 if time < 1010 else 0.95)], steady(10, 20))
    assert [(event.type, event.score) for event in better.events if isinstance(event, ObjectEvent)] == [
        ("new", 0.6),
        ("update", 0.95),
    ]


def test_there_are_at_most_so_many_and_the_best_come_first(caplog: pytest.LogCaptureFixture) -> None:
    actors = [Actor(walk(0.1 + 0.1 * n, 0.0), score=lambda _, n=n: 0.6 + n / 100) for n in range(8)]  # type: ignore[misc]
    played = play(actors, steady(10, 1), stage=tracker(most=3))
    assert played.outputs[-1].counts == {"person": 3}
    assert [one.score for one in played.outputs[-1].detections] == pytest.approx([0.67, 0.66, 0.65])
    assert len([record for record in caplog.records if "as many as `most` says" in record.message]) == 1


def test_ids_grow_and_another_tracker_begins_beyond_them() -> None:
    ids = []
    for _ in range(3):
        played = play([Actor(walk(0.2, 0.0)), Actor(walk(0.8, 0.0))], steady(10, 1))
        ids += sorted({one for own in played.ids for one in own})
    assert ids == sorted(set(ids))
    assert len(ids) == 6


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=30), st.integers(0, 40))
def test_ids_never_overtake_the_clock(steps: list[int], wanted: int) -> None:
    now, taken = 10**12, []
    clock = [now]
    first = Ids(lambda: clock[0])
    first.begin()
    for step in steps:
        clock[0] += step
        taken += [first.take() for _ in range(wanted)]
    clock[0] += 20_000
    second = Ids(lambda: clock[0])
    second.begin()
    given_ids = [number for number in taken if number]
    assert given_ids == sorted(set(given_ids))
    assert second.take() > max(given_ids, default=0)


def test_frames_that_come_too_seldom_are_refused() -> None:
    spec = Spec(shape=(1,), dtype=np.dtype(np.float32), rate=0.2)
    with pytest.raises(ValueError, match=r"a frame comes only each 5 s; set seconds"):
        track.open(track.Config(seconds=3.0), spec)
    track.open(track.Config(seconds=15.0), spec)


def test_labels_without_end_are_counted_together() -> None:
    stage = tracker(confirm=1, seconds=0.1)
    for number in range(400):
        window = stage(window_of([Detection(f"label {number}", 0.9, (0.1, 0.1, 0.2, 0.2))], 1000 + number))
    assert len(window.result.totals) == 101
    assert window.result.totals["other"] == 300


numbers = st.floats() | st.floats(0, 1)
boxes = st.builds(Detection, st.sampled_from(["a", "b"]), numbers, st.tuples(numbers, numbers, numbers, numbers))


@given(st.lists(st.tuples(st.integers(-SECOND, 4 * SECOND), st.lists(boxes, max_size=8)), max_size=20))
@settings(max_examples=50, deadline=None)
def test_whatever_comes_ids_are_unique_and_events_are_pairs(frames: list[tuple[int, list[Detection]]]) -> None:
    stage, now = tracker(confirm=2, most=4), 1000 * SECOND
    there: set[int] = set()
    for step, found in frames:
        now += step
        window = stage(Window(np.empty(0), now, 0, 0, result=Detections(found, {})))
        for event in window.events:
            if event.type == "new":
                assert event.id not in there
                there.add(event.id)
            else:
                assert event.id in there
            if event.type == "end":
                there.remove(event.id)
        ids = [one.id for one in window.result.detections]
        assert len(set(ids)) == len(ids)
        assert set(ids) <= there
        assert sum(window.result.counts.values()) == len(there) <= 4


def best_by_force(worth: Any, least: float) -> tuple[int, float]:
    """Return how many pairs there can be, and the largest sum of their worth."""
    best = (0, 0.0)

    def look(row: int, used: frozenset[int], count: int, total: float) -> None:
        nonlocal best
        if row == len(worth):
            best = max(best, (count, total))
            return
        look(row + 1, used, count, total)
        for column, value in enumerate(worth[row]):
            if column not in used and value >= least:
                look(row + 1, used | {column}, count + 1, total + value)

    look(0, frozenset(), 0, 0.0)
    return best


@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(1, 5), st.sampled_from([0.0, 0.3, 0.7]))
def test_the_assignment_is_the_best_there_is(seed: int, rows: int, columns: int, least: float) -> None:
    worth = np.random.default_rng(seed).random((rows, columns))
    pairs = matched(worth.copy(), least)
    assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == len(pairs)
    assert all(worth[pair] >= least for pair in pairs)
    count, total = best_by_force(worth.tolist(), least)
    assert len(pairs) == count
    assert math.isclose(sum(worth[pair] for pair in pairs), total, abs_tol=1e-9)
