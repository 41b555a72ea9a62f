"""Which box of a frame is which object: ByteTrack (Zhang and others, 2022) in real time. Decides, without I/O.

Boxes with high scores are matched with the objects first, then those with low scores. An object that is half
hidden scores low, and is still there. A second look at high scores takes boxes that are close and do not
overlap. That happens with few frames a second.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from limpet.contracts.detected_events import LARGEST_ID
from limpet.postprocess._matching import matched, overlaps
from limpet.postprocess._motion import Box, Motion

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

OVERLAP, LOW_OVERLAP, NEW_OVERLAP, NEAR_OVERLAP = 0.2, 0.5, 0.3, 0.1
"""Least intersection over union of a box and an object. The second is for boxes with low scores, the third for
objects that are not confirmed, the last for boxes that were made larger."""
GROWN = 0.5
"""By which share of their size boxes are made larger on each side for the second look."""
_TICK = 10_000
"""Nanoseconds for each id."""
LONGEST_STEP = 10.0
"""Seconds between two frames beyond which nothing can be said of where an object is."""


class Seen(NamedTuple):
    """A box in a frame. ``place``: which one of the frame's it is. ``kind``: its label, or one for all alike."""

    label: str
    score: float
    box: Box
    place: int
    kind: str


class Track(msgspec.Struct, eq=False):
    """An object, or what may become one. Times are in ns.

    ``id`` is 0 until it is confirmed. ``place``: which box of the newest frame it is, ``None`` if it is none.
    ``best``: its best score. ``frames``: in how many frames it was seen. ``votes``: the scores of each label until
    it was confirmed, added up.
    """

    label: str
    kind: str
    votes: dict[str, float]
    motion: Motion
    box: Box
    best: float
    first_ns: int
    last_ns: int
    place: int | None
    id: int = 0
    frames: int = 1


class Frame(NamedTuple):
    """What a frame changed: objects that are confirmed now, and those lost. ``full``: boxes had no room."""

    new: list[Track]
    lost: list[Track]
    full: bool


class Ids:
    """Ids of objects: ever larger numbers, which no other process of the pipeline gives since the machine started.

    They begin at the time since then, in ``_TICK``, and never overtake that clock. Another process starts
    later, so it begins beyond all of them.
    """

    def __init__(self, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock_ns = clock_ns
        self._next = 0

    def begin(self) -> None:
        """Take note that objects may come from now on."""
        if not self._next:
            self._next = self._now()

    def take(self) -> int:
        """Return an id, 0 if there is none at this moment."""
        if self._next > self._now():
            return 0
        self._next += 1
        return self._next - 1

    def _now(self) -> int:
        return min(self._clock_ns() // _TICK + 1, LARGEST_ID)


class Tracker:
    """Follows objects. ``threshold``: lowest score that begins one. ``lost_ns``: how long it may be unseen."""

    def __init__(self, threshold: float, confirm: int, lost_ns: int, most: int, ids: Ids) -> None:
        self._threshold, self._confirm, self._lost_ns, self._most = threshold, confirm, lost_ns, most
        self._ids = ids
        self._before = 0
        self._now: int | None = None
        self.tracks: list[Track] = []

    @property
    def objects(self) -> list[Track]:
        """The confirmed ones."""
        return [track for track in self.tracks if track.id]

    def see(self, boxes: Sequence[Seen], now: int) -> Frame:
        """Take the boxes of a frame that was taken at ``now``, best first."""
        self._ids.begin()
        lost = self.expire(now)
        self._predict(now)
        high = [box for box in boxes if box.score >= self._threshold]
        low = [box for box in boxes if box.score < self._threshold]
        known, tentative = self.objects, [track for track in self.tracks if not track.id]
        known, high = self._match(known, high, OVERLAP)
        known, high = self._match(known, high, NEAR_OVERLAP, GROWN)
        self._match([track for track in known if track.last_ns == self._before], low, LOW_OVERLAP)
        missed, high = self._match(tentative, high, NEW_OVERLAP)
        missed, high = self._match(missed, high, NEAR_OVERLAP, GROWN)
        for track in missed:
            self.tracks.remove(track)
        room = max(self._most - len(self.tracks), 0)
        self.tracks += [self._began(box) for box in high[:room]]
        return Frame([track for track in self.tracks if self._becomes_object(track)], lost, len(high) > room)

    def expire(self, now: int) -> list[Track]:
        """Forget what was not seen for too long. Return the objects among that."""
        gone = [track for track in self.tracks if now - track.last_ns > self._lost_ns]
        self.tracks = [track for track in self.tracks if now - track.last_ns <= self._lost_ns]
        return [track for track in gone if track.id]

    def clear(self) -> None:
        """Forget all, as if newly made; ids go on."""
        self.tracks, self._now = [], None

    def _predict(self, now: int) -> None:
        self._before = now if self._now is None else self._now
        # A clock that goes back, such as that of a recording, stands still here.
        self._now = max(now, self._before)
        seconds = min((self._now - self._before) / 1e9, LONGEST_STEP)
        for track in self.tracks:
            track.motion.predict(seconds, seen=track.last_ns == self._before)
            track.place = None

    def _match(
        self, tracks: list[Track], boxes: list[Seen], least: float, grown: float = 0.0
    ) -> tuple[list[Track], list[Seen]]:
        """Have tracks follow boxes of their kind. Return the tracks and the boxes that are left."""
        if not tracks or not boxes:
            return tracks, boxes
        assert self._now is not None
        worth = overlaps([track.motion.box for track in tracks], [box.box for box in boxes], grown)
        kinds = (
            np.array([track.kind for track in tracks], object),
            np.array([box.kind for box in boxes], object),
        )
        worth[kinds[0][:, None] != kinds[1][None]] = -1.0
        pairs = matched(worth, least)
        for row, column in pairs:
            track, box = tracks[row], boxes[column]
            track.motion.correct(box.box)
            track.box, track.place, track.last_ns = box.box, box.place, self._now
            track.best = max(track.best, box.score)
            track.frames += 1
            if not track.id:
                track.votes[box.label] = track.votes.get(box.label, 0.0) + box.score
        rows, columns = {row for row, _ in pairs}, {column for _, column in pairs}
        return (
            [track for row, track in enumerate(tracks) if row not in rows],
            [box for column, box in enumerate(boxes) if column not in columns],
        )

    def _began(self, box: Seen) -> Track:
        assert self._now is not None
        votes = {box.label: box.score}
        return Track(
            box.label, box.kind, votes, Motion(box.box), box.box, box.score, self._now, self._now, box.place
        )

    def _becomes_object(self, track: Track) -> bool:
        if track.id or track.frames < self._confirm:
            return False
        track.label = max(track.votes, key=lambda label: track.votes[label])
        track.id = self._ids.take()
        return track.id > 0
