"""Arrays to what a view wants of them: the part, colours, size, colour order, border, in this order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from limpet.pictures.resampling import scaler
from limpet.pictures.view import is_scaled, refuse_outside

if TYPE_CHECKING:
    from collections.abc import Callable

    from limpet.contracts.data import Array
    from limpet.contracts.frame import Like, View

Step: TypeAlias = "Callable[[Array], Array]"
"""Takes a picture ``(height, width, channels)`` and returns one."""


def renderer(view: View, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Step:
    """Return what renders pictures of one ``shape`` ``(height, width, channels)`` as a view wants them.

    A grey picture stays one. Bytes stay bytes, but for TensorFlow's interpolated numbers, which are float32.
    ``ValueError`` if the picture does not have the part or the colours.
    """
    height, width, channels = shape
    refuse_outside(view, width, height)
    if view.colour != "rgb" and channels not in {1, 3}:
        raise ValueError(f"colours are those of pictures with 3 channels, not {channels}")
    steps = [step for step in _steps(view, shape, dtype) if step is not None]

    def render(picture: Array) -> Array:
        for step in steps:
            picture = step(picture)
        return picture

    return render


def _steps(view: View, shape: tuple[int, ...], dtype: np.dtype[Any]) -> list[Step | None]:
    height, width, channels = shape
    part = view.part
    to_grey = view.colour == "grey" and channels == 3
    scale: Step | None = None
    if is_scaled(view):
        inner = (part.height, part.width, 1 if to_grey else channels)
        scale = scaler(inner, (view.height, view.width), view, dtype)
    return [
        _cutter(view) if (part.width, part.height) != (width, height) else None,
        _grey(view.like, dtype) if to_grey else None,
        scale,
        _reversed if view.colour == "bgr" and channels == 3 else None,
        _bordered(view) if any(view.border) else None,
        np.ascontiguousarray,
    ]


def _cutter(view: View) -> Step:
    part = view.part
    rows = slice(part.top, part.top + part.height)
    columns = slice(part.left, part.left + part.width)
    return lambda picture: picture[rows, columns]


def _reversed(picture: Array) -> Array:
    return picture[:, :, ::-1]


def _bordered(view: View) -> Step:
    left, top, _, _ = view.border
    height, width, _ = view.shape
    rows, columns = slice(top, top + view.height), slice(left, left + view.width)

    def add_border(picture: Array) -> Array:
        framed = np.full((height, width, picture.shape[2]), view.fill, picture.dtype)
        framed[rows, columns] = picture
        return framed

    return add_border


_WEIGHTS = {
    "pillow": (19595, 38470, 7471, 16),  # ITU-R 601, of 2**16: Pillow's L24
    "opencv": (9798, 19235, 3735, 15),
}


def _grey(like: Like, dtype: np.dtype[Any]) -> Step:
    """Return what makes a grey picture of RGB by the weights of ITU-R 601, rounded as a library does it."""
    if dtype != np.uint8 or like == "tensorflow":
        return _weighed_bytes if dtype == np.uint8 else _weighed
    red, green, blue, bits = _WEIGHTS["opencv" if like == "opencv" else "pillow"]
    weights = np.array([red, green, blue], np.int32)
    half = 1 << (bits - 1)

    def grey(picture: Array) -> Array:
        total: Array = (picture * weights).sum(axis=2, keepdims=True, dtype=np.int32)
        total += half
        total >>= bits
        return total.astype(np.uint8)

    return grey


def _weighed(picture: Array) -> Array:
    weights = np.array([0.2989, 0.587, 0.114], np.float32)
    grey: Array = np.matmul(picture.astype(np.float32), weights[:, np.newaxis])
    return grey


def _weighed_bytes(picture: Array) -> Array:
    """Return grey bytes as ``tf.image.convert_image_dtype`` has them: as shares of 255, and back."""
    return (_weighed(picture * np.float32(1 / 255)) * np.float32(255.5)).astype(np.uint8)
