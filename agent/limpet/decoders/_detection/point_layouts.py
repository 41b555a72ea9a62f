"""The layouts of outputs that have points."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from limpet.decoders._detection.anchors import Reading, anchored, known_model
from limpet.decoders._detection.bodies import BLAZEPOSE, BODIES, COCO, Body
from limpet.decoders._detection.finished import End2End
from limpet.decoders._detection.heads import Raw
from limpet.decoders._detection.points import HeatMaps, Landmarked, Landmarks, MoveNet, MoveNetMulti, Tabled
from limpet.decoders._detection.tables import shapes, tables

if TYPE_CHECKING:
    from collections.abc import Callable

    from limpet.contracts.data import TensorSpec
    from limpet.contracts.stage import Spec
    from limpet.decoders._activation import Activation
    from limpet.decoders._detection.heads import Head
    from limpet.decoders._detection.tables import Tables

Layout: TypeAlias = Literal[
    "auto", "movenet", "movenet_multi", "landmarks", "yolo", "end2end", "heatmaps", "mediapipe"
]


class Wanted(NamedTuple):
    """What the configuration sets."""

    names: tuple[str, ...]
    activation: Activation | None


def _body(wanted: Wanted, points: int) -> Body:
    """Return the body with so many points. ``ValueError`` if it has no names, or others than configured."""
    if wanted.names and len(wanted.names) != points:
        raise ValueError(f"{len(wanted.names)} names for the {points} points of the model")
    if points in BODIES:
        return BODIES[points]
    if wanted.names:
        return Body("object", tuple(wanted.names), ())
    raise ValueError(f"the model has {points} points; set names, one for each")


def layout_of(wanted: Wanted, spec: Spec) -> Layout:
    """Return the layout of the outputs. ``ValueError`` if the shapes do not say."""
    if known_model(spec.outputs, spec.picture):
        return "mediapipe"
    fitting: list[Layout] = [layout for layout, fits in _FITS.items() if fits(wanted, spec)]
    if len(fitting) == 1:
        return fitting[0]
    found = f"may be of layout {' or '.join(fitting)}" if fitting else "are of no layout that keypoints knows"
    raise ValueError(
        f"outputs of shape {shapes(spec.outputs)} {found}, with {_count(wanted)} points. Set layout and names"
    )


def _count(wanted: Wanted) -> int:
    return len(wanted.names) or len(COCO.names)


def _size(spec: Spec) -> tuple[int, ...]:
    """Return the shape of the only output without its batch, nothing if there are more outputs."""
    if len(spec.outputs) != 1 or len(spec.outputs[0].shape) < 2:
        return ()
    return tuple(spec.outputs[0].shape[1:])


def _fits_movenet(wanted: Wanted, spec: Spec) -> bool:
    size = _size(spec)
    return size[-2:] == (_count(wanted), 3) and prod(size[:-2]) == 1


def _fits_multi(wanted: Wanted, spec: Spec) -> bool:
    size = _size(spec)
    return len(size) == 2 and size[1] == _count(wanted) * 3 + 5 and size[0] <= _PERSONS


def _fits_yolo(wanted: Wanted, spec: Spec) -> bool:
    numbers = {5 + _count(wanted) * each for each in (2, 3)}
    size = _size(spec)
    return len(size) == 2 and bool(numbers & set(size)) and min(size) > _PERSONS


def _fits_end2end(wanted: Wanted, spec: Spec) -> bool:
    size = _size(spec)
    return len(size) == 2 and size[1] in {6 + _count(wanted) * each for each in (2, 3)}


def _fits_heatmaps(wanted: Wanted, spec: Spec) -> bool:
    size = _size(spec)
    return len(size) == 3 and min(size) > 1 and _count(wanted) in {size[0], size[2]}


def _fits_landmarks(wanted: Wanted, spec: Spec) -> bool:
    return any(_landmark_numbers(wanted, tensor) for tensor in spec.outputs)


_FITS: dict[Layout, Callable[[Wanted, Spec], bool]] = {
    "movenet": _fits_movenet,
    "movenet_multi": _fits_multi,
    "yolo": _fits_yolo,
    "end2end": _fits_end2end,
    "heatmaps": _fits_heatmaps,
    "landmarks": _fits_landmarks,
}
_PERSONS = 20
"""MoveNet finds fewer persons; a YOLO gives more boxes."""


def _movenet(wanted: Wanted, spec: Spec) -> tuple[Head, Body]:
    _refuse_unless(_fits_movenet(wanted, spec), "movenet", f"[1, 1, {_count(wanted)}, 3]", spec)
    return MoveNet(_count(wanted)), _body(wanted, _count(wanted))


def _movenet_multi(wanted: Wanted, spec: Spec) -> tuple[Head, Body]:
    _refuse_unless(_fits_multi(wanted, spec), "movenet_multi", f"[1, 6, {_count(wanted) * 3 + 5}]", spec)
    return MoveNetMulti(_count(wanted)), _body(wanted, _count(wanted))


def _yolo(wanted: Wanted, spec: Spec) -> tuple[Head, Body]:
    numbers, found = _tables(wanted, spec, "yolov8")
    head = Raw(found, wanted.activation or "none", own=False)
    return Tabled(head, numbers, "none"), _body(wanted, _count(wanted))


def _end2end(wanted: Wanted, spec: Spec) -> tuple[Head, Body]:
    numbers, found = _tables(wanted, spec, "end2end")
    return Tabled(End2End(found), numbers, "none"), _body(wanted, _count(wanted))


def _tables(wanted: Wanted, spec: Spec, layout: Literal["yolov8", "end2end"]) -> tuple[int, Tables]:
    """Return how many numbers each point has, and the tables. ``ValueError`` if they are nowhere."""
    points, labels = _count(wanted), len(spec.labels) or 1
    for numbers in (3, 2):
        try:
            return numbers, tables(spec.outputs, layout, labels, points * numbers)
        except ValueError as error:
            problem = error
    raise problem


def _heatmaps(wanted: Wanted, spec: Spec) -> tuple[Head, Body]:
    points, size = _count(wanted), _size(spec)
    _refuse_unless(_fits_heatmaps(wanted, spec), "heatmaps", f"[1, height, width, {points}]", spec)
    if size[0] == size[2]:
        raise ValueError(f"which axis of {list(size)} has the points is unclear")
    shape = (size[0], size[1], size[2])
    return HeatMaps(shape, wanted.activation or "none", first=size[0] == points), _body(wanted, points)


def _mediapipe(wanted: Wanted, spec: Spec) -> tuple[Head, Body]:
    model = known_model(spec.outputs, spec.picture)
    if model is None:
        raise ValueError(
            f"outputs of shape {shapes(spec.outputs)} are those of no detector of MediaPipe that Limpet knows"
        )
    reading = Reading(wanted.activation or "sigmoid", model.usual)
    head = anchored(spec.outputs, model.anchors, [model.label], model.picture, reading)
    body = Body(model.label, model.points, ())
    if wanted.names and len(wanted.names) != len(model.points):
        raise ValueError(f"{len(wanted.names)} names for the {len(model.points)} points of the model")
    return Tabled(head, 2, "none"), body


def _landmarks(wanted: Wanted, spec: Spec) -> tuple[Head, Body]:
    _refuse_unless(_fits_landmarks(wanted, spec), "landmarks", f"[1, {_count(wanted) * 3}]", spec)
    output = next(n for n, tensor in enumerate(spec.outputs) if _landmark_numbers(wanted, tensor))
    points, numbers = _landmark_numbers(wanted, spec.outputs[output]) or (0, 0)
    scores = [n for n, tensor in enumerate(spec.outputs) if n != output and abs(prod(tensor.shape)) == 1]
    blazepose = (points, numbers) == _BLAZEPOSE
    body = _body(wanted, len(BLAZEPOSE.names) if blazepose else points)
    usual: Activation = "sigmoid" if body.label == "face" else "none"
    places = Landmarks(output, scores[0] if scores else None, numbers, len(body.names), 3 if blazepose else 0)
    return Landmarked(places, wanted.activation or usual), body


_BLAZEPOSE = (39, 5)
"""Points and numbers of each in the output of BlazePose; the last six points are of no body."""


def _landmark_numbers(wanted: Wanted, tensor: TensorSpec) -> tuple[int, int] | None:
    """Return how many points an output has and how many numbers each, ``None`` if it has no points."""
    shape = tensor.shape
    if not shape or min(shape[1:], default=1) < 1 or prod(shape[1:]) != shape[-1]:
        return None
    if not wanted.names:
        return {195: _BLAZEPOSE, 63: (21, 3), 1404: (468, 3)}.get(shape[-1])
    points = len(wanted.names)
    if shape[-1] == 195 and points == len(BLAZEPOSE.names):
        return _BLAZEPOSE
    return next(((points, numbers) for numbers in (2, 3) if shape[-1] == points * numbers), None)


def _refuse_unless(fits: bool, layout: Layout, wanted: str, spec: Spec) -> None:  # noqa: FBT001
    if not fits:
        raise ValueError(f"layout {layout} has an output of shape {wanted}, not {shapes(spec.outputs)}")


HEADS: dict[Layout, Callable[[Wanted, Spec], tuple[Head, Body]]] = {
    "movenet": _movenet,
    "movenet_multi": _movenet_multi,
    "yolo": _yolo,
    "end2end": _end2end,
    "heatmaps": _heatmaps,
    "landmarks": _landmarks,
    "mediapipe": _mediapipe,
}
"""What makes the head of a layout, and the body whose points it gives. ``ValueError`` where outputs do not fit."""
