"""Which objects cross a line in the picture, and how many went which way."""

from __future__ import annotations

from math import hypot
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from limpet.contracts.detected_events import LONGEST_LABEL, MOST_ZONES, LineEvent, PlaceName
from limpet.contracts.outputs import Crossings
from limpet.contracts.postprocess import Abilities
from limpet.postprocess._places import Line, Point, crosses, foot, side
from limpet.postprocess._scene import MOST_IDS, SCENES, ended_ids, is_followed, objects_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.contracts.data import Window
    from limpet.contracts.stage import Spec
    from limpet.postprocess._scene import Scene, SceneObject

ABILITIES = Abilities(takes=SCENES, wants=("ids",), outlives_gaps=True, idles=True)

_SHORTEST = 1e-3


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Lines by name. An object crosses a line if the middle of its box's lower edge does.

    It has crossed once it is on the other side for ``settle`` seconds, or ends there. So close to the line as
    ``margin`` says, it is on neither side. ``labels``: objects that count, empty for all.
    """

    lines: Annotated[dict[PlaceName, Line], Meta(min_length=1, max_length=MOST_ZONES)]
    """Both ends of each line, as fractions of the picture's width and height. `forward` is from its left to its
    right. Example: `{ gate = [[0.2, 0.6], [0.8, 0.6]] }`."""
    labels: list[str] = []
    """Labels of the objects that count. Default: all. Example: `["person"]`."""
    margin: Annotated[float, Meta(ge=0, le=0.5)] = 0.01
    """Distance from a line, as a fraction of the picture, within which an object is on neither side."""
    settle: Annotated[float, Meta(ge=0, le=3600)] = 0.5
    """Seconds for which an object must be on the other side before that counts. Boxes tremble."""

    def __post_init__(self) -> None:
        for name, (start, end) in self.lines.items():
            if _length((start, end)) < _SHORTEST:
                raise ValueError(f"lines: {name!r} has no length; give two points that are apart")


def open(config: Config, spec: Spec) -> Lines:
    """Watch lines."""
    return Lines(config, spec)


class _Place(msgspec.Struct):
    """An object and a line: where it was on its side of it.

    ``beyond``: where it came to the other side, at ``beyond_ns``; ``None`` if it is not there.
    """

    at: Point
    beyond: Point | None = None
    beyond_ns: int = 0


class _Walker(msgspec.Struct):
    """An object, and where it is by each line."""

    label: str
    places: dict[str, _Place]


class Lines:
    """Takes objects with ids. It counts until it is opened again."""

    def __init__(self, config: Config, spec: Spec) -> None:
        self.spec = spec
        self._lines = config.lines
        self._labels = frozenset(config.labels)
        self._margins = {name: max(config.margin, 1e-9) * _length(line) for name, line in config.lines.items()}
        self._settle_ns = int(config.settle * 1e9)
        self._walkers: dict[int, _Walker] = {}
        self._counts = {name: Crossings(0, 0) for name in config.lines}

    def __call__(self, window: Window) -> Window:
        """Return the window with what crossed each line so far."""
        scene: Scene = window.result
        for one in objects_of(scene):
            if is_followed(one, self._labels):
                window.events += self._see(one.id or 0, one, window.taken_ns)
        self._end(window)
        counts = {name: msgspec.structs.replace(counted) for name, counted in self._counts.items()}
        window.result = msgspec.structs.replace(scene, lines=scene.lines | counts)
        return window

    def idle(self, window: Window) -> Window:
        """Forget the objects that ended."""
        self._end(window)
        return window

    def reset(self) -> None:
        """Forget all objects and counts."""
        self._walkers = {}
        self._counts = {name: Crossings(0, 0) for name in self._lines}

    def _end(self, window: Window) -> None:
        """Forget the objects that end in this window. Those that end beyond a line have crossed it before."""
        crossed: list[LineEvent] = []
        for number in ended_ids(window):
            walker = self._walkers.pop(number, None)
            for name, place in walker.places.items() if walker else ():
                if walker and place.beyond is not None:
                    crossed += self._settled(name, number, walker.label, place)
        window.events[:0] = crossed

    def _see(self, number: int, one: SceneObject, now_ns: int) -> Iterator[LineEvent]:
        """Take note of where an object is. Yield which lines it crossed."""
        if number not in self._walkers and len(self._walkers) >= MOST_IDS:
            return
        walker, now = self._walkers.setdefault(number, _Walker(one.label, {})), foot(one.box)
        for name, line in self._lines.items():
            there = side(*line, now)
            if abs(there) < self._margins[name]:
                if name in walker.places:
                    walker.places[name].beyond = None
                continue
            place = walker.places.setdefault(name, _Place(now))
            if side(*line, place.at) * there > 0:
                place.at, place.beyond = now, None
                continue
            if place.beyond is None:
                place.beyond, place.beyond_ns = now, now_ns
            if now_ns - place.beyond_ns >= self._settle_ns:
                yield from self._settled(name, number, one.label, place)
                place.at, place.beyond = now, None

    def _settled(self, name: str, number: int, label: str, place: _Place) -> Iterator[LineEvent]:
        """Yield that an object crossed a line, unless it came to the other side around an end of it."""
        line = self._lines[name]
        if place.beyond is not None and crosses(line, place.at, place.beyond):
            yield self._crossed(name, number, label, forward=side(*line, place.beyond) > 0)

    def _crossed(self, name: str, number: int, label: str, *, forward: bool) -> LineEvent:
        counted = self._counts[name]
        counted.forward += forward
        counted.backward += not forward
        return LineEvent(
            line=name,
            direction="forward" if forward else "backward",
            id=number,
            label=label[:LONGEST_LABEL],
            forward=counted.forward,
            backward=counted.backward,
        )


def _length(line: Line) -> float:
    (left, top), (right, bottom) = line
    return hypot(right - left, bottom - top)
