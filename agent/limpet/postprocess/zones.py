"""Which objects are in which part of the picture: what enters and leaves, for how long, and how many are there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta

from limpet.contracts.detected_events import LONGEST_LABEL, MOST_ZONES, ObjectEvent, PlaceName, ZoneEvent
from limpet.contracts.postprocess import Abilities
from limpet.postprocess._places import Polygon, area, contains, foot
from limpet.postprocess._scene import MOST_IDS, SCENES, count_in, ended_ids, is_followed, objects_of, with_objects

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.contracts.data import Window
    from limpet.contracts.stage import Spec
    from limpet.postprocess._scene import Scene, SceneObject

ABILITIES = Abilities(takes=SCENES, wants=("ids",), outlives_gaps=True, idles=True)

_LEAST_AREA = 1e-6


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Zones by name. An object is in a zone if the middle of its box's lower edge is in it or on its border.

    It enters or leaves once that is so for ``settle`` seconds. ``labels``: objects that count, empty for all.
    """

    zones: Annotated[dict[PlaceName, Polygon], Meta(min_length=1, max_length=MOST_ZONES)]
    """Corners of each zone, as fractions of the picture's width and height from its left top corner. Example: `{
    drive = [[0.1, 0.5], [0.6, 0.5], [0.6, 1.0], [0.1, 1.0]] }`."""
    labels: list[str] = []
    """Labels of the objects that count. Default: all. Example: `["person"]`."""
    settle: Annotated[float, Meta(ge=0, le=3600)] = 0.5
    """Seconds for which an object must be in a zone, or out of it, before that counts."""

    def __post_init__(self) -> None:
        for name, polygon in self.zones.items():
            if area(polygon) < _LEAST_AREA:
                raise ValueError(f"zones: {name!r} has no area; give its corners in their order")


def open(config: Config, spec: Spec) -> Zones:
    """Watch zones."""
    return Zones(config, spec)


class _Stay(msgspec.Struct, gc=False):
    """An object and a zone. ``inside``: whether it has entered it, at ``entered_ns``.

    ``other_ns``: since when it is seen where it is not counted yet, ``None`` if it is not.
    """

    inside: bool = False
    entered_ns: int = 0
    other_ns: int | None = None


class _Visitor(msgspec.Struct):
    """An object, and how it is with each zone."""

    label: str
    stays: dict[str, _Stay]


class Zones:
    """Takes objects with ids. An object that is not seen stays where it was until it ends."""

    def __init__(self, config: Config, spec: Spec) -> None:
        self.spec = spec
        self._zones = config.zones
        self._labels = frozenset(config.labels)
        self._settle_ns = int(config.settle * 1e9)
        self._visitors: dict[int, _Visitor] = {}
        self._none: dict[str, dict[str, int]] = {name: {} for name in config.zones}

    def __call__(self, window: Window) -> Window:
        """Return the window with the zones of its objects."""
        scene: Scene = window.result
        found = objects_of(scene)
        self._end(window)
        for one in found:
            if is_followed(one, self._labels):
                window.events += self._see(one.id or 0, one, window.taken_ns)
        kept = [self._placed(one) for one in found]
        window.result = msgspec.structs.replace(with_objects(scene, kept), zones=scene.zones | self._occupancy())
        for event in window.events:
            if isinstance(event, ObjectEvent):
                event.zones += [name for name in self._zones_of(event.id) if name not in event.zones]
        return window

    def idle(self, window: Window) -> Window:
        """Have objects leave that ended."""
        self._end(window)
        return window

    def reset(self) -> None:
        """Forget all objects."""
        self._visitors = {}
        self._none = {name: {} for name in self._zones}

    def _end(self, window: Window) -> None:
        """Have the objects leave that end in this window, before they end."""
        left: list[ZoneEvent] = []
        for number in ended_ids(window):
            visitor = self._visitors.pop(number, None)
            for name, stay in visitor.stays.items() if visitor else ():
                if visitor and stay.inside:
                    left.append(
                        self._event("left", name, number, visitor.label, window.taken_ns - stay.entered_ns)
                    )
        window.events[:0] = left

    def _see(self, number: int, one: SceneObject, now: int) -> Iterator[ZoneEvent]:
        """Take note of where an object is. Yield what it entered and left."""
        if number not in self._visitors:
            if len(self._visitors) >= MOST_IDS:
                return
            self._visitors[number] = _Visitor(one.label, {name: _Stay() for name in self._zones})
        point = foot(one.box)
        for name, stay in self._visitors[number].stays.items():
            if contains(self._zones[name], point) == stay.inside:
                stay.other_ns = None
                continue
            since = stay.other_ns = now if stay.other_ns is None else stay.other_ns
            if now - since < self._settle_ns:
                continue
            stay.inside, stay.other_ns = not stay.inside, None
            if stay.inside:
                stay.entered_ns = since
                yield self._event("entered", name, number, one.label)
            else:
                yield self._event("left", name, number, one.label, since - stay.entered_ns)

    def _event(
        self, kind: Literal["entered", "left"], zone: str, number: int, label: str, dwell_ns: int | None = None
    ) -> ZoneEvent:
        inside = sum(visitor.stays[zone].inside for visitor in self._visitors.values())
        dwell = None if dwell_ns is None else round(min(max(dwell_ns / 1e9, 0.0), 1e9), 3)
        return ZoneEvent(
            type=kind, zone=zone, id=number, label=label[:LONGEST_LABEL], occupancy=inside, dwell_s=dwell
        )

    def _placed(self, one: SceneObject) -> SceneObject:
        names = self._zones_of(one.id)
        return msgspec.structs.replace(one, zones=[*one.zones, *names]) if names else one

    def _zones_of(self, number: int | None) -> list[str]:
        visitor = self._visitors.get(number) if number is not None else None
        return [name for name, stay in visitor.stays.items() if stay.inside] if visitor else []

    def _occupancy(self) -> dict[str, dict[str, int]]:
        """Return how many objects of each label are in each zone, and 0 of labels that were."""
        counts = {name: dict(none) for name, none in self._none.items()}
        for visitor in self._visitors.values():
            for name, stay in visitor.stays.items():
                if stay.inside:
                    count_in(counts[name], visitor.label)
        self._none = {name: dict.fromkeys(labels, 0) for name, labels in counts.items()}
        return counts
