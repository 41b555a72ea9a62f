"""The objects of a result, whether they are boxes or poses."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, TypeAlias

from msgspec.structs import replace

from limpet.contracts.detected_events import ObjectEvent
from limpet.contracts.outputs import Detection, Detections, Keypoints, Pose
from limpet.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from limpet.contracts.data import Window
    from limpet.postprocess._motion import Box

Scene: TypeAlias = Detections | Keypoints
SceneObject: TypeAlias = Detection | Pose

SCENES = (Detections, Keypoints)
"""The results that have objects with boxes."""
MOST_LABELS = 100
"""Labels that are counted. The others are counted together."""
OTHER = "other"
MOST_IDS = 1024
"""Objects that a stage remembers, whatever numbers them."""


def objects_of(scene: Any) -> Sequence[SceneObject]:
    """Return the objects of a result. ``ModelError`` if it is no result with objects."""
    if isinstance(scene, Detections):
        return scene.detections
    if isinstance(scene, Keypoints):
        return scene.poses
    raise ModelError(f"a result with objects was expected, not {type(scene).__name__}")


def with_objects(scene: Scene, kept: Sequence[SceneObject]) -> Scene:
    """Return a copy of a result with these objects."""
    if isinstance(scene, Detections):
        return replace(scene, detections=list(kept))
    return replace(scene, poses=list(kept))


def clipped(box: Sequence[float]) -> Box | None:
    """Return the part of a box that is in the picture, ``None`` if none is."""
    if len(box) != 4 or not all(map(isfinite, box)):
        return None
    left, top, right, bottom = (min(max(float(place), 0.0), 1.0) for place in box)
    return (left, top, right, bottom) if left < right and top < bottom else None


def count_in(counts: dict[str, int], label: str) -> None:
    """Count a label."""
    name = label if label in counts or len(counts) < MOST_LABELS else OTHER
    counts[name] = counts.get(name, 0) + 1


def ended_ids(window: Window) -> list[int]:
    """Return the ids of the objects that end in a window."""
    return [one.id for one in window.events if isinstance(one, ObjectEvent) and one.type == "end"]


def is_followed(one: SceneObject, labels: frozenset[str]) -> bool:
    """Whether a stage made an object of a box, and it has one of the labels, if there are any."""
    return one.id is not None and one.id > 0 and (not labels or one.label in labels)
