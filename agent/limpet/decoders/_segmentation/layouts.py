"""The layouts of outputs that have masks."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Literal, TypeAlias

from limpet.decoders._detection.heads import Raw
from limpet.decoders._detection.tables import refuse_types, shapes, tables
from limpet.decoders._segmentation.masks import CLASSES, ClassMap, ProbabilityMap, Prototypes, ScoreMap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.data import TensorSpec
    from limpet.decoders._activation import Activation

Layout: TypeAlias = Literal["auto", "classes", "scores", "probability", "yolo"]
Maps: TypeAlias = ClassMap | ScoreMap | ProbabilityMap

_LARGEST = 1 << 22
"""Pixels of a mask."""


def layout_of(outputs: Sequence[TensorSpec], labels: int) -> Layout:
    """Return the layout of the outputs. ``ValueError`` if the shapes do not say."""
    if len(outputs) == 2:
        return "yolo"
    if len(outputs) == 1:
        size = _size(outputs[0])
        whole = outputs[0].dtype.kind in "iu" and not outputs[0].quantized
        if whole and len(size) == 2:
            return "classes"
        if not whole and len(size) == 2 and labels <= 1:
            return "probability"
        if not whole and len(size) == 3 and labels > 1 and (size[0] == labels) != (size[2] == labels):
            return "scores"
    raise ValueError(
        f"the layout of outputs of shape {shapes(outputs)} is unclear with {labels} labels. A mask has whole "
        "numbers [1, h, w], a probability [1, h, w, 1] or a score for each label. Set labels or layout"
    )


def _size(tensor: TensorSpec) -> tuple[int, ...]:
    """Return height and width, or these and the classes, without dimensions of 1."""
    shape = tensor.shape[1:]
    if len(shape) == 3 and 1 in {shape[0], shape[2]}:
        shape = shape[1:] if shape[0] == 1 else shape[:2]
    if len(tensor.shape) < 3 or min(shape) < 1 or prod(shape) > _LARGEST * CLASSES:
        raise ValueError(f"segment takes masks, not an output of shape {list(tensor.shape)}")
    return shape


def maps_of(
    outputs: Sequence[TensorSpec], layout: Layout, labels: int, activation: Activation
) -> tuple[Maps, int]:
    """Return what reads the first output, and how many classes it has, 0 if that is not known."""
    if not outputs:
        raise ValueError("segment needs a model with an output")
    if layout != "classes":
        refuse_types(outputs[:1])
    size = _size(outputs[0])
    wanted = 3 if layout == "scores" else 2
    if len(size) != wanted:
        raise ValueError(f"layout {layout} has {wanted} dimensions that are not 1, not {list(outputs[0].shape)}")
    if prod(size[:2] if size[0] > size[-1] or wanted == 2 else size[1:]) > _LARGEST:
        raise ValueError(f"a mask has at most {_LARGEST} pixels, not {list(outputs[0].shape)}")
    if layout == "classes":
        return ClassMap((size[0], size[1])), 0
    if layout == "probability":
        return ProbabilityMap((size[0], size[1]), activation), 2
    first = size[0] == labels if labels else size[0] < size[2]
    classes = size[0] if first else size[2]
    if classes > CLASSES:
        raise ValueError(f"a mask has at most {CLASSES} classes, not {classes}")
    return ScoreMap((size[0], size[1], size[2]), first=first), classes


def prototypes_of(outputs: Sequence[TensorSpec], labels: int, activation: Activation) -> Prototypes:
    """Return what reads a YOLO with prototypes. ``ValueError`` if the outputs are none."""
    refuse_types(outputs)
    places = [n for n, tensor in enumerate(outputs) if len(tensor.shape) == 4 and min(tensor.shape[1:]) > 1]
    if len(outputs) != 2 or len(places) != 1:
        raise ValueError(
            f"layout yolo has a table of boxes and prototypes [1, h, w, m] or [1, m, h, w], not {shapes(outputs)}"
        )
    (output,) = places
    shape = outputs[output].shape[1:]
    first = shape[0] < shape[2]
    table = 1 - output
    found = tables([outputs[table]], "yolov8", labels, shape[0] if first else shape[2])
    found = type(found)(*(part._replace(output=table) for part in found))
    head = Raw(found, activation, own=False)
    return Prototypes(head, output, (shape[0], shape[1], shape[2]), first=first)
