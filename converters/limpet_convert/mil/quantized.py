"""Between real values and stored integers: real = (stored - zero point) * scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from limpet_convert.mil.elementwise import dtype_of

if TYPE_CHECKING:
    from limpet.contracts.data import Array
    from limpet_convert.mil.elementwise import Kernel


def _along(parameter: Array, x: Array, axis: int | None) -> Array:
    """Spread one value a place of ``axis`` over ``x``; a single value needs no axis."""
    values = np.asarray(parameter, np.float32)
    if values.ndim == 0 or axis is None:
        return values
    shape = [1] * x.ndim
    shape[int(axis)] = -1
    return values.reshape(shape)


def _quantize(
    input: Array,  # noqa: A002 - MIL's name
    scale: Array,
    output_dtype: str,
    zero_point: Array | None = None,
    axis: int | None = None,
) -> Array:
    limits = np.iinfo(dtype_of(output_dtype))
    stored = np.rint(input / _along(scale, input, axis))
    if zero_point is not None:
        stored = stored + _along(zero_point, input, axis)
    return np.clip(stored, limits.min, limits.max).astype(limits.dtype)


def _dequantize(
    input: Array,  # noqa: A002 - MIL's name
    scale: Array,
    zero_point: Array | None = None,
    axis: int | None = None,
) -> Array:
    stored = input.astype(np.float32)
    if zero_point is not None:
        stored = stored - _along(zero_point, input, axis)
    return np.asarray(stored * _along(scale, input, axis))


OPS: dict[str, Kernel] = {"dequantize": _dequantize, "quantize": _quantize}
