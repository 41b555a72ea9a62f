"""Objects with ids that they keep from window to window: a decoder of a third party, in one file.

It finds boxes as Limpet's own decoder ``detect`` does, and follows them by how much they overlap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from limpet.contracts.decoder import Abilities
from limpet.decoders import detect

if TYPE_CHECKING:
    from limpet.contracts.data import Window
    from limpet.contracts.outputs import Detection
    from limpet.contracts.stage import Spec

ABILITIES = Abilities(reads_inputs=False)


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """``detect``: how boxes are found. An object that is not seen for ``forget`` seconds is gone."""

    detect: detect.Config = msgspec.field(default_factory=detect.Config)
    overlap: Annotated[float, Meta(gt=0, le=1)] = 0.3
    forget: Annotated[float, Meta(gt=0)] = 1.0


class Object(msgspec.Struct, gc=False):
    """What is seen, where it is, and the id that it has had since it was first seen."""

    id: int
    label: str
    score: float
    box: tuple[float, float, float, float]


class Output(msgspec.Struct, gc=False):
    """What is in the picture. ``lost``: ids of objects that are gone since the window before."""

    objects: list[Object]
    lost: list[int]


def open(config: Config, spec: Spec) -> Tracked:  # noqa: A001
    """Prepare to decode. ``ValueError`` as the decoder ``detect``."""
    return Tracked(config, detect.open(config.detect, spec))


class Tracked:
    """Remembers where each object was seen last, and when, in ns."""

    def __init__(self, config: Config, find: detect.Detect) -> None:
        self.spec = find.spec
        self._find = find
        self._overlap = config.overlap
        self._forget_ns = round(config.forget * 1e9)
        self._known: dict[int, tuple[Object, int]] = {}
        self._next = 1

    def __call__(self, window: Window) -> Window:
        """Return the window with its objects."""
        now = window.monotonic_ns
        lost = [key for key, (_, seen) in self._known.items() if now - seen > self._forget_ns]
        for key in lost:
            del self._known[key]
        free = dict(self._known)
        objects = []
        window = self._find(window)
        for found in window.result.detections:
            key = self._match(found, free)
            free.pop(key, None)
            one = Object(key, found.label, found.score, found.box)
            self._known[key] = one, now
            objects.append(one)
        window.result = Output(objects, lost)
        return window

    def reset(self) -> None:
        """Follow nothing; ids begin with 1 again."""
        self._find.reset()
        self._known.clear()
        self._next = 1

    def _match(self, found: Detection, free: dict[int, tuple[Object, int]]) -> int:
        """Return the id of the object that this is, a new one if it is none of those that are ``free``."""
        shared = {key: _shared(one.box, found.box) for key, (one, _) in free.items() if one.label == found.label}
        best = max(shared, key=shared.__getitem__, default=0)
        if best and shared[best] >= self._overlap:
            return best
        self._next += 1
        return self._next - 1


def _shared(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    """Return intersection over union of two boxes."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (areas - width * height)
