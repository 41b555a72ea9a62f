"""Which events of a worker are passed on, and how what is open ends."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.contracts.detected_events import DetectedEvent, KeywordEvent, LineEvent, ObjectEvent, ZoneEvent
from limpet.supervision.open_objects import AT_ONCE, MOST_OPEN, PER_SECOND, OpenObjects
from limpet.wire.records import EventDetected, LeftOut


def thing(kind: Any, number: int = 1, **more: Any) -> ObjectEvent:
    times = {"age_s": 0.0, "unseen_s": 0.0} | more
    return ObjectEvent(type=kind, id=number, label="cat", score=0.5, box=(0, 0, 1, 1), zones=[], **times)


def zone(kind: Any, number: int = 1, name: str = "drive") -> ZoneEvent:
    return ZoneEvent(type=kind, zone=name, id=number, label="cat", occupancy=1)


def line(number: int = 1) -> LineEvent:
    return LineEvent(line="gate", direction="forward", id=number, label="cat", forward=1, backward=0)


def take(objects: OpenObjects, *events: DetectedEvent, now: float = 0.0) -> list[DetectedEvent]:
    """Return what is passed on of events."""
    found = [passed for event in events for passed in objects.take(EventDetected("a", event, 7), now)]
    return [one.event for one in found if isinstance(one, EventDetected)]


def short(events: list[DetectedEvent]) -> list[tuple[str, int]]:
    return [(event.type, event.id) for event in events]


def test_events_in_their_order_are_passed_on_as_they_are() -> None:
    objects = OpenObjects()
    events = [thing("new"), zone("entered"), thing("update"), line(), zone("left"), thing("end")]
    assert take(objects, *events) == events
    assert objects.end("a", "why", 0.0) == []


@pytest.mark.parametrize("stray", [thing("update"), thing("end"), zone("entered"), zone("left"), line()])
def test_what_belongs_to_no_open_object_is_left_out_and_counted(stray: DetectedEvent) -> None:
    assert OpenObjects().take(EventDetected("a", stray), 0.0) == [LeftOut("a")]


def test_an_id_is_new_once() -> None:
    objects = OpenObjects()
    assert short(take(objects, thing("new", 5), thing("end", 5), thing("new", 5), thing("new", 4))) == [
        ("new", 5),
        ("end", 5),
    ]
    objects.end("a", "crash", 0.0)
    assert take(objects, thing("new", 5)) == []
    assert short(take(objects, thing("new", 6))) == [("new", 6)]


def test_an_object_that_ends_leaves_its_zones_first() -> None:
    objects = OpenObjects()
    take(objects, thing("new"), zone("entered"), now=10.0)
    left, ended = take(objects, thing("end"), now=12.5)
    assert isinstance(left, ZoneEvent)
    assert (left.type, left.zone, left.dwell_s, left.occupancy) == ("left", "drive", 2.5, 0)
    assert ended.type == "end"


def test_what_is_open_ends_with_its_worker_and_says_why() -> None:
    objects = OpenObjects()
    take(objects, thing("new", 1), thing("new", 2), zone("entered", 1), zone("entered", 2), now=10.0)
    take(objects, thing("update", 2, age_s=4.0), now=14.0)
    objects.take(EventDetected("b", thing("new", 9)), 14.0)
    ended = [one.event for one in objects.end("a", "its worker ended", 15.0)]
    assert short(ended) == [("left", 1), ("end", 1), ("left", 2), ("end", 2)]
    assert [one.occupancy for one in ended if isinstance(one, ZoneEvent)] == [1, 0]
    assert [one.age_s for one in ended if isinstance(one, ObjectEvent)] == [5.0, 5.0]
    assert {one.reason for one in ended if not isinstance(one, LineEvent)} == {"its worker ended"}
    assert objects.end("a", "again", 15.0) == []
    assert short([one.event for one in objects.end_all("all", 15.0)]) == [("end", 9)]


def test_a_flood_is_bounded_and_what_was_passed_on_still_ends() -> None:
    objects = OpenObjects()
    flood = [thing("new", number) for number in range(1, 301)]
    passed = take(objects, *flood)
    assert short(passed) == [("new", number) for number in range(1, AT_ONCE + 1)]
    assert objects.take(EventDetected("a", thing("update")), 0.0) == [LeftOut("a")]
    assert len(take(objects, *(thing("end", number) for number in range(1, 301)))) == AT_ONCE
    later = take(objects, *(thing("new", number) for number in range(301, 400)), now=2.0)
    assert len(later) == 2 * PER_SECOND


def test_so_many_objects_are_open_at_most() -> None:
    objects = OpenObjects()
    for number in range(1, MOST_OPEN + 10):
        take(objects, thing("new", number), now=float(number))
    assert len(objects.end("a", "", 1e4)) == MOST_OPEN


numbers = st.integers(1, 4)
events = st.one_of(
    st.builds(thing, st.sampled_from(["new", "update", "end"]), numbers),
    st.builds(zone, st.sampled_from(["entered", "left"]), numbers, st.sampled_from(["drive", "lawn"])),
    st.builds(line, numbers),
)


@given(st.lists(st.tuples(events, st.floats(0, 5)), max_size=60))
def test_whatever_a_worker_says_readers_see_pairs(said: list[tuple[DetectedEvent, float]]) -> None:
    objects, now, passed = OpenObjects(), 0.0, []
    for event, seconds in said:
        now += seconds
        passed += take(objects, event, now=now)
    passed += [one.event for one in objects.end_all("over", now)]
    there: dict[int, set[str]] = {}
    ever: set[int] = set()
    for event in passed:
        if event.type == "new":
            assert event.id not in ever
            ever.add(event.id)
            there[event.id] = set()
        elif isinstance(event, ObjectEvent):
            assert event.id in there
            if event.type == "end":
                assert not there.pop(event.id)
        elif isinstance(event, ZoneEvent):
            inside = there[event.id]
            assert (event.zone in inside) == (event.type == "left")
            inside ^= {event.zone}
        else:
            assert event.id in there
    assert not there


def test_keywords_pass_without_any_object_and_are_limited_in_rate() -> None:
    known = OpenObjects()
    heard = EventDetected("voice", KeywordEvent(label="hey", score=0.9))
    passed = [known.take(heard, 0.0) for _ in range(AT_ONCE + 1)]
    assert passed[:AT_ONCE] == [[heard]] * AT_ONCE
    assert passed[AT_ONCE] == [LeftOut("voice")]
