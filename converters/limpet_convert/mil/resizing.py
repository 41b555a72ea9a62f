"""Images made larger or smaller. Height and width are the last two axes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.data import Array
    from limpet_convert.mil.elementwise import Kernel


def grid(size: int, wanted: int, mode: str) -> Array:
    """Return where in an axis of ``size`` places the ``wanted`` ones are, by MIL's names of the ways to choose."""
    at = np.arange(wanted, dtype=np.float64)
    if mode == "UNALIGN_CORNERS":
        places = (at + 0.5) * size / wanted - 0.5
    elif mode == "OFFSET_CORNERS":
        places = (at + 0.5) * max(1, size - 1) / wanted
    elif mode == "DEFAULT":
        places = at * size / wanted
    elif wanted == 1:
        places = np.full(1, (size - 1) / 2 if mode == "ALIGN_CORNERS" else 0.0)
    else:
        places = at * (size - 1) / (wanted - 1)
    return np.clip(places, 0, size - 1)


def _linear(x: Array, axis: int, wanted: int, mode: str) -> Array:
    places = grid(x.shape[axis], wanted, mode)
    low = np.floor(places).astype(int)
    high = np.minimum(low + 1, x.shape[axis] - 1)
    shape = [1] * x.ndim
    shape[axis] = -1
    share = (places - low).astype(np.float32).reshape(shape)
    return np.asarray(np.take(x, low, axis) * (1 - share) + np.take(x, high, axis) * share)


def _resize_bilinear(
    x: Array, target_size_height: int = 1, target_size_width: int = 1, sampling_mode: str = "DEFAULT"
) -> Array:
    tall = _linear(x, x.ndim - 2, int(target_size_height), sampling_mode)
    return _linear(tall, x.ndim - 1, int(target_size_width), sampling_mode)


def _upsample_bilinear(
    x: Array,
    *,
    scale_factor_height: float = 1,
    scale_factor_width: float = 1,
    align_corners: bool = True,
    half_pixel_centers: bool | None = None,
) -> Array:
    centres = not align_corners if half_pixel_centers is None else half_pixel_centers
    mode = "STRICT_ALIGN_CORNERS" if align_corners else "UNALIGN_CORNERS" if centres else "DEFAULT"
    height, width = int(x.shape[-2] * scale_factor_height), int(x.shape[-1] * scale_factor_width)
    return _resize_bilinear(x, height, width, mode)


def _nearest(x: Array, height: int, width: int) -> Array:
    rows = np.arange(height) * x.shape[-2] // height
    columns = np.arange(width) * x.shape[-1] // width
    return x[..., rows[:, None], columns]


def _upsample_nearest(x: Array, scale_factor_height: float = 1, scale_factor_width: float = 1) -> Array:
    return _nearest(x, int(x.shape[-2] * scale_factor_height), int(x.shape[-1] * scale_factor_width))


def _resize(
    x: Array,
    shape: Sequence[int],
    resized_dims: int,
    interpolation_mode: str = "LINEAR",
    sampling_mode: str = "DEFAULT",
) -> Array:
    for back in range(1, int(resized_dims) + 1):
        axis, wanted = x.ndim - back, int(shape[-back]) or x.shape[-back]
        if interpolation_mode == "LINEAR":
            x = _linear(x, axis, wanted, sampling_mode)
        else:
            places = grid(x.shape[axis], wanted, sampling_mode)
            x = np.take(x, np.floor(places + (sampling_mode == "UNALIGN_CORNERS") * 0.5).astype(int), axis)
    return x


OPS: dict[str, Kernel] = {
    "resize": _resize,
    "resize_bilinear": _resize_bilinear,
    "resize_nearest_neighbor": lambda x, target_size_height, target_size_width: _nearest(
        x, int(target_size_height), int(target_size_width)
    ),
    "upsample_bilinear": _upsample_bilinear,
    "upsample_nearest_neighbor": _upsample_nearest,
}
