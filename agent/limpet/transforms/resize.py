"""Pictures to the size that a model takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from limpet.contracts.frame import Like, Method
from limpet.contracts.transform import Abilities
from limpet.pictures.view import agreed, is_framed, is_scaled
from limpet.transforms._pictures import Pictures, Side, refuse_no_pictures, resized_type, sized

if TYPE_CHECKING:
    from limpet.contracts.frame import View
    from limpet.contracts.stage import Spec

ABILITIES = Abilities(keeps_range=True, picture=True)
"""Pixels stay in their range."""


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Pictures of another size. The picture is stretched, not cut; `letterbox` keeps its shape."""

    height: Side
    """Height in pixels. Example: `96`."""
    width: Side
    """Width in pixels. Example: `96`."""
    method: Method = "bilinear"
    """How pixels are interpolated. `"area"` gives each new pixel the mean of the area that it covers."""
    antialias: bool | None = None
    """Smooth what is scaled down. Default: as the library of `like` does by itself: Pillow does, and OpenCV and
    TensorFlow do not."""
    like: Like = "any"
    """Library whose numbers the result has. Name the one that the model was trained with. `"any"`: those of a
    camera's own conversion, which is fastest. Arrays and pictures get Pillow's numbers then."""

    def __post_init__(self) -> None:
        refuse_smoothing(self.method, self.antialias, self.like)


def refuse_smoothing(method: Method, antialias: bool | None, like: Like) -> None:  # noqa: FBT001 - a key's value
    """Raise ``ValueError`` where a library cannot resize so."""
    if like == "pillow" and antialias is False and method != "nearest":
        raise ValueError('Pillow always smooths what it scales down; leave antialias out, or use like = "opencv"')
    if like == "opencv" and antialias:
        raise ValueError('OpenCV does not smooth; leave antialias out, or use method = "area"')


def smooths(antialias: bool | None, like: Like) -> bool:  # noqa: FBT001 - a key's value
    """Return whether what is scaled down is smoothed."""
    return like in {"any", "pillow"} if antialias is None else antialias


def open(config: Config, spec: Spec) -> Pictures:
    """Prepare for pictures ``(n, height, width, channels)``. ``ValueError`` for other arrays."""
    refuse_no_pictures("resize", spec)
    dtype = resized_type(spec, config.method, config.like)
    return Pictures(spec, sized(spec, config.height, config.width, dtype), lambda one: view(config, one))


def view(config: Config, before: View) -> View | None:
    """Return a view of another size, ``None`` if ``before`` has one, or a border, or another library's numbers."""
    like = agreed(before, config.like)
    if like is None or is_scaled(before) or is_framed(before):
        return None
    return replace(
        before,
        width=config.width,
        height=config.height,
        method=config.method,
        antialias=smooths(config.antialias, config.like),
        like=like,
    )
