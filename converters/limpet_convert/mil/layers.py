"""Weighted sums and normalisations. Channels are axis 1, as in all of MIL.

The padding of an op follows MIL's ``pad_type``. ``valid`` has none. ``custom`` has the amounts before and after
each spatial axis. ``same`` and ``same_lower`` give the output ceil(input / stride) places. An odd one is behind or
before.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from limpet_convert.mil.elementwise import softmax

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.data import Array
    from limpet_convert.mil.elementwise import Kernel

Pads = list[tuple[int, int]]


def pads(
    pad_type: str, pad: Sequence[int] | None, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int]
) -> Pads:
    """Return how much to add before and after each spatial axis. ``kernel`` is in places, dilation included."""
    if pad_type == "valid":
        return [(0, 0)] * len(sizes)
    if pad_type == "custom":
        amounts = [int(n) for n in (pad if pad is not None else [0] * 2 * len(sizes))]
        return list(zip(amounts[::2], amounts[1::2], strict=True))
    totals = [
        max(0, int(s) * math.ceil(n / s) - n + int(k) - int(s))
        for n, k, s in zip(sizes, kernel, strides, strict=True)
    ]
    less = [(total // 2, total - total // 2) for total in totals]
    return [(after, before) for before, after in less] if pad_type == "same_lower" else less


def windows(x: Array, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> Array:
    """Return a view of shape (n, channels, *places, *kernel) of ``x``, (n, channels, *spatial)."""
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    view = sliding_window_view(x, spans, tuple(range(2, x.ndim)))
    steps = [slice(None, None, int(s)) for s in strides]
    taps = [slice(None, None, int(d)) for d in dilations]
    return view[(slice(None), slice(None), *steps, *taps)]


def conv(  # noqa: PLR0913 - MIL's inputs
    x: Array,
    *,
    weight: Array,
    bias: Array | None = None,
    strides: Sequence[int] | None = None,
    pad_type: str = "valid",
    pad: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    groups: int = 1,
) -> Array:
    """Convolve over 1, 2 or 3 axes. ``weight``: (channels out, channels in / groups, *kernel)."""
    kernel, count = weight.shape[2:], weight.ndim - 2
    strides, dilations = _per_axis(strides, count), _per_axis(dilations, count)
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    around = pads(pad_type, pad, x.shape[2:], spans, strides)
    view = windows(np.pad(x, [(0, 0), (0, 0), *around]), kernel, strides, dilations)
    n, places, groups = x.shape[0], view.shape[2 : 2 + count], int(groups)
    # (n, groups, channels in a group * kernel, places), so that one matmul is the whole convolution.
    grouped = view.reshape(n, groups, -1, *places, *kernel)
    order = (0, 1, 2, *range(3 + count, 3 + 2 * count), *range(3, 3 + count))
    columns = grouped.transpose(order).reshape(n, groups, -1, math.prod(places))
    out = (weight.reshape(groups, weight.shape[0] // groups, -1) @ columns).reshape(n, weight.shape[0], *places)
    return out if bias is None else out + bias.reshape(-1, *[1] * count)


def conv_transpose(  # noqa: PLR0913 - MIL's inputs
    x: Array,
    *,
    weight: Array,
    bias: Array | None = None,
    strides: Sequence[int] | None = None,
    pad_type: str = "valid",
    pad: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    groups: int = 1,
    output_shape: Sequence[int] | None = None,
) -> Array:
    """Transpose a convolution. ``weight``: (channels in, channels out / groups, *kernel).

    Each place of ``x`` adds its value times the kernel to the output. Neighbours do so ``strides`` apart. Padding
    is cut off at the borders.
    """
    count = weight.ndim - 2
    strides, dilations = _per_axis(strides, count), _per_axis(dilations, count)
    out = _add_kernels(x, weight, strides, dilations, int(groups))
    begins, sizes = _kept(pad_type, pad, x.shape[2:], out.shape[2:], strides)
    out = _cut(out, begins, sizes if output_shape is None else [int(n) for n in output_shape[2:]])
    return out if bias is None else out + bias.reshape(-1, *[1] * count)


def _add_kernels(x: Array, weight: Array, strides: Sequence[int], dilations: Sequence[int], groups: int) -> Array:
    """Return the output of a transposed convolution without padding: (n, channels out, *spatial)."""
    n, places, kernel = x.shape[0], x.shape[2:], weight.shape[2:]
    sizes = [(p - 1) * s + (k - 1) * d + 1 for p, s, k, d in zip(places, strides, kernel, dilations, strict=True)]
    out = np.zeros((n, groups * weight.shape[1], *sizes), np.float32)
    values = x.reshape(n, groups, -1, math.prod(places))
    # (groups, channels out / groups, channels in / groups, *kernel)
    grouped = np.swapaxes(weight.reshape(groups, -1, *weight.shape[1:]), 1, 2)
    for tap in np.ndindex(*kernel):
        added = grouped[(..., *tap)] @ values
        reached = [
            slice(t * d, t * d + (p - 1) * s + 1, s)
            for t, d, p, s in zip(tap, dilations, places, strides, strict=True)
        ]
        out[(slice(None), slice(None), *reached)] += added.reshape(n, -1, *places)
    return out


def _kept(
    pad_type: str, pad: Sequence[int] | None, places: Sequence[int], sizes: Sequence[int], strides: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Return where what is left of each spatial axis begins, and its size. ``sizes`` are those without padding.

    ``same`` leaves input * stride places; of an odd excess the larger half is cut off behind, with ``same_lower``
    before.
    """
    if pad_type in ("same", "same_lower"):
        kept = [p * s for p, s in zip(places, strides, strict=True)]
        excess = [max(0, size - k) for size, k in zip(sizes, kept, strict=True)]
        return [e // 2 if pad_type == "same" else e - e // 2 for e in excess], kept
    around = pads(pad_type, pad, places, [1] * len(sizes), strides)
    return [before for before, _ in around], [
        size - before - after for size, (before, after) in zip(sizes, around, strict=True)
    ]


def _cut(x: Array, begins: Sequence[int], sizes: Sequence[int]) -> Array:
    """Return so many places of each spatial axis from ``begins`` on, zeros where ``x`` has none."""
    missing = [max(0, b + size - n) for b, size, n in zip(begins, sizes, x.shape[2:], strict=True)]
    kept = [slice(b, b + size) for b, size in zip(begins, sizes, strict=True)]
    return np.pad(x, [(0, 0), (0, 0), *((0, m) for m in missing)])[(slice(None), slice(None), *kept)]


def _per_axis(values: Sequence[int] | None, count: int) -> list[int]:
    """Return one number for each spatial axis. Default: 1."""
    return [1] * count if values is None else [int(value) for value in values]


def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """Return x @ weight.T + bias. ``weight``: (out, in)."""
    out = np.asarray(x @ weight.T)
    return out if bias is None else np.asarray(out + bias)


def _matmul(x: Array, y: Array, *, transpose_x: bool = False, transpose_y: bool = False) -> Array:
    left = np.swapaxes(x, -1, -2) if transpose_x and x.ndim > 1 else x
    right = np.swapaxes(y, -1, -2) if transpose_y and y.ndim > 1 else y
    return np.asarray(left @ right)


def _attention(query: Array, key: Array, value: Array, attn_mask: Array | None = None) -> Array:
    scores = query @ np.swapaxes(key, -1, -2) / math.sqrt(query.shape[-1])
    if attn_mask is not None:
        scores = np.where(attn_mask, scores, -np.inf) if attn_mask.dtype == bool else scores + attn_mask
    return np.asarray(softmax(scores) @ value)


def _scale_shift(x: Array, gamma: Array | None, beta: Array | None, shape: Sequence[int]) -> Array:
    scaled = x if gamma is None else x * gamma.reshape(shape)
    return scaled if beta is None else scaled + beta.reshape(shape)


def _batch_norm(  # noqa: PLR0913 - MIL's inputs
    x: Array,
    *,
    mean: Array,
    variance: Array,
    gamma: Array | None = None,
    beta: Array | None = None,
    epsilon: float = 1e-5,
) -> Array:
    along = (-1, *[1] * (x.ndim - 2))
    normal = (x - mean.reshape(along)) / np.sqrt(variance.reshape(along) + epsilon)
    return _scale_shift(normal, gamma, beta, along)


def _centred(x: Array, axes: tuple[int, ...], epsilon: float) -> Array:
    spread = np.sqrt(x.var(axis=axes, keepdims=True) + epsilon)
    return np.asarray((x - x.mean(axis=axes, keepdims=True)) / spread)


def _instance_norm(
    x: Array, gamma: Array | None = None, beta: Array | None = None, epsilon: float = 1e-5
) -> Array:
    return _scale_shift(_centred(x, tuple(range(2, x.ndim)), epsilon), gamma, beta, (-1, *[1] * (x.ndim - 2)))


def _layer_norm(
    x: Array,
    axes: Sequence[int] | None = None,
    gamma: Array | None = None,
    beta: Array | None = None,
    epsilon: float = 1e-5,
) -> Array:
    along = tuple(int(a) % x.ndim for a in (range(x.ndim) if axes is None else axes))
    shape = [n if a in along else 1 for a, n in enumerate(x.shape)]
    return _scale_shift(_centred(x, along, epsilon), gamma, beta, shape)


def _l2_norm(x: Array, epsilon: float = 1e-6) -> Array:
    return np.asarray(x / np.sqrt(np.square(x).sum(axis=(-3, -2, -1), keepdims=True) + epsilon))


def _local_response_norm(x: Array, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Array:
    before = int(size) // 2
    around = [(0, 0), (before, int(size) - 1 - before), *[(0, 0)] * (x.ndim - 2)]
    sums = sliding_window_view(np.pad(np.square(x), around), int(size), 1).sum(-1)
    return np.asarray(x / (k + alpha / size * sums) ** beta)


OPS: dict[str, Kernel] = {
    "batch_norm": _batch_norm,
    "conv": conv,
    "conv_transpose": conv_transpose,
    "einsum": lambda values, equation: np.einsum(equation, *values),
    "instance_norm": _instance_norm,
    "l2_norm": _l2_norm,
    "layer_norm": _layer_norm,
    "linear": linear,
    "local_response_norm": _local_response_norm,
    "matmul": _matmul,
    "scaled_dot_product_attention": _attention,
}
