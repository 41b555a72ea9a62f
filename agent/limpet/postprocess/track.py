"""Which box of a frame is which object: ids that stay the same, counts of objects, and events."""

from __future__ import annotations

import logging
from math import isfinite
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from limpet.contracts.detected_events import LONGEST_LABEL, ObjectEvent
from limpet.contracts.fields import Positive, Share
from limpet.contracts.postprocess import Abilities
from limpet.postprocess._matching import overlaps
from limpet.postprocess._motion import Box
from limpet.postprocess._scene import SCENES, clipped, count_in, objects_of, with_objects
from limpet.postprocess._tracking import Ids, Seen, Tracker

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Literal

    from limpet.contracts.data import Window
    from limpet.contracts.stage import Spec
    from limpet.postprocess._scene import Scene, SceneObject
    from limpet.postprocess._tracking import Track

log = logging.getLogger(__name__)

ABILITIES = Abilities(takes=SCENES, adds=("ids",), outlives_gaps=True, idles=True)
"""A camera drops frames whenever the model is slower. How long an object may be unseen is a matter of time."""

MOST = 256
BETTER = 0.1
"""By how much a score must improve to be worth an update."""
MOVED = 0.5
"""Intersection over union with the box of the last event, below which an object has moved."""

SAME = 0.7
"""Intersection over union from which two boxes whose labels are alike are one object."""


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How objects are followed, and which events there are.

    Boxes with a score below ``threshold`` continue an object and begin none. An object is one after ``confirm``
    frames in a row, and is gone after ``seconds`` unseen. There are at most ``most`` at a time. An object that
    changed much has an event at most each ``update_seconds``.
    """

    threshold: Share = 0.5
    """Lowest score that begins an object. Boxes with lower scores continue one: set the decoder's `threshold` to
    about 0.1 to have them."""
    confirm: Annotated[int, Meta(ge=1, le=1000)] = 3
    """Frames in a row in which a box must be before it is an object. Others are not reported."""
    seconds: Positive = 3.0
    """Seconds for which an object may be unseen before it is gone."""
    most: Annotated[int, Meta(ge=1, le=MOST)] = 100
    """Objects that are followed at a time."""
    update_seconds: Positive = 5.0
    """Seconds between two events of an object that changes."""
    alike: list[list[str]] = []
    """Groups of labels that the model confuses. An object keeps the one that scored most at its beginning.
    Default: none. Example: `[["car", "truck"]]`."""

    def __post_init__(self) -> None:
        labels = [label for group in self.alike for label in group]
        if len(set(labels)) < len(labels):
            raise ValueError("alike: a label appears twice")


def open(config: Config, spec: Spec) -> Tracking:
    """Follow objects. ``ValueError`` if frames come too seldom for that."""
    if spec.rate is not None and spec.rate * config.seconds < 1:
        raise ValueError(
            f"seconds is {config.seconds:g}, but a frame comes only each {1 / spec.rate:.3g} s; "
            "set seconds to some times that"
        )
    return Tracking(config, spec)


class Tracking:
    """Takes boxes, best first; what is no box is left out. Returns those of objects, with ids."""

    def __init__(self, config: Config, spec: Spec, ids: Ids | None = None) -> None:
        self.spec = spec
        lost_ns = int(config.seconds * 1e9)
        self._tracker = Tracker(config.threshold, config.confirm, lost_ns, config.most, ids or Ids())
        self._update_ns = int(config.update_seconds * 1e9)
        self._most = config.most
        self._kinds = {label: group[0] for group in config.alike for label in group}
        self._announced: dict[int, _Announced] = {}
        self._none: dict[str, int] = {}
        self._totals: dict[str, int] = {}
        self._full = False

    def __call__(self, window: Window) -> Window:
        """Return the window with the objects among its boxes."""
        scene: Scene = window.result
        boxes = objects_of(scene)
        now = window.taken_ns
        frame = self._tracker.see(self._without_doubles(_usable(boxes, self._kinds)), now)
        self._warn(full=frame.full)
        for track in frame.new:
            count_in(self._totals, track.label)
        window.events += [self._ended(track, now) for track in frame.lost]
        window.events += [self._event("new", track, now) for track in frame.new]
        window.events += [self._event("update", track, now) for track in self._changed(now)]
        seen = {track.place: track for track in self._tracker.objects if track.place is not None}
        kept = [
            msgspec.structs.replace(boxes[place], id=track.id, label=track.label)
            for place, track in sorted(seen.items())
        ]
        window.result = msgspec.structs.replace(
            with_objects(scene, kept), counts=self._counts(), totals=dict(self._totals)
        )
        return window

    def idle(self, window: Window) -> Window:
        """Have objects end that were not seen for too long."""
        window.events += [self._ended(track, window.taken_ns) for track in self._tracker.expire(window.taken_ns)]
        return window

    def reset(self) -> None:
        """Forget all objects and counts."""
        self._tracker.clear()
        self._announced, self._none, self._totals, self._full = {}, {}, {}, False

    def _without_doubles(self, boxes: Iterable[Seen]) -> list[Seen]:
        """Leave out boxes that a better one with a label that is alike nearly covers: both are one object."""
        found: list[Seen] = []
        for box in boxes:
            better = [each.box for each in found if each.kind == box.kind and each.label != box.label]
            if not better or overlaps([box.box], better).max() < SAME:
                found.append(box)
        return found

    def _counts(self) -> dict[str, int]:
        """Return how many objects of each label there are, and 0 of labels that there were."""
        counts = dict(self._none)
        for track in self._tracker.objects:
            count_in(counts, track.label)
        if len(counts) > len(self._none):
            self._none = dict.fromkeys(counts, 0)
        return counts

    def _changed(self, now: int) -> list[Track]:
        """Return the objects that changed much since their last event, if that is long enough ago."""
        due = [
            (track, self._announced[track.id])
            for track in self._tracker.objects
            if track.place is not None and track.id in self._announced
        ]
        return [
            track
            for track, before in due
            if now - before.at_ns >= self._update_ns and before.differs(track.best, track.box)
        ]

    def _event(self, kind: Literal["new", "update"], track: Track, now: int) -> ObjectEvent:
        self._announced[track.id] = _Announced(now, track.best, track.box)
        return _event(kind, track, now)

    def _ended(self, track: Track, now: int) -> ObjectEvent:
        del self._announced[track.id]
        return _event("end", track, now)

    def _warn(self, *, full: bool) -> None:
        if full and not self._full:
            log.warning("track follows %d objects, as many as `most` says; further ones are left out", self._most)
        self._full = full


class _Announced(msgspec.Struct, gc=False):
    """What the last event of an object said, and when."""

    at_ns: int
    best: float
    box: Box

    def differs(self, best: float, box: Box) -> bool:
        return best >= self.best + BETTER or float(overlaps([box], [self.box])[0, 0]) < MOVED


def _usable(boxes: Sequence[SceneObject], kinds: dict[str, str]) -> Iterable[Seen]:
    for place, one in enumerate(boxes):
        box = clipped(one.box)
        if box is not None and isfinite(one.score):
            yield Seen(one.label, one.score, box, place, kinds.get(one.label, one.label))


def _event(kind: Literal["new", "update", "end"], track: Track, now: int) -> ObjectEvent:
    return ObjectEvent(
        type=kind,
        id=track.id,
        label=track.label[:LONGEST_LABEL],
        score=round(min(max(track.best, 0.0), 1.0), 5),
        box=track.box,
        zones=[],
        age_s=_seconds(now - track.first_ns),
        unseen_s=_seconds(now - track.last_ns),
    )


def _seconds(ns: int) -> float:
    return round(min(max(ns / 1e9, 0.0), 1e9), 3)
