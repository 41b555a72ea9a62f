"""Scenes with known objects, as a detector would see them, and what a tracker made of them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from limpet.contracts.data import Window
from limpet.contracts.outputs import Detection, Detections
from limpet.contracts.stage import Spec
from limpet.postprocess import track

if TYPE_CHECKING:
    from limpet.contracts.detected_events import DetectedEvent

SECOND = 1_000_000_000
Place: TypeAlias = Callable[[float], tuple[float, float] | None]
"""Where an object's centre is at a time in seconds, ``None`` if it is not in the picture."""


class Actor(NamedTuple):
    """An object: where it is, the size of its box, and its score by time."""

    place: Place
    size: tuple[float, float] = (0.08, 0.24)
    label: str = "person"
    score: Callable[[float], float] = lambda _: 0.9


class Played(NamedTuple):
    """What came out: by actor the ids that it had in each frame in which it was seen, and all events."""

    ids: list[list[int]]
    events: list[DetectedEvent]
    outputs: list[Detections]

    @property
    def switches(self) -> int:
        """How often the id of an actor changed."""
        return sum(a != b for ids in self.ids for a, b in pairwise(ids))


def box_at(actor: Actor, time: float) -> tuple[float, float, float, float] | None:
    centre = actor.place(time)
    if centre is None:
        return None
    (x, y), (width, height) = centre, actor.size
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def window_of(detections: list[Detection], seconds: float) -> Window:
    ns = int(seconds * SECOND)
    return Window(np.empty(0), ns, ns, 0, result=Detections(detections, {}))


def tracker(**options: Any) -> Any:
    return track.open(track.Config(**options), Spec(shape=(1,), dtype=np.dtype(np.float32)))


def play(
    actors: list[Actor], times: list[float], *, noise: float = 0.0, seed: int = 0, stage: Any = None
) -> Played:
    """Show a scene to a tracker: boxes with noise, by so much of their size, best first."""
    stage = stage or tracker()
    rng = np.random.default_rng(seed)
    ids: list[list[int]] = [[] for _ in actors]
    events: list[DetectedEvent] = []
    outputs = []
    for time in times:
        shown: list[tuple[int, Detection]] = []
        for number, actor in enumerate(actors):
            box = box_at(actor, time)
            if box is not None:
                size = np.array(actor.size * 2)
                noisy = np.array(box) + rng.normal(0, noise, 4) * size
                left, top, right, bottom = noisy.tolist()
                shown.append((number, Detection(actor.label, actor.score(time), (left, top, right, bottom))))
        shown.sort(key=lambda one: -one[1].score)
        window = stage(window_of([one for _, one in shown], time))
        events += window.events
        outputs.append(window.result)
        by_box = {one.box: one.id for one in window.result.detections}
        for number, one in shown:
            if one.box in by_box:
                ids[number].append(by_box[one.box])
    return Played(ids, events, outputs)
