"""Pictures to another size, with the numbers of the libraries that people train with.

``pillow``: ``Image.resize``. Each axis in turn, what is scaled down is smoothed, and bytes are rounded between.
``opencv``: ``cv2.resize``. ``tensorflow``: ``tf.image.resize``, which gives float32.
``any``: Pillow's numbers, or OpenCV's without antialias.

A new row is a weighted sum of a few old rows beside each other. So a matrix of weights is a band. It is cut into
small blocks, and each is one product of matrices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from limpet.pictures import taps
from limpet.pictures.taps import Doubles, Places, Taps

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from limpet.contracts.data import Array
    from limpet.contracts.frame import Method, View

Step: TypeAlias = "Callable[[Array], Array]"
"""Takes a picture ``(height, width, channels)`` and returns one."""

_BLOCK = 8
"""New rows or columns that are computed in one product."""
_BITS = 22
"""Bits behind the point of Pillow's weights for bytes."""
_COEFFICIENT = 11
"""The same of OpenCV's."""


class Sizes(NamedTuple):
    """Height and width of a picture, and its height and width afterwards."""

    old: tuple[int, int]
    new: tuple[int, int]


def scaler(shape: tuple[int, int, int], size: tuple[int, int], view: View, dtype: np.dtype[Any]) -> Step:
    """Return what scales pictures of ``shape`` ``(height, width, channels)`` to ``size``, height and width.

    ``view`` has the method and the library. Bytes become bytes, but for TensorFlow's interpolated ones. Other
    numbers become float32.
    """
    sizes = Sizes((shape[0], shape[1]), size)
    method, like = view.method, view.like
    if like == "any":
        like = "pillow" if view.antialias else "opencv"
    if method == "nearest":
        return _nearest(sizes, like, dtype)
    if like == "pillow":
        return _pillow(sizes, method, dtype)
    if like == "tensorflow":
        return _tensorflow(sizes, method, dtype, smooth=view.antialias)
    return _opencv(sizes, method, dtype)


# --- nearest


def _nearest(sizes: Sizes, like: str, dtype: np.dtype[Any]) -> Step:
    rows, columns = (_NEAREST[like](old, new) for old, new in zip(*sizes, strict=True))
    target = dtype if dtype == np.uint8 else np.dtype(np.float32)
    return lambda picture: picture[rows][:, columns].astype(target, copy=False)


def _pillow_nearest(old: int, new: int) -> Places:
    """Return the old positions that Pillow takes; it adds up steps, and their rounding."""
    steps = np.full(new, old / new)
    steps[0] *= 0.5
    return np.minimum(np.add.accumulate(steps).astype(np.intp), old - 1)


def _opencv_nearest(old: int, new: int) -> Places:
    at = np.floor(np.arange(new) * (1.0 / (new / old))).astype(np.intp)
    first: Places = np.minimum(at, old - 1)
    return first


def _tensorflow_nearest(old: int, new: int) -> Places:
    at = (np.arange(new, dtype=np.float32) + np.float32(0.5)) * np.float32(old / new)
    first: Places = np.minimum(np.floor(at).astype(np.intp), old - 1)
    return first


_NEAREST = {"pillow": _pillow_nearest, "opencv": _opencv_nearest, "tensorflow": _tensorflow_nearest}


# --- libraries


def _pillow(sizes: Sizes, method: Method, dtype: np.dtype[Any]) -> Step:
    down, across = (taps.smooth(old, new, method) if old != new else None for old, new in zip(*sizes, strict=True))
    if dtype == np.uint8:
        return _passes(sizes, down and _fixed(down), across and _fixed(across), _rounded, _rounded)
    return _passes(sizes, down, across, _single, _single)


def _tensorflow(sizes: Sizes, method: Method, dtype: np.dtype[Any], *, smooth: bool) -> Step:  # noqa: ARG001
    if method == "area":
        make = taps.mean
    elif smooth:
        return _floats(sizes, lambda old, new: taps.smooth(old, new, method))
    elif method == "bilinear":
        return _single_linear(sizes)
    else:
        make = taps.cubic_by_table
    return _floats(sizes, make)


def _opencv(sizes: Sizes, method: Method, dtype: np.dtype[Any]) -> Step:
    shrinks = all(old >= new for old, new in zip(*sizes, strict=True))
    if method == "area" and shrinks:
        return _area(sizes, dtype)
    if dtype != np.uint8:
        return _floats(sizes, taps.cubic if method == "bicubic" else taps.linear)
    if method == "bicubic":
        down, across = (taps.cubic(old, new) for old, new in zip(*sizes, strict=True))
        return _passes(sizes, down, across, _exact, _nearest_byte)
    between = taps.area_between if method == "area" else taps.between
    return _fixed_linear(sizes, between)


def _floats(sizes: Sizes, make: Callable[[int, int], Taps]) -> Step:
    down, across = (make(old, new) if old != new else None for old, new in zip(*sizes, strict=True))
    scale = _passes(sizes, down, across, _exact, _exact)
    return lambda picture: scale(picture).astype(np.float32)


