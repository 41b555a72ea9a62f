"""What crosses a line, and which way."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from limpet.contracts.outputs import Crossings, Detection
from limpet.contracts.stage import Spec
from limpet.postprocess import lines
from postprocess.scenes import Actor, box_at, tracker, window_of

# From left to right through the middle: forward is down, on the right of who walks along it.
ACROSS = [(0.25, 0.5), (0.75, 0.5)]


def opened(**options: Any) -> lines.Lines:
    table = {"lines": {"gate": ACROSS}, "settle": 0} | options
    return lines.open(msgspec.convert(table, lines.Config), Spec(shape=(1,), dtype=np.dtype(np.float32)))


def standing(x: float, y: float, number: int = 1, label: str = "cat") -> Detection:
    return Detection(label, 0.9, (x - 0.05, y - 0.2, x + 0.05, y), id=number)


def way(stage: Any, *points: tuple[float, float]) -> list[str]:
    """Have an object at these points. Return in which directions it crossed."""
    return [
        event.direction
        for second, (x, y) in enumerate(points)
        for event in stage(window_of([standing(x, y)], second)).events
    ]


def test_down_is_forward_and_up_is_backward() -> None:
    stage = opened()
    assert way(stage, (0.5, 0.4), (0.5, 0.6), (0.5, 0.7)) == ["forward"]
    assert way(stage, (0.5, 0.4)) == ["backward"]
    result = stage(window_of([], 9.0)).result
    assert result.lines == {"gate": Crossings(forward=1, backward=1)}


def test_the_direction_turns_with_the_line() -> None:
    assert way(opened(lines={"gate": ACROSS[::-1]}), (0.5, 0.4), (0.5, 0.6)) == ["backward"]


@pytest.mark.parametrize(
    ("points", "crossed"),
    [
        ([(0.1, 0.4), (0.1, 0.6)], []),  # past its left end
        ([(0.9, 0.4), (0.9, 0.6)], []),
        ([(0.25, 0.4), (0.25, 0.6)], ["forward"]),  # through its very end
        ([(0.5, 0.4), (0.5, 0.5), (0.5, 0.6)], ["forward"]),  # it stops on the line
        ([(0.5, 0.4), (0.5, 0.5), (0.5, 0.4)], []),  # it turns round on the line
        ([(0.5, 0.5), (0.5, 0.6)], []),  # it begins on the line
        ([(0.5, 0.4), (0.1, 0.45), (0.1, 0.55), (0.5, 0.6)], []),  # around its end
        ([(0.5, 0.1), (0.5, 0.9)], ["forward"]),  # in one great step
    ],
)
def test_a_line_has_two_ends(points: list[tuple[float, float]], crossed: list[str]) -> None:
    assert way(opened(), *points) == crossed


def test_what_jitters_on_the_line_crosses_once() -> None:
    jitter = [(0.5, 0.5 + 0.008 * (-1) ** step) for step in range(20)]
    assert way(opened(), (0.5, 0.4), *jitter, (0.5, 0.6)) == ["forward"]


def test_who_stands_on_a_line_is_counted_once_however_much_the_box_trembles() -> None:
    watch, random = opened(settle=0.5), np.random.default_rng(1)
    events = []
    for step in range(600):  # a minute at 10 frames a second
        y = 0.3 if step < 10 else 0.5 if step < 580 else 0.7
        events += watch(window_of([standing(0.5, y + random.normal(0, 0.01))], step / 10)).events
    assert [event.direction for event in events] == ["forward"]


def test_an_object_that_ends_right_behind_a_line_has_crossed_it() -> None:
    follow, watch = tracker(), opened(settle=10)
    events = []
    for step in range(60):
        seen = [Detection("cat", 0.9, (0.45, 0.2 + step / 100, 0.55, 0.3 + step / 100))] if step < 25 else []
        events += watch(follow(window_of(seen, step / 10))).events
    assert [event.type for event in events] == ["new", "crossed", "end"]


def test_objects_are_counted_apart_and_only_some_labels() -> None:
    stage = opened(labels=["cat"])
    for y in (0.4, 0.6):
        window = stage(window_of([standing(0.4, y), standing(0.6, 1 - y, 2), standing(0.5, y, 3, "dog")], y))
    assert [(event.id, event.direction, event.forward, event.backward) for event in window.events] == [
        (1, "forward", 1, 0),
        (2, "backward", 1, 1),
    ]


def test_a_tracked_walk_through_the_gate_counts_once_though_it_is_hidden_there() -> None:
    follow, watch = tracker(), opened()
    actor = Actor(lambda time: None if 1.2 < time < 1.8 else (0.5, 0.2 + 0.2 * time), size=(0.1, 0.2))
    events = []
    for step in range(30):
        box = box_at(actor, step / 10)
        events += watch(follow(window_of([Detection("cat", 0.9, box)] if box else [], step / 10))).events
    assert [event.type for event in events if event.type in {"new", "crossed", "end"}] == ["new", "crossed"]


def test_a_line_without_length_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="no length"):
        msgspec.convert({"lines": {"gate": [[0.5, 0.5], [0.5, 0.5]]}}, lines.Config)
