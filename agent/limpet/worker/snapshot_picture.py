"""Draws a result on its frame, and makes a JPEG of at most ``LARGEST_SNAPSHOT`` bytes of it. Uses Pillow."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from limpet.contracts.frame import View, whole
from limpet.contracts.outputs import Classification, Detections, Keypoints, Segmentation
from limpet.wire.records import LARGEST_SNAPSHOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from limpet.contracts.assignment import SnapshotOptions
    from limpet.contracts.frame import Frame, FrameForm

HIGHEST = 1920
"""Pixels that a picture may be high."""
MOST_MARKS = 200
"""Boxes, outlines and points that are drawn. They come best first."""
MOST_POINTS = 1000
"""Corners of an outline."""
LONGEST_LABEL = 40
QUALITIES = (70, 50, 30, 15)
"""Lower qualities that are tried until the picture is small enough."""
COLOURS = ("#ff3b30", "#34c759", "#0a84ff", "#ffcc00", "#bf5af2", "#64d2ff", "#ff9f0a", "#ffffff")

Point: TypeAlias = tuple[float, float]


@dataclass(frozen=True)
class Mark:
    """What is drawn, in fractions of the picture's width and height: lines from point to point, and a text.

    ``at``: left top corner of the text. ``dots``: single points.
    """

    at: Point
    text: str = ""
    lines: tuple[tuple[Point, ...], ...] = ()
    dots: tuple[Point, ...] = ()


@dataclass(frozen=True)
class Picture:
    """A JPEG and its size in pixels."""

    jpeg: bytes
    width: int
    height: int


def draw(frame: Frame, output: Any, options: SnapshotOptions) -> Picture:
    """Return a picture of a frame with what was found in it. ``ValueError`` if it cannot be made small enough."""
    pixels = frame.developer(view(frame.form, options.width))(frame)
    image = Image.fromarray(np.ascontiguousarray(pixels, np.uint8), "RGB")
    put_marks(image, marks(output))
    return _encode(image, options.quality)


def view(form: FrameForm, width: int) -> View:
    """Return a view of the whole frame. Maximum width: ``width``. It is never larger than the frame."""
    scale = min(1.0, width / form.width, HIGHEST / form.height)
    small = max(1, round(form.width * scale)), max(1, round(form.height * scale))
    seen = whole(form)
    return View(part=seen.part, width=small[0], height=small[1])


def marks(output: Any) -> list[Mark]:
    """Return what is drawn of a result. Outputs that have no place in the picture give a text, or nothing."""
    if isinstance(output, Detections):
        found = [_boxed(one.box, _text(one.label, one.score, one.id)) for one in output.detections[:MOST_MARKS]]
    elif isinstance(output, Keypoints):
        found = [_pose(one.points, output.skeleton) for one in output.poses[:MOST_MARKS]]
        found += [_boxed(one.box, _text(one.label, one.score, one.id)) for one in output.poses[:MOST_MARKS]]
    elif isinstance(output, Segmentation):
        found = [
            Mark(
                (one.box[0], one.box[1]), _text(one.label, one.score), (_closed(one.polygon) or _outline(one.box),)
            )
            for one in output.regions[:MOST_MARKS]
        ]
    elif isinstance(output, Classification) and output.label is not None:
        found = [Mark((0.0, 0.0), _text(output.label, output.score))]
    else:
        found = []
    return found


def _boxed(box: tuple[float, float, float, float], text: str) -> Mark:
    return Mark((box[0], box[1]), text, (_outline(box),))


def _outline(box: tuple[float, float, float, float]) -> tuple[Point, ...]:
    left, top, right, bottom = box
    return (left, top), (right, top), (right, bottom), (left, bottom), (left, top)


def _closed(polygon: Sequence[Point]) -> tuple[Point, ...]:
    return (*polygon[:MOST_POINTS], polygon[0]) if polygon else ()


def _pose(points: Sequence[Any], skeleton: Sequence[tuple[int, int]]) -> Mark:
    places = [(one.x, one.y) for one in points[:MOST_POINTS]]
    bones = tuple(
        (places[begin], places[end])
        for begin, end in skeleton[:MOST_POINTS]
        if 0 <= begin < len(places) and 0 <= end < len(places)
    )
    return Mark((0.0, 0.0), "", bones, tuple(places))


def _text(label: str, score: float | None, number: int | None = None) -> str:
    shown = label if label.isprintable() else ascii(label)
    if len(shown) > LONGEST_LABEL:
        shown = shown[: LONGEST_LABEL - 3] + "..."
    parts = [shown, "" if number is None else f"#{number}", "" if score is None else f"{score:.0%}"]
    return " ".join(filter(None, parts))


def put_marks(image: Image.Image, found: Sequence[Mark]) -> None:
    """Draw on a picture."""
    width, height = image.size
    pen = ImageDraw.Draw(image)
    size = max(10, height // 30)
    font = ImageFont.load_default(size)
    thick = max(2, height // 200)

    def place(point: Point) -> Point:
        return tuple(_within(each, most) for each, most in zip(point, (width, height), strict=True))  # type: ignore[return-value]

    for number, mark in enumerate(found):
        colour = COLOURS[number % len(COLOURS)]
        for line in mark.lines:
            pen.line([place(point) for point in line], fill=colour, width=thick)
        for x, y in map(place, mark.dots):
            pen.ellipse((x - 2 * thick, y - 2 * thick, x + 2 * thick, y + 2 * thick), fill=colour)
    for number, mark in enumerate(found):
        if mark.text:
            _write(pen, place(mark.at), mark.text, font, COLOURS[number % len(COLOURS)])


def _within(share: float, most: int) -> float:
    """Return a place in pixels. What a model gives may be anywhere, and no number."""
    return min(max(share, -1.0), 2.0) * (most - 1) if share == share else 0.0  # noqa: PLR0124 - false for NaN


def _write(pen: ImageDraw.ImageDraw, at: Point, text: str, font: Any, colour: str) -> None:
    left, top, right, bottom = pen.textbbox(at, text, font=font)
    down = max(0.0, -top)
    pen.rectangle((left - 1, top + down - 1, right + 1, bottom + down + 1), fill="#000000")
    pen.text((at[0], at[1] + down), text, fill=colour, font=font)


def _encode(image: Image.Image, quality: int) -> Picture:
    for small in _smaller(image):
        for each in (quality, *(lower for lower in QUALITIES if lower < quality)):
            buffer = io.BytesIO()
            small.save(buffer, "JPEG", quality=each)
            if buffer.tell() <= LARGEST_SNAPSHOT:
                return Picture(buffer.getvalue(), *small.size)
    raise ValueError(f"it would have more than {LARGEST_SNAPSHOT} bytes")


def _smaller(image: Image.Image) -> Iterator[Image.Image]:
    """Yield a picture, and then one of half its width and height."""
    yield image
    yield image.reduce(2)
