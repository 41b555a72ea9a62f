"""What enters and leaves a zone, and for how long it was there."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from limpet.contracts.data import Window
from limpet.contracts.detected_events import ObjectEvent, ZoneEvent
from limpet.contracts.outputs import Detection, Detections
from limpet.contracts.stage import Spec
from limpet.postprocess import zones
from postprocess.scenes import SECOND, Actor, box_at, tracker, window_of

MIDDLE = [(0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75)]
SPEC = Spec(shape=(1,), dtype=np.dtype(np.float32))


def opened(**options: Any) -> zones.Zones:
    table = {"zones": {"middle": MIDDLE}, "settle": 0.0} | options
    return zones.open(msgspec.convert(table, zones.Config), SPEC)


def standing(x: float, y: float, number: int = 1, label: str = "cat") -> Detection:
    """Return a box whose lower edge has its middle at a point."""
    return Detection(label, 0.9, (x - 0.125, y - 0.25, x + 0.125, y), id=number)


def steps(stage: Any, *points: tuple[float, float]) -> list[tuple[Any, ...]]:
    """Have an object at these points, a second after each other. Return what happened."""
    happened = []
    for second, (x, y) in enumerate(points):
        window = stage(window_of([standing(x, y)], second))
        happened += [(second, one.type, one.occupancy, one.dwell_s) for one in window.events]
    return happened


def test_it_enters_stays_and_leaves() -> None:
    assert steps(opened(), (0.1, 0.5), (0.5, 0.5), (0.6, 0.6), (0.5, 0.5), (0.9, 0.5)) == [
        (1, "entered", 1, None),
        (4, "left", 0, 3.0),
    ]


@pytest.mark.parametrize(
    "point",
    [*MIDDLE, (0.5, 0.25), (0.75, 0.5), (0.5, 0.75), (0.25, 0.3)],
)
def test_a_point_on_the_border_is_in_the_zone(point: tuple[float, float]) -> None:
    assert [kind for _, kind, *_ in steps(opened(), point)] == ["entered"]


@pytest.mark.parametrize(
    "point", [(0.249, 0.5), (0.751, 0.5), (0.5, 0.249), (0.5, 0.751), (0.0, 0.25), (1.0, 0.75)]
)
def test_a_point_beside_the_border_is_not(point: tuple[float, float]) -> None:
    assert steps(opened(), point) == []


def test_a_zone_reaches_the_edge_of_the_picture() -> None:
    """A box that is cut off by the picture's lower edge stands on it; one may even reach beyond it."""
    stage = opened(zones={"all": [(0, 0), (1, 0), (1, 1), (0, 1)]})
    boxes = [Detection("cat", 0.9, (0.4, 0.5, 0.6, bottom), id=n) for n, bottom in enumerate((1.0, 1.2, 0.0), 1)]
    assert len(stage(window_of(boxes, 0.0)).events) == 3


def test_a_zone_may_be_hollow() -> None:
    letter = [(0, 0), (0.9, 0), (0.9, 0.2), (0.2, 0.2), (0.2, 0.9), (0, 0.9)]
    stage = opened(zones={"L": letter})
    assert [kind for _, kind, *_ in steps(stage, (0.5, 0.1), (0.5, 0.5), (0.1, 0.8))] == [
        "entered",
        "left",
        "entered",
    ]


def test_what_jitters_on_the_border_enters_once() -> None:
    stage = opened(settle=2.0)
    way = [(0.3, 0.5)] * 4 + [(0.24, 0.5), (0.26, 0.5)] * 4 + [(0.1, 0.5)] * 4
    assert steps(stage, *way) == [(2, "entered", 1, None), (14, "left", 0, 12.0)]