# --- products of matrices


def _passes(sizes: Sizes, down: Taps | None, across: Taps | None, between: Finish, last: Finish) -> Step:
    """Return what resizes both axes, each with what finishes its sums.

    The width comes first. Pillow 13, as measured, does the height first if that loses more than twice as many rows
    as the width loses columns. Earlier versions never do.
    """
    (height, width), (rows, columns) = sizes
    needed, down = (None, None) if down is None else _needed(down, height)
    products = []
    if across is not None:
        products.append(_Product(across, width, along_columns=True))
    if down is not None:
        products.append(_Product(down, height if needed is None else len(needed), along_columns=False))
    if rows < height and height - rows > 2 * (width - columns):
        products.reverse()
    finishes = [between, last][-len(products) :]

    def scale(picture: Array) -> Array:
        if needed is not None:
            picture = picture[needed]
        for product, finish in zip(products, finishes, strict=True):
            picture = finish(product(picture))
        return picture

    return scale


def _needed(down: Taps, height: int) -> tuple[Places | None, Taps]:
    """Return which old rows have a weight, if few have, and the taps by their numbers among those."""
    places = down.first[:, np.newaxis] + np.arange(down.weights.shape[1])
    rows = np.unique(places[(down.weights != 0) & (places < height)])
    if len(rows) > height // 2:
        return None, down
    number = np.searchsorted(rows, places)
    first = number.min(axis=1)
    dense = np.zeros_like(down.weights)
    there = down.weights != 0
    np.add.at(dense, (np.nonzero(there)[0], (number - first[:, np.newaxis])[there]), down.weights[there])
    return rows, Taps(first, dense)


def _fixed(band: Taps) -> Taps:
    """Return weights as whole numbers with ``_BITS`` behind the point, half away from 0."""
    scaled = band.weights * (1 << _BITS)
    return band._replace(weights=np.trunc(scaled + np.copysign(0.5, scaled)))


Finish: TypeAlias = "Callable[[Doubles], Array]"
"""What makes a result of sums; it may write to them."""


def _rounded(sums: Doubles) -> Array:
    """Return sums with ``_BITS`` behind the point as bytes. Sums of whole numbers are exact in float64."""
    sums += 1 << (_BITS - 1)
    sums *= 1.0 / (1 << _BITS)
    np.floor(sums, out=sums)
    return np.clip(sums, 0, 255, out=sums).astype(np.uint8)


def _nearest_byte(sums: Doubles) -> Array:
    np.rint(sums, out=sums)
    return np.clip(sums, 0, 255, out=sums).astype(np.uint8)


def _single(sums: Doubles) -> Array:
    return sums.astype(np.float32)


def _exact(sums: Doubles) -> Array:
    return sums


class _Block(NamedTuple):
    """Some new positions, the old ones that they are made of, and the weights between the two."""

    new: slice
    old: slice
    weights: Doubles


class _Product:
    """Applies taps along the rows, or along the columns of interleaved channels."""

    def __init__(self, band: Taps, old: int, *, along_columns: bool) -> None:
        self._blocks = _blocks(band, old)
        self._along_columns = along_columns
        self._new = len(band.first)
        self._channels = 0

    def __call__(self, picture: Array) -> Doubles:
        height, width, channels = picture.shape
        flat = picture.reshape(height, width * channels)
        if not self._along_columns:
            sums = np.empty((self._new, width * channels))
            for block in self._blocks:
                np.matmul(block.weights, flat[block.old].astype(np.float64), out=sums[block.new])
            return sums.reshape(self._new, width, channels)
        if channels != self._channels:
            self._blocks, self._channels = [_interleaved(block, channels) for block in self._blocks], channels
        sums = np.empty((height, self._new * channels))
        for block in self._blocks:
            np.matmul(flat[:, block.old].astype(np.float64), block.weights, out=sums[:, block.new])
        return sums.reshape(height, self._new, channels)


def _interleaved(block: _Block, channels: int) -> _Block:
    """Return a block whose every weight serves each channel."""
    new, old = (slice(part.start * channels, part.stop * channels) for part in block[:2])
    return _Block(new, old, np.ascontiguousarray(np.kron(block.weights.T, np.eye(channels))))


def _blocks(band: Taps, old: int) -> list[_Block]:
    """Cut the band of weights into blocks."""
    new, most = band.weights.shape
    blocks = []
    for begin in range(0, new, _BLOCK):
        part = slice(begin, min(begin + _BLOCK, new))
        starts = band.first[part]
        first = int(starts.min())
        last = min(int(starts.max()) + most, old)
        dense = np.zeros((len(starts), int(starts.max()) - first + most))
        for row, (start, weights) in enumerate(zip(starts - first, band.weights[part], strict=True)):
            dense[row, start : start + most] = weights
        blocks.append(_Block(part, slice(first, last), dense[:, : last - first].copy()))
    return blocks


# --- TensorFlow's own arithmetic


