"""Views of pictures: what a pipeline wants of a frame, put together without touching a pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from limpet.contracts.data import Cut

if TYPE_CHECKING:
    from limpet.contracts.frame import FrameForm, Like, Rectangle, View


def is_scaled(view: View) -> bool:
    """Whether a view changes the size of the part that it shows."""
    return (view.width, view.height) != (view.part.width, view.part.height)


def is_framed(view: View) -> bool:
    """Whether a view has a border."""
    return any(view.border)


def cropped(view: View, box: Rectangle) -> View | None:
    """Return a view of a part of what ``view`` shows, ``None`` if that is scaled or has a border already."""
    if is_scaled(view) or is_framed(view):
        return None
    part = replace(box, left=view.part.left + box.left, top=view.part.top + box.top)
    return replace(view, part=part, width=box.width, height=box.height)


def agreed(view: View, like: Like) -> Like | None:
    """Return whose numbers a view gives if a further step gives those of ``like``, ``None`` if they differ."""
    if "any" in {view.like, like}:
        return like if view.like == "any" else view.like
    return like if view.like == like else None


def cut_of(view: View, form: FrameForm) -> Cut:
    """Return which part of a picture a view shows, its border included, as fractions of the picture."""
    part, (left, top, _, _) = view.part, view.border
    height, width, _ = view.shape
    across, down = part.width / view.width, part.height / view.height
    return Cut(
        (part.left - left * across) / form.width,
        (part.top - top * down) / form.height,
        (part.left + (width - left) * across) / form.width,
        (part.top + (height - top) * down) / form.height,
    )


def refuse_outside(view: View, width: int, height: int) -> None:
    """Raise ``ValueError`` if a view shows a part that a picture of this size does not have."""
    part = view.part
    inside = 0 <= part.left <= width - part.width and 0 <= part.top <= height - part.height
    if not inside or min(part.width, part.height, view.width, view.height) < 1:
        raise ValueError(
            f"a picture of {width}x{height} has no part of {part.width}x{part.height} at {part.left},{part.top}"
        )
