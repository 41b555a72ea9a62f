"""The middle of pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from limpet.contracts.frame import Rectangle
from limpet.contracts.transform import Abilities
from limpet.pictures.view import cropped
from limpet.transforms._pictures import Pictures, Side, refuse_no_pictures

if TYPE_CHECKING:
    from limpet.contracts.frame import View
    from limpet.contracts.stage import Spec

ABILITIES = Abilities(keeps_range=True, picture=True)
"""Pixels stay as they are."""


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The middle of a picture: of a size in pixels, or a share of it.

    Boxes and points of a decoder are in fractions of the source's whole picture.
    """

    height: Side | None = None
    """Height in pixels, with `width`. Example: `224`."""
    width: Side | None = None
    """Width in pixels, with `height`. Example: `224`."""
    share: Annotated[float, Meta(gt=0, le=1)] | None = None
    """Share of each side, in place of a size. Default with `square`: 1. Example: `0.875`."""
    square: bool = False
    """Crop a square, with that share of the shorter side."""
    rounding: Literal["torchvision", "tensorflow"] = "torchvision"
    """Where a crop is that cannot be in the middle by half a pixel. `"torchvision"` rounds half to even.
    `"tensorflow"`, as Keras, rounds down."""

    def __post_init__(self) -> None:
        by_size = (self.width is not None) + (self.height is not None)
        by_share = self.share is not None or self.square
        if by_size == 1 or bool(by_size) == by_share:
            raise ValueError("a crop needs either width and height, or share or square")


def open(config: Config, spec: Spec) -> Pictures:
    """Prepare for pictures ``(n, height, width, channels)``. ``ValueError`` for other or for smaller ones."""
    refuse_no_pictures("crop", spec)
    count, height, width, channels = spec.shape
    size = (config.height or -1, config.width or -1)
    if config.width is None and -1 not in {height, width}:
        box = _box(config, width, height)
        size = (box.height, box.width)
    return Pictures(spec, replace(spec, shape=(count, *size, channels)), lambda one: view(config, one))


def view(config: Config, before: View) -> View | None:
    """Return a view of the middle, ``None`` if ``before`` has another size or a border already.

    ``ValueError`` if the crop is larger than that.
    """
    return cropped(before, _box(config, before.width, before.height))


def _box(config: Config, width: int, height: int) -> Rectangle:
    if config.width is not None and config.height is not None:
        across, down = config.width, config.height
    elif config.square:
        across = down = max(int(min(width, height) * (config.share or 1.0)), 1)
    else:
        across, down = (_shared(config, side) for side in (width, height))
    if across > width or down > height:
        raise ValueError(f"a crop of {across}x{down} is larger than its picture of {width}x{height}")
    return Rectangle(_start(config, width - across), _start(config, height - down), across, down)


def _shared(config: Config, side: int) -> int:
    share = config.share or 1.0
    if config.rounding == "tensorflow":  # tf.image.central_crop leaves as much on both sides.
        return side - 2 * int((side - side * share) / 2)
    return max(int(side * share), 1)


def _start(config: Config, rest: int) -> int:
    return rest // 2 if config.rounding == "tensorflow" else round(rest / 2)
