"""Which objects are there, by the events of a worker: what is passed on, and what ends with the worker. No I/O.

Readers of the events can rely on pairs: each ``new`` has an ``end``, each ``entered`` has a ``left``, also if the
worker is killed. Times are seconds on any steady clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from limpet.bucket import Bucket
from limpet.contracts.detected_events import KeywordEvent, LineEvent, ObjectEvent, ZoneEvent
from limpet.wire.records import EventDetected, LeftOut

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.contracts.detected_events import DetectedEvent

PER_SECOND, AT_ONCE = 5.0, 100
"""Events of a pipeline that are passed on. The others are counted, but what is open can always end."""
MOST_OPEN = 512
"""Objects of a pipeline that may be there at a time."""


class _Open(msgspec.Struct):
    """An object that is there: its newest event, when it came, and since when it is in each zone."""

    newest: ObjectEvent
    at: float
    zones: dict[str, float] = {}


class _Pipeline:
    """What is open in one pipeline. ``last_id``: no object with this id or a lower one is new."""

    def __init__(self) -> None:
        self.open: dict[int, _Open] = {}
        self.bucket = Bucket(PER_SECOND, AT_ONCE)
        self.last_id = 0


class OpenObjects:
    """The objects of all pipelines of a cell."""

    def __init__(self) -> None:
        self._pipelines: dict[str, _Pipeline] = {}

    def take(self, record: EventDetected, now: float) -> list[EventDetected | LeftOut]:
        """Take an event of a worker. Return what is passed on, or that it was left out."""
        known = self._pipelines.setdefault(record.pipeline, _Pipeline())
        event = record.event
        if isinstance(event, KeywordEvent):
            return [record if _may_pass(known, now) else LeftOut(record.pipeline)]
        before = known.open.get(event.id)
        if not _take(known, event, now):
            return [LeftOut(record.pipeline)]
        ends = isinstance(event, ObjectEvent) and event.type == "end"
        left = _leave(known, before, "", now) if before and ends else ()
        return [*(EventDetected(record.pipeline, zone, record.wall_ns) for zone in left), record]

    def end(self, pipeline: str, reason: str, now: float) -> list[EventDetected]:
        """Return the events that end all that is open in a pipeline."""
        known = self._pipelines.get(pipeline)
        if known is None:
            return []
        ended = [event for one in known.open.values() for event in _end(known, one, reason[:200], now)]
        known.open.clear()
        return [EventDetected(pipeline, event) for event in ended]

    def end_all(self, reason: str, now: float) -> list[EventDetected]:
        """Return the events that end all that is open, as the process is gone."""
        return [event for pipeline in self._pipelines for event in self.end(pipeline, reason, now)]


def _take(known: _Pipeline, event: ObjectEvent | ZoneEvent | LineEvent, now: float) -> bool:
    """Whether an event fits to what is open, and there are not too many of them."""
    if isinstance(event, ObjectEvent):
        return _take_object(known, event, now)
    there = known.open.get(event.id)
    if there is None:
        return False
    if isinstance(event, LineEvent):
        return _may_pass(known, now)
    if event.type == "left":
        return there.zones.pop(event.zone, None) is not None
    if event.zone in there.zones or not _may_pass(known, now):
        return False
    there.zones[event.zone] = now
    return True


def _take_object(known: _Pipeline, event: ObjectEvent, now: float) -> bool:
    there = known.open.get(event.id)
    if event.type == "new":
        if event.id <= known.last_id or len(known.open) >= MOST_OPEN or not _may_pass(known, now):
            return False
        known.last_id = event.id
        known.open[event.id] = _Open(event, now)
        return True
    if there is None:
        return False
    if event.type == "end":
        del known.open[event.id]
        return True
    if not _may_pass(known, now):
        return False
    there.newest, there.at = event, now
    return True


def _may_pass(known: _Pipeline, now: float) -> bool:
    if known.bucket.level(now) < 1:
        return False
    known.bucket.spend(1)
    return True


def _end(known: _Pipeline, one: _Open, reason: str, now: float) -> Iterator[DetectedEvent]:
    """Yield what ends an object: it leaves its zones, and is gone."""
    newest, zones = one.newest, list(one.zones)
    yield from _leave(known, one, reason, now)
    age = round(newest.age_s + max(now - one.at, 0.0), 3)
    yield msgspec.structs.replace(
        newest, type="end", zones=zones, age_s=min(age, 1e9), unseen_s=0.0, reason=reason
    )


def _leave(known: _Pipeline, one: _Open, reason: str, now: float) -> Iterator[ZoneEvent]:
    """Yield that an object leaves the zones that it is in."""
    newest, zones = one.newest, one.zones
    one.zones = {}
    for zone, since in zones.items():
        yield ZoneEvent(
            type="left",
            zone=zone,
            id=newest.id,
            label=newest.label,
            occupancy=sum(zone in other.zones for other in known.open.values()),
            dwell_s=round(max(now - since, 0.0), 3),
            reason=reason,
        )
