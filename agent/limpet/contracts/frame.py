"""What a frame of a camera is: a picture in whatever form its maker has it, until a pipeline wants pixels.

A source of pictures (``SampleSpec.frames``) gives frames in place of numbers: ``Samples.values`` is an array of
objects, ``(n,)``. A frame that is dropped costs no conversion. Each pipeline has its frames *developed* in one
pass, straight to the size and the colours that its model takes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeAlias

import msgspec
from numpy.typing import NDArray

Colour: TypeAlias = Literal["rgb", "bgr", "grey"]
Method: TypeAlias = Literal["nearest", "bilinear", "bicubic", "area"]
Like: TypeAlias = Literal["any", "pillow", "opencv", "tensorflow"]
"""Whose numbers a resize gives. ``any``: those of whatever converts the frame's colours in the same pass."""


class Rectangle(msgspec.Struct, frozen=True):
    """A part of a picture in whole pixels, from its left top corner."""

    left: int
    top: int
    width: int
    height: int


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What a pipeline wants of a frame: a part of it, scaled, with a border around it, in some colours.

    ``part`` gets the ``colour``, and is then scaled to ``width`` and ``height`` by ``method`` as ``like`` does it.
    ``antialias``: what is scaled down is smoothed. ``border`` adds so many pixels left, top, right and bottom, of
    the value ``fill``.
    """

    part: Rectangle
    width: int
    height: int
    method: Method = "bilinear"
    antialias: bool = True
    like: Like = "any"
    border: tuple[int, int, int, int] = (0, 0, 0, 0)
    fill: int = 0
    colour: Colour = "rgb"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the result."""
        left, top, right, bottom = self.border
        return self.height + top + bottom, self.width + left + right, 1 if self.colour == "grey" else 3


class FrameForm(msgspec.Struct, frozen=True):
    """What the frames of a stream have in common. ``format``: how its pixels are stored, such as `yuyv422`.

    ``width`` and ``height`` are those of the upright picture: what turns a frame is part of its development.
    """

    width: int
    height: int
    format: str


Developer: TypeAlias = Callable[[Any], NDArray[Any]]
"""Takes a frame of one form and returns its pixels, uint8 ``View.shape``, or float32 for ``like="tensorflow"``.

``ValueError`` if that frame is damaged. The result is read-only for its users, and valid until the next call."""


class Frame(Protocol):
    """One picture. It does not change; what it refers to is free when the last reference to it is gone."""

    @property
    def form(self) -> FrameForm:
        """Its size and its format."""

    @property
    def nbytes(self) -> int:
        """Bytes that it holds in memory."""

    def developer(self, view: View) -> Developer:
        """Prepare to develop frames of this form, one after the other, in one thread.

        ``ValueError`` if it cannot.
        """


def whole(form: FrameForm) -> View:
    """Return the view of all of a frame as it is."""
    return View(part=Rectangle(0, 0, form.width, form.height), width=form.width, height=form.height)