def test_results_have_the_zones_of_each_object_and_their_occupancy() -> None:
    stage = opened(zones={"middle": MIDDLE, "top": [(0, 0), (1, 0), (1, 0.5), (0, 0.5)]})
    result = stage(window_of([standing(0.5, 0.5), standing(0.9, 0.4, 2), standing(0.9, 0.9, 3)], 0.0)).result
    assert [one.zones for one in result.detections] == [["middle", "top"], ["top"], []]
    assert result.zones == {"middle": {"cat": 1}, "top": {"cat": 2}}
    result = stage(window_of([standing(0.9, 0.9), standing(0.9, 0.9, 2)], 1.0)).result
    assert result.zones == {"middle": {"cat": 0}, "top": {"cat": 0}}


def test_only_some_labels_count() -> None:
    stage = opened(labels=["cat"])
    window = stage(window_of([standing(0.5, 0.5), standing(0.5, 0.5, 2, "dog")], 0.0))
    assert [event.id for event in window.events] == [1]
    assert window.result.zones == {"middle": {"cat": 1}}


def test_two_stages_have_different_zones_for_different_labels() -> None:
    first = opened(labels=["cat"])
    second = opened(zones={"all": [(0, 0), (1, 0), (1, 1), (0, 1)]}, labels=["dog"])
    window = second(first(window_of([standing(0.5, 0.5), standing(0.5, 0.5, 2, "dog")], 0.0)))
    assert [(event.zone, event.id) for event in window.events] == [("middle", 1), ("all", 2)]
    assert window.result.zones == {"middle": {"cat": 1}, "all": {"dog": 1}}
    assert [one.zones for one in window.result.detections] == [["middle"], ["all"]]


def test_an_object_that_is_lost_leaves_before_it_ends_and_stays_until_then() -> None:
    follow, watch = tracker(seconds=1.0), opened()
    actor = Actor(lambda time: (0.5, 0.4) if time < 11 else None)
    events: list[Any] = []
    for step in range(30):
        box = box_at(actor, 10 + step / 10)
        found = [Detection("cat", 0.9, box)] if box else []
        window = watch(follow(window_of(found, 10 + step / 10)))
        events += window.events
        if step == 15:
            assert window.result.detections == []
            assert window.result.zones == {"middle": {"cat": 1}}
    assert [event.type for event in events] == ["new", "entered", "left", "end"]
    assert events[0].zones == ["middle"]
    assert events[2].dwell_s == pytest.approx(1.7, abs=0.11)
    assert window.result.zones == {"middle": {"cat": 0}}


def test_an_object_that_ends_while_no_frame_comes_leaves_too() -> None:
    follow, watch = tracker(seconds=1.0, confirm=1), opened()
    watch(follow(window_of([Detection("cat", 0.9, (0.4, 0.4, 0.6, 0.6))], 10.0)))
    idle = watch.idle(follow.idle(Window(np.empty(0), 12 * SECOND, 0, 0)))
    assert [event.type for event in idle.events] == ["left", "end"]
    assert isinstance(idle.events[0], ZoneEvent)
    assert isinstance(idle.events[1], ObjectEvent)


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ({"zones": {}}, "length >= 1"),
        ({"zones": {"a": [[0, 0], [1, 1]]}}, "length >= 3"),
        ({"zones": {"a": [[0, 0], [1, 1], [0.5, 0.5]]}}, "has no area"),
        ({"zones": {"a": [[0, 0], [1.2, 1], [0.5, 0.5]]}}, "<= 1.0"),
        ({"zones": {"a/#": [[0, 0], [1, 0], [1, 1]]}}, "regex"),
        ({"zones": {"a": [[0, 0], [1, 0], [1]]}}, "length 2"),
        ({"zones": {f"zone {n}": [[0, 0], [1, 0], [1, 1]] for n in range(33)}}, "length <= 32"),
    ],
)
def test_zones_that_cannot_be_are_refused(table: dict[str, Any], why: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=why):
        msgspec.convert(table, zones.Config)


def test_objects_without_ids_are_in_no_zone() -> None:
    window = opened()(window_of([Detection("cat", 0.9, (0.4, 0.4, 0.6, 0.6))], 0.0))
    assert window.events == []
    assert window.result == Detections([Detection("cat", 0.9, (0.4, 0.4, 0.6, 0.6))], {}, zones={"middle": {}})
