"""Pools and reductions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from limpet_convert.mil.elementwise import dtype_of
from limpet_convert.mil.layers import Pads, pads, windows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.data import Array
    from limpet_convert.mil.elementwise import Kernel


def _prepare(  # noqa: PLR0913 - what pools have in common
    x: Array,
    kernel_sizes: Sequence[int],
    strides: Sequence[int] | None,
    pad_type: str,
    pad: Sequence[int] | None,
    *,
    ceil_mode: bool,
) -> tuple[list[int], list[int], Pads, Pads]:
    """Return kernel, strides, what is padded, and what is added behind it for ``ceil_mode``."""
    kernel = [int(k) for k in kernel_sizes]
    steps = [1] * len(kernel) if strides is None else [int(s) for s in strides]
    around = pads(pad_type, pad, x.shape[2:], kernel, steps)
    if not ceil_mode:
        return kernel, steps, around, [(0, 0)] * len(kernel)
    more = []
    for n, k, s, (before, after) in zip(x.shape[2:], kernel, steps, around, strict=True):
        whole = n + before + after
        places = math.ceil((whole - k) / s) + 1
        if (places - 1) * s >= n + before and before + after > 0:
            places -= 1
        more.append((0, max(0, (places - 1) * s + k - whole)))
    return kernel, steps, around, more


def _padded(x: Array, around: Pads, value: float) -> Array:
    return np.pad(x, [(0, 0), (0, 0), *around], constant_values=value)


def _max_pool(  # noqa: PLR0913 - MIL's inputs
    x: Array,
    *,
    kernel_sizes: Sequence[int],
    strides: Sequence[int] | None = None,
    pad_type: str = "valid",
    pad: Sequence[int] | None = None,
    ceil_mode: bool = False,
) -> Array:
    kernel, steps, around, more = _prepare(x, kernel_sizes, strides, pad_type, pad, ceil_mode=ceil_mode)
    lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    view = windows(_padded(_padded(x, around, lowest), more, lowest), kernel, steps, [1] * len(kernel))
    return np.asarray(view.max(axis=tuple(range(-len(kernel), 0))))


def _sum_pool(x: Array, kernel: list[int], steps: list[int]) -> Array:
    view = windows(x, kernel, steps, [1] * len(kernel))
    return np.asarray(view.sum(axis=tuple(range(-len(kernel), 0))))


def _avg_pool(  # noqa: PLR0913 - MIL's inputs
    x: Array,
    *,
    kernel_sizes: Sequence[int],
    strides: Sequence[int] | None = None,
    pad_type: str = "valid",
    pad: Sequence[int] | None = None,
    exclude_padding_from_average: bool = False,
    ceil_mode: bool = False,
) -> Array:
    kernel, steps, around, more = _prepare(x, kernel_sizes, strides, pad_type, pad, ceil_mode=ceil_mode)
    counted = _padded(np.ones((1, 1, *x.shape[2:]), x.dtype), around, 0 if exclude_padding_from_average else 1)
    counts = _sum_pool(_padded(counted, more, 0), kernel, steps)
    return np.asarray(_sum_pool(_padded(_padded(x, around, 0), more, 0), kernel, steps) / counts)


def _l2_pool(  # noqa: PLR0913 - MIL's inputs
    x: Array,
    *,
    kernel_sizes: Sequence[int],
    strides: Sequence[int] | None = None,
    pad_type: str = "valid",
    pad: Sequence[int] | None = None,
    ceil_mode: bool = False,
) -> Array:
    kernel, steps, around, more = _prepare(x, kernel_sizes, strides, pad_type, pad, ceil_mode=ceil_mode)
    return np.sqrt(_sum_pool(_padded(_padded(np.square(x), around, 0), more, 0), kernel, steps))


def _reduction(function: Kernel) -> Kernel:
    def kernel(x: Array, axes: Sequence[int] | None = None, *, keep_dims: bool = False) -> Any:
        along = None if axes is None else tuple(int(a) for a in axes)
        return function(x, axis=along, keepdims=bool(keep_dims))

    return kernel


def _log_sum_exp(x: Array, axis: Any, *, keepdims: bool) -> Array:
    top = x.max(axis=axis, keepdims=True)
    sums = np.log(np.exp(x - top).sum(axis=axis, keepdims=True)) + top
    return np.asarray(sums if keepdims else np.squeeze(sums, axis=axis))


def _position(function: Kernel) -> Kernel:
    def kernel(
        x: Array,
        *,
        axis: int = -1,
        keep_dims: bool = False,
        output_dtype: str = "int32",
    ) -> Any:
        return function(x, axis=int(axis), keepdims=bool(keep_dims)).astype(dtype_of(output_dtype))

    return kernel


OPS: dict[str, Kernel] = {
    "avg_pool": _avg_pool,
    "l2_pool": _l2_pool,
    "max_pool": _max_pool,
    "reduce_argmax": _position(np.argmax),
    "reduce_argmin": _position(np.argmin),
    "reduce_l1_norm": _reduction(lambda x, **options: np.abs(x).sum(**options)),
    "reduce_l2_norm": _reduction(lambda x, **options: np.sqrt(np.square(x).sum(**options))),
    "reduce_log_sum": _reduction(lambda x, **options: np.log(x.sum(**options))),
    "reduce_log_sum_exp": _reduction(_log_sum_exp),
    "reduce_max": _reduction(np.max),
    "reduce_mean": _reduction(np.mean),
    "reduce_min": _reduction(np.min),
    "reduce_prod": _reduction(np.prod),
    "reduce_sum": _reduction(np.sum),
    "reduce_sum_square": _reduction(lambda x, **options: np.square(x).sum(**options)),
}
