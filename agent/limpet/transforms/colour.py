"""Colours of pictures: their order, or grey."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np
from msgspec.structs import replace

from limpet.contracts.frame import Like
from limpet.contracts.transform import Abilities
from limpet.pictures.view import agreed, is_scaled
from limpet.transforms._pictures import Pictures, refuse_no_pictures

if TYPE_CHECKING:
    from limpet.contracts.frame import View
    from limpet.contracts.stage import Spec

ABILITIES = Abilities(keeps_range=True, picture=True)
"""Pixels stay in their range."""


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Pictures in RGB, as sources give them, to what the model takes."""

    to: Literal["bgr", "grey"]
    """`"bgr"`: blue first, as OpenCV reads pictures. `"grey"`: one channel, by the weights of ITU-R 601."""
    like: Like = "any"
    """Library whose rounding grey has. `"any"`: that of a camera's own conversion; arrays and pictures get
    Pillow's."""


def open(config: Config, spec: Spec) -> Pictures:
    """Prepare for pictures ``(n, height, width, 3)``. ``ValueError`` for other arrays."""
    refuse_no_pictures("colour", spec)
    if spec.shape[3] != 3:
        raise ValueError(f"colour takes pictures with 3 channels, not {list(spec.shape)}")
    grey = config.to == "grey"
    shape = (*spec.shape[:3], 1) if grey else spec.shape
    dtype = spec.dtype if spec.dtype == np.uint8 or not grey else np.dtype(np.float32)
    return Pictures(spec, replace(spec, shape=shape, dtype=dtype, channels=()), lambda one: view(config, one))


def view(config: Config, before: View) -> View | None:
    """Return a view in these colours, ``None`` if ``before`` has others than RGB.

    Grey of pixels that a library has interpolated is another step: a view has its colours before its size.
    """
    if before.colour != "rgb":
        return None
    if config.to == "bgr":
        return replace(before, colour="bgr")
    like = agreed(before, config.like)
    if like is None or (like != "any" and is_scaled(before)):
        return None
    return replace(before, colour="grey", like=like)
