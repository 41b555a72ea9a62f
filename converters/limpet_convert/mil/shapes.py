"""Elements moved, not changed: reshapes, slices, pads, gathers, and arrays made from numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from limpet_convert.mil.elementwise import dtype_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.data import Array
    from limpet_convert.mil.elementwise import Kernel

_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "symmetric": "symmetric"}

_PUTS: dict[str, np.ufunc] = {
    "add": np.add, "div": np.divide, "max": np.maximum, "min": np.minimum, "mul": np.multiply, "sub": np.subtract,
}  # fmt: skip


def _ints(values: Sequence[int]) -> tuple[int, ...]:
    return tuple(int(n) for n in np.atleast_1d(values))


def _reshape(x: Array, shape: Sequence[int]) -> Array:
    """Reshape; 0 keeps the size that ``x`` has there, -1 takes what is left."""
    return x.reshape([x.shape[i] if n == 0 else n for i, n in enumerate(_ints(shape))])


def _flatten2d(x: Array, axis: int = 1) -> Array:
    split = int(axis) % (x.ndim + 1)
    return x.reshape(int(np.prod(x.shape[:split])), -1)


def _slice_by_index(  # noqa: PLR0913 - MIL's inputs
    x: Array,
    *,
    begin: Sequence[int],
    end: Sequence[int],
    stride: Sequence[int] | None = None,
    begin_mask: Sequence[bool] | None = None,
    end_mask: Sequence[bool] | None = None,
    squeeze_mask: Sequence[bool] | None = None,
) -> Array:
    none = [False] * x.ndim
    steps = [1] * x.ndim if stride is None else _ints(stride)
    picked: list[slice | int] = []
    for axis in range(x.ndim):
        if (squeeze_mask if squeeze_mask is not None else none)[axis]:
            picked.append(int(begin[axis]))
            continue
        first = None if (begin_mask if begin_mask is not None else none)[axis] else int(begin[axis])
        last = None if (end_mask if end_mask is not None else none)[axis] else int(end[axis])
        picked.append(slice(first, last, steps[axis]))
    return np.asarray(x[tuple(picked)])


def _slice_by_size(x: Array, begin: Sequence[int], size: Sequence[int]) -> Array:
    """Slice; a size of -1 goes to the end."""
    ends = [n if s == -1 else b + s for n, b, s in zip(x.shape, _ints(begin), _ints(size), strict=True)]
    return x[tuple(slice(b, e) for b, e in zip(_ints(begin), ends, strict=True))]


def _slice_update(x: Array, update: Array, begin: Sequence[int], end: Sequence[int], **options: Any) -> Array:
    """Overwrite a slice, chosen as ``slice_by_index`` does."""
    places = np.arange(x.size).reshape(x.shape)
    changed = x.copy()
    changed.flat[_slice_by_index(places, begin=begin, end=end, **options)] = update
    return changed


def _split(
    x: Array, num_splits: int | None = None, split_sizes: Sequence[int] | None = None, axis: int = 0
) -> tuple[Array, ...]:
    if split_sizes is None:
        return tuple(np.split(x, int(num_splits or 1), int(axis)))
    return tuple(np.split(x, np.cumsum(_ints(split_sizes))[:-1], int(axis)))


def _concat(values: Sequence[Array], axis: int, *, interleave: bool = False) -> Array:
    if not interleave:
        return np.concatenate(values, int(axis))
    axis = int(axis) % values[0].ndim
    stacked = np.stack(values, axis + 1)
    return stacked.reshape(*values[0].shape[:axis], -1, *values[0].shape[axis + 1 :])


def _pad(x: Array, pad: Sequence[int], mode: str = "constant", constant_val: float = 0.0) -> Array:
    """Pad the last axes; ``pad`` has the amounts before and after each of them."""
    amounts = _ints(pad)
    pairs = list(zip(amounts[::2], amounts[1::2], strict=True))
    around = [(0, 0)] * (x.ndim - len(pairs)) + pairs
    if mode == "constant":
        return np.pad(x, around, constant_values=constant_val)
    return np.pad(x, around, mode=_MODES[mode])  # type: ignore[call-overload,no-any-return]  # a str, not a literal


def _depth_to_space(x: Array, block_size: int, *, pixels: bool) -> Array:
    """Move channels into a grid. ``pixels``: the channel is the slowest (PyTorch), else the fastest."""
    n, channels, height, width = x.shape
    b = int(block_size)
    if pixels:
        apart = x.reshape(n, channels // (b * b), b, b, height, width).transpose(0, 1, 4, 2, 5, 3)
    else:
        apart = x.reshape(n, b, b, channels // (b * b), height, width).transpose(0, 3, 4, 1, 5, 2)
    return apart.reshape(n, channels // (b * b), height * b, width * b)


def _space_to_depth(x: Array, block_size: int, *, pixels: bool) -> Array:
    n, channels, height, width = x.shape
    b = int(block_size)
    apart = x.reshape(n, channels, height // b, b, width // b, b)
    order = (0, 1, 3, 5, 2, 4) if pixels else (0, 3, 5, 1, 2, 4)
    return apart.transpose(order).reshape(n, channels * b * b, height // b, width // b)


def _gather(
    x: Array,
    indices: Array,
    axis: int = 0,
    batch_dims: int = 0,
    *,
    validate_indices: bool = False,  # noqa: ARG001 - numpy always does
) -> Array:
    batch, along = int(batch_dims), int(axis) % x.ndim
    if not batch:
        return np.take(x, indices, along)
    rows = [np.take(x[i], indices[i], along - batch) for i in np.ndindex(*x.shape[:batch])]
    return np.stack(rows).reshape(*x.shape[:batch], *rows[0].shape)


def _gather_nd(x: Array, indices: Array, batch_dims: int = 0, *, validate_indices: bool = False) -> Array:  # noqa: ARG001
    batch = int(batch_dims)
    if not batch:
        return np.asarray(x[tuple(np.moveaxis(indices, -1, 0))])
    rows = [x[i][tuple(np.moveaxis(indices[i], -1, 0))] for i in np.ndindex(*x.shape[:batch])]
    return np.stack(rows).reshape(*x.shape[:batch], *rows[0].shape)


def _put(data: Array, where: Any, updates: Array, mode: str) -> Array:
    changed = data.copy()
    if mode == "update":
        changed[where] = updates
    else:
        _PUTS[mode].at(changed, where, updates)
    return changed


def _scatter(  # noqa: PLR0913 - MIL's inputs
    data: Array,
    *,
    indices: Array,
    updates: Array,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,  # noqa: ARG001 - numpy always does
) -> Array:
    """Put slices along an axis. ``updates`` has the axes of ``indices`` in place of that axis."""
    along = int(axis) % data.ndim
    front = np.moveaxis(updates, range(along, along + indices.ndim), range(indices.ndim))
    return np.moveaxis(_put(np.moveaxis(data, along, 0), indices, front, mode), 0, along)


def _scatter_along_axis(  # noqa: PLR0913 - MIL's inputs
    data: Array,
    *,
    indices: Array,
    updates: Array,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,  # noqa: ARG001 - numpy always does
) -> Array:
    where: list[Any] = list(np.indices(indices.shape, sparse=True))
    where[int(axis) % data.ndim] = indices
    return _put(data, tuple(where), updates, mode)


def _scatter_nd(
    data: Array,
    *,
    indices: Array,
    updates: Array,
    mode: str = "add",
    validate_indices: bool = False,  # noqa: ARG001 - numpy always does
) -> Array:
    return _put(data, tuple(np.moveaxis(indices, -1, 0)), updates, mode)


def _topk(  # noqa: PLR0913 - MIL's inputs
    x: Array,
    *,
    k: int = 1,
    axis: int = -1,
    ascending: bool = False,
    sort: bool = True,  # noqa: ARG001 - sorted is one of the orders that may come
    return_indices: bool = True,
    output_indices_dtype: str = "int32",
) -> Array | tuple[Array, Array]:
    order = _argsort(x, axis, ascending=ascending)
    count = x.shape[int(axis)] if k == -1 else int(k)
    first = np.take(order, range(count), int(axis))
    values = np.take_along_axis(x, first, int(axis))
    return (values, first.astype(dtype_of(output_indices_dtype))) if return_indices else values


def _argsort(x: Array, axis: int = -1, *, ascending: bool = False) -> Array:
    return np.argsort(x if ascending else -x, int(axis), kind="stable")


def _cumsum(x: Array, axis: int = 0, *, exclusive: bool = False, reverse: bool = False) -> Array:
    ahead = np.flip(x, int(axis)) if reverse else x
    sums = np.cumsum(ahead, int(axis))
    if exclusive:
        sums = sums - ahead
    return np.flip(sums, int(axis)) if reverse else sums


def _one_hot(
    indices: Array, one_hot_vector_size: int, axis: int = -1, on_value: float = 1, off_value: float = 0
) -> Array:
    places = np.arange(int(one_hot_vector_size)) == indices[..., None]
    hot = np.where(places, on_value, off_value)
    return np.moveaxis(hot, -1, int(axis))


def _band_part(x: Array, lower: int = -1, upper: int = -1) -> Array:
    rows, columns = np.indices(x.shape[-2:])
    keep = ((lower < 0) | (rows - columns <= lower)) & ((upper < 0) | (columns - rows <= upper))
    return np.where(keep, x, 0)


def _sliding_windows(x: Array, axis: int, size: int, stride: int = 1) -> Array:
    along = int(axis) % x.ndim
    view = np.lib.stride_tricks.sliding_window_view(x, int(size), along)
    picked = view[(*[slice(None)] * along, slice(None, None, int(stride)))]
    return np.moveaxis(picked, -1, along + 1)


def _non_zero(x: Array) -> Array:
    return np.argwhere(x)


def _crop(x: Array, crop_height: Sequence[int], crop_width: Sequence[int]) -> Array:
    (top, bottom), (left, right) = _ints(crop_height), _ints(crop_width)
    return x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]


OPS: dict[str, Kernel] = {
    "argsort": _argsort,
    "band_part": _band_part,
    "concat": _concat,
    "crop": _crop,
    "cumsum": _cumsum,
    "depth_to_space": lambda x, block_size: _depth_to_space(x, block_size, pixels=False),
    "expand_dims": lambda x, axes: np.expand_dims(x, _ints(axes)),
    "fill": lambda shape, value=0.0: np.full(_ints(shape), value),
    "fill_like": lambda ref_tensor, value=0.0: np.full(ref_tensor.shape, value),
    "flatten2d": _flatten2d,
    "gather": _gather,
    "gather_along_axis": lambda x, indices, axis=0, validate_indices=False: np.take_along_axis(  # noqa: ARG005
        x, indices, int(axis)
    ),
    "gather_nd": _gather_nd,
    "non_zero": _non_zero,
    "one_hot": _one_hot,
    "pad": _pad,
    "pixel_shuffle": lambda x, upscale_factor: _depth_to_space(x, upscale_factor, pixels=True),
    "pixel_unshuffle": lambda x, downscale_factor: _space_to_depth(x, downscale_factor, pixels=True),
    "range_1d": lambda end, start, step: np.arange(start, end, step),
    "reshape": _reshape,
    "reverse": lambda x, axes=None: np.flip(x, None if axes is None else _ints(axes)),
    "scatter": _scatter,
    "scatter_along_axis": _scatter_along_axis,
    "scatter_nd": _scatter_nd,
    "shape": lambda x: np.array(x.shape, np.int32),
    "slice_by_index": _slice_by_index,
    "slice_by_size": _slice_by_size,
    "slice_update": _slice_update,
    "sliding_windows": _sliding_windows,
    "space_to_depth": lambda x, block_size: _space_to_depth(x, block_size, pixels=False),
    "split": _split,
    "squeeze": lambda x, axes=None: np.squeeze(x, None if axes is None else _ints(axes)),
    "stack": lambda values, axis: np.stack(values, int(axis)),
    "tile": lambda x, reps: np.tile(x, _ints(reps)),
    "topk": _topk,
    "transpose": lambda x, perm: np.transpose(x, _ints(perm)),
}
