"""Pictures to the size that a model takes, with their own proportions and a border around them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta
from msgspec.structs import replace

from limpet.contracts.frame import Like, Method
from limpet.contracts.transform import Abilities
from limpet.pictures.view import agreed, is_framed, is_scaled
from limpet.transforms._pictures import Pictures, Side, refuse_no_pictures, resized_type, sized
from limpet.transforms.resize import refuse_smoothing, smooths

if TYPE_CHECKING:
    from limpet.contracts.frame import View
    from limpet.contracts.stage import Spec

ABILITIES = Abilities(keeps_range=True, picture=True)
"""Pixels stay in their range."""


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The whole picture as large as it fits, and a border of one value around it.

    Boxes and points of a decoder are in fractions of the source's picture, without the border.
    """

    height: Side
    """Height in pixels, the border included. Example: `640`."""
    width: Side
    """Width in pixels, the border included. Example: `640`."""
    fill: Annotated[int, Meta(ge=0, le=255)] = 114
    """Value of the border. 114 is that of YOLO models, 0 is black."""
    align: Literal["centre", "top_left"] = "centre"
    """Where the picture is. `"centre"`: as Ultralytics has it, and `tf.image.resize_with_pad` with `like =
    "tensorflow"`. `"top_left"`: as YOLOX has it, with the border right and below."""
    method: Method = "bilinear"
    """How pixels are interpolated."""
    antialias: bool | None = None
    """Smooth what is scaled down. Default: as the library of `like` does by itself: Pillow does, and OpenCV and
    TensorFlow do not."""
    like: Like = "any"
    """Library whose numbers the result has, see `resize`. YOLO models are trained with `"opencv"`."""

    def __post_init__(self) -> None:
        refuse_smoothing(self.method, self.antialias, self.like)


class Place(NamedTuple):
    """Size of the picture in pixels, and of the border left of it and above it."""

    width: int
    height: int
    left: int
    top: int


def open(config: Config, spec: Spec) -> Pictures:
    """Prepare for pictures ``(n, height, width, channels)``. ``ValueError`` for other arrays."""
    refuse_no_pictures("letterbox", spec)
    dtype = resized_type(spec, config.method, config.like)
    return Pictures(spec, sized(spec, config.height, config.width, dtype), lambda one: view(config, one))


def view(config: Config, before: View) -> View | None:
    """Return a view with a border, ``None`` if ``before`` has a size, a border or another library's numbers."""
    like = agreed(before, config.like)
    if like is None or is_scaled(before) or is_framed(before):
        return None
    place = _place(config, before.width, before.height)
    border = (
        place.left,
        place.top,
        config.width - place.width - place.left,
        config.height - place.height - place.top,
    )
    return replace(
        before,
        width=place.width,
        height=place.height,
        method=config.method,
        antialias=smooths(config.antialias, config.like),
        like=like,
        border=border,
        fill=config.fill,
    )


def _place(config: Config, width: int, height: int) -> Place:
    """Return where the picture is in its border."""
    ratio = min(config.width / width, config.height / height)
    if config.align == "top_left":
        return Place(max(int(width * ratio), 1), max(int(height * ratio), 1), 0, 0)
    if config.like == "tensorflow":
        return _padded(config, np.float32(width), np.float32(height))
    inner = max(round(width * ratio), 1), max(round(height * ratio), 1)
    # Half a pixel goes right and below, as Ultralytics rounds it.
    return Place(*inner, round((config.width - inner[0]) / 2 - 0.1), round((config.height - inner[1]) / 2 - 0.1))


def _padded(config: Config, width: np.float32, height: np.float32) -> Place:
    """Return what ``tf.image.resize_with_pad`` does, which computes in float32."""
    ratio = max(width / np.float32(config.width), height / np.float32(config.height))
    across, down = width / ratio, height / ratio
    left, top = (np.float32(config.width) - across) / 2, (np.float32(config.height) - down) / 2
    return Place(max(int(across), 1), max(int(down), 1), max(int(left), 0), max(int(top), 0))
