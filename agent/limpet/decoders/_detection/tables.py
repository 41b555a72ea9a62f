"""Where outputs have a box's place and its scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.data import Array, TensorSpec

Layout: TypeAlias = Literal[
    "auto", "ssd", "nms", "end2end", "yolov8", "yolov5", "yolox", "strides", "anchors", "mediapipe"
]

BEHIND = {"yolov8": 0, "yolov5": 1, "yolox": 1, "end2end": 2}
"""What comes behind a box's places, before the scores of the classes if there are such."""
STRIDES = (8, 16, 32)
"""Pixels of the model's picture from one cell to the next, of the three grids of a YOLO."""
_FINISHED = range(10, 1001)
"""How many boxes a model gives that itself leaves out what overlaps."""


class BoxTable(NamedTuple):
    """What an output has of each box: ``part`` of it. ``shape`` is the output's without dimensions of 1 in front.

    ``across``: each box is a column of the output.
    """

    output: int
    shape: tuple[int, int]
    across: bool
    part: slice

    @property
    def boxes(self) -> int:
        """How many boxes there are."""
        return self.shape[self.across]

    def columns(self, outputs: Sequence[Array]) -> Array:
        """Return a view whose first axis is what there is of each box."""
        table = outputs[self.output].reshape(self.shape)
        return (table if self.across else table.T)[self.part]


class Tables(NamedTuple):
    """Where the four places of a box are, its scores, and what else there is of it, which may be nothing."""

    places: BoxTable
    scores: BoxTable
    extras: BoxTable


def layout_of(outputs: Sequence[TensorSpec], labels: int, picture: tuple[int, int] | None) -> Layout:
    """Return which layout outputs are of. ``ValueError`` if the shapes do not say."""
    if len(outputs) == 4:
        return "ssd"
    known: list[Layout] = ["yolov8", "yolov5"]
    fitting = [layout for layout in known if labels and _tables(outputs, layout, labels, 0)]
    finished = len(outputs) == 1 and plain(outputs[0])[1] == 6
    if fitting:
        return _certain(outputs, fitting[0], labels, picture, finished=finished)
    if finished:
        return "end2end"
    raise ValueError(
        f"the layout of outputs of shape {shapes(outputs)} is unclear with {labels} labels. For each "
        f"box, yolov8 then has {labels + 4} numbers, yolov5 {labels + 5}, end2end 6. "
        "Set labels, one for each class, or layout"
    )


def _certain(
    outputs: Sequence[TensorSpec],
    layout: Layout,
    labels: int,
    picture: tuple[int, int] | None,
    *,
    finished: bool,
) -> Layout:
    """Return the layout of a YOLO. ``ValueError`` where the number of boxes allows another one, too."""
    if picture is None:
        return layout
    boxes = tables(outputs, layout, labels).places.boxes
    if layout == "yolov5" and boxes == cells(picture):
        raise ValueError(
            f"outputs of shape {shapes(outputs)} may be of layout yolox, whose boxes count from the cells of a "
            'grid, or of yolov5, whose boxes do not. Set layout to "yolox" or "yolov5"'
        )
    if finished and boxes in _FINISHED and boxes not in {cells(picture), 3 * cells(picture)}:
        raise ValueError(
            f"outputs of shape {shapes(outputs)} may be of layout end2end or, with {labels} labels, of {layout}. "
            f'Set layout to "end2end" or "{layout}"'
        )
    return layout


def cells(picture: tuple[int, int]) -> int:
    """Return how many cells the grids of a YOLO have for a picture of this width and height."""
    width, height = picture
    return sum((width // stride) * (height // stride) for stride in STRIDES)


def tables(outputs: Sequence[TensorSpec], layout: Layout, labels: int, extras: int = 0) -> Tables:
    """Return where a box's places, scores and ``extras`` numbers are. ``ValueError`` if they are nowhere."""
    found = _tables(outputs, layout, labels, extras)
    if found is None:
        behind = BEHIND[layout] + labels * (layout != "end2end") if labels else "the"
        more = f" and {extras} numbers more" if extras else ""
        raise ValueError(
            f"{layout} has 4 numbers and {behind} scores{more} for each box with {labels} labels, in one output "
            f"or two; not in outputs of shape {shapes(outputs)}"
        )
    return found


def _tables(outputs: Sequence[TensorSpec], layout: Layout, labels: int, extras: int) -> Tables | None:
    sizes = [plain(tensor) for tensor in outputs]
    known = labels or layout == "end2end"
    behind = BEHIND[layout] + labels * (layout != "end2end")
    if len(sizes) == 1:
        # Without labels: there are more boxes than classes.
        wanted = 4 + behind + extras if known else max(min(sizes[0]), 5 + behind + extras)
        whole = _axis(0, sizes[0], wanted, layout)
        if whole is None:
            return None
        end = wanted - extras
        return Tables(*(whole._replace(part=part) for part in (slice(4), slice(4, end), slice(end, None))))
    for first, second in ((0, 1), (1, 0)) if len(sizes) == 2 and not extras else ():
        places = _axis(first, sizes[first], 4, layout)
        scores = _axis(second, sizes[second], behind if known else min(sizes[second]), layout)
        if places and scores and places.boxes == scores.boxes:
            return Tables(places, scores, places._replace(part=slice(4, None)))
    return None


def _axis(output: int, shape: tuple[int, int], wanted: int, layout: Layout) -> BoxTable | None:
    """Return the table that has ``wanted`` numbers for each box, ``None`` if this is none."""
    if wanted not in shape:
        return None
    # Where either would do: yolov8 is exported with a column for each box, the others with a row.
    across = shape[0] == wanted and (shape[1] != wanted or layout == "yolov8")
    return BoxTable(output, shape, across, slice(None))


def plain(tensor: TensorSpec) -> tuple[int, int]:
    """Return the shape of a table without dimensions of 1 in front."""
    shape = tensor.shape
    if len(shape) < 2 or any(size not in {1, -1} for size in shape[:-2]) or min(shape[-2:]) < 1:
        raise ValueError(f"the decoder takes tables of boxes, not an output of shape {list(shape)}")
    return shape[-2], shape[-1]


def refuse_types(outputs: Sequence[TensorSpec]) -> None:
    """Raise ``ValueError`` for boxes or scores that are no real values."""
    for tensor in outputs:
        if tensor.dtype.kind != "f" and not tensor.quantized:
            raise ValueError(
                f"the decoder takes floats or quantized integers, and output {tensor.name!r} is "
                f"{tensor.dtype} without quantization; export the model with float outputs"
            )


def shapes(outputs: Sequence[TensorSpec]) -> str:
    """Return the shapes of outputs in words."""
    return ", ".join(str(list(tensor.shape)) for tensor in outputs) or "none"