def _single_linear(sizes: Sizes) -> Step:
    """Return bilinear interpolation in float32, to the last bit: resize_bilinear_op.cc, ``compute_lerp``.

    Where the true result is a whole number, TensorFlow's may be just below it. Models that cut off fractions,
    such as MoveNet, see that.
    """
    (upper, lower, down), (left, right, across) = (_lerp(old, new) for old, new in zip(*sizes, strict=True))
    down, across = down[:, np.newaxis, np.newaxis], across[:, np.newaxis]

    def along(rows: Array) -> NDArray[np.float32]:
        first: NDArray[np.float32] = rows[:, left].astype(np.float32)
        step = rows[:, right].astype(np.float32)
        step -= first
        step *= across
        first += step
        return first

    def scale(picture: Array) -> Array:
        top, step = along(picture[upper]), along(picture[lower])
        step -= top
        step *= down
        top += step
        return top

    return scale


def _lerp(old: int, new: int) -> tuple[Places, Places, NDArray[np.float32]]:
    """Return the two old positions of each new one, and the share of the second."""
    at = (np.arange(new, dtype=np.float32) + np.float32(0.5)) * (np.float32(old) / np.float32(new)) - np.float32(
        0.5
    )
    floor = np.floor(at)
    first: Places = np.maximum(floor, 0).astype(np.intp)
    second: Places = np.minimum(np.ceil(at), old - 1).astype(np.intp)
    return first, np.maximum(second, 0), at - floor


# --- OpenCV's own arithmetic


def _fixed_linear(sizes: Sizes, between: Callable[[int, int], tuple[Places, NDArray[np.float32]]]) -> Step:
    """Return bilinear interpolation of bytes in whole numbers: imgproc/resize.cpp, ``VResizeLinear``."""
    height, width = sizes.old
    (row, down), (column, across) = (between(old, new) for old, new in zip(*sizes, strict=True))
    across = np.where((column < 0) | (column >= width - 1), np.float32(0), across)
    column = np.clip(column, 0, width - 1)
    upper, lower = np.clip(row, 0, height - 1), np.clip(row + 1, 0, height - 1)
    right = np.minimum(column + 1, width - 1)
    left_weight, right_weight = (weights[:, np.newaxis] for weights in _coefficients(across))
    upper_weight, lower_weight = (weights[:, np.newaxis, np.newaxis] for weights in _coefficients(down))

    def along(rows: Array) -> Array:
        sums: Array = rows[:, column] * left_weight
        sums += rows[:, right] * right_weight
        sums >>= 4
        return sums

    def scale(picture: Array) -> Array:
        above = along(picture[upper])
        above *= upper_weight
        above >>= 16
        below = along(picture[lower])
        below *= lower_weight
        below >>= 16
        above += below
        above += 2
        above >>= 2
        return np.clip(above, 0, 255, out=above).astype(np.uint8)

    return scale


def _coefficients(share: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    unit = np.float32(1 << _COEFFICIENT)
    return np.rint((1 - share) * unit).astype(np.int32), np.rint(share * unit).astype(np.int32)


def _area(sizes: Sizes, dtype: np.dtype[Any]) -> Step:
    """Return the mean over areas: imgproc/resize.cpp, ``ResizeArea_Invoker`` and ``resizeAreaFast_``."""
    (height, width), (rows, columns) = sizes
    if height % rows or width % columns:
        return _area_by_taps(sizes, dtype)
    down, across = height // rows, width // columns
    share = np.float32(1.0 / (down * across))

    def scale(picture: Array) -> Array:
        parts = picture.reshape(rows, down, columns, across, -1)
        if dtype != np.uint8:
            mean: Array = parts.mean(axis=(1, 3), dtype=np.float64)
            return mean.astype(np.float32)
        sums: Array = parts.sum(axis=(1, 3), dtype=np.int32)
        if down == across == 2:
            sums += 2
            sums >>= 2
            return sums.astype(np.uint8)
        means: Array = np.rint(sums.astype(np.float32) * share)
        return means.astype(np.uint8)

    return scale


def _area_by_taps(sizes: Sizes, dtype: np.dtype[Any]) -> Step:
    """Return sums of one tap after the other in float32, as OpenCV adds them."""
    down, across = (taps.opencv_mean(old, new) for old, new in zip(*sizes, strict=True))
    height, width = sizes.old
    columns = _ordered(across, width)
    rows = _ordered(down, height)

    def scale(picture: Array) -> Array:
        narrow = np.zeros((height, sizes.new[1], picture.shape[2]), np.float32)
        for places, weights in columns:
            narrow += picture[:, places] * weights[:, np.newaxis]
        small = np.zeros((*sizes.new, picture.shape[2]), np.float32)
        for places, weights in rows:
            small += narrow[places] * weights[:, np.newaxis, np.newaxis]
        return np.clip(np.rint(small), 0, 255).astype(np.uint8) if dtype == np.uint8 else small

    return scale


def _ordered(band: Taps, old: int) -> list[tuple[Places, NDArray[np.float32]]]:
    """Return for each tap in turn its places and its weights."""
    return [
        (np.minimum(band.first + number, old - 1), weights.astype(np.float32))
        for number, weights in enumerate(band.weights.T)
    ]
