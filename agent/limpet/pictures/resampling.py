"""Pictures to another size, with the numbers of the libraries that people train with.

``Pillow``: ``Image.resize``. Each axis in turn, with what is scaled down smoothed; bytes are rounded between.

A new row is a weighted sum of a few old rows beside each other. So a matrix of weights is a band. It is cut into
small blocks, and each is one product of matrices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Callable

    from limpet.contracts.data import Array
    from limpet.contracts.frame import Method, View

Doubles: TypeAlias = NDArray[np.float64]

_BLOCK = 8
"""New rows or columns that are computed in one product."""
_BITS = 22
"""Bits behind the point of Pillow's weights for bytes."""


def scaler(shape: tuple[int, int, int], size: tuple[int, int], view: View, dtype: np.dtype[Any]) -> Step:
    """Return what scales pictures of ``shape`` ``(height, width, channels)`` to ``size``, height and width.

    ``view`` has the method and the library. Bytes become bytes, other numbers float32.
    """
    if view.method == "nearest":
        return _nearest(shape, size, dtype)
    return _pillow(shape, size, view.method, dtype)


Step: TypeAlias = "Callable[[Array], Array]"


def _nearest(shape: tuple[int, int, int], size: tuple[int, int], dtype: np.dtype[Any]) -> Step:
    rows, columns = (_nearest_places(old, new) for old, new in zip(shape, size, strict=False))
    target = dtype if dtype == np.uint8 else np.dtype(np.float32)
    return lambda picture: picture[rows][:, columns].astype(target, copy=False)


def _nearest_places(old: int, new: int) -> NDArray[np.intp]:
    """Return the old positions that Pillow takes; it adds up steps, and their rounding."""
    steps = np.full(new, old / new)
    steps[0] *= 0.5
    return np.minimum(np.add.accumulate(steps).astype(np.intp), old - 1)


class Taps(NamedTuple):
    """The weights of one axis: new position n is the sum of ``weights[n]`` times the old ones from ``first[n]``.

    ``first`` is int ``(new,)``, ``weights`` float64 ``(new, most)``, 0 beyond the end of each.
    """

    first: NDArray[np.intp]
    weights: Doubles


def pillow_taps(old: int, new: int, method: Method) -> Taps:
    """Return the weights with which Pillow resizes an axis.

    Source: Pillow's libImaging/Resample.c, ``precompute_coeffs``.
    """
    kernel, reach = _KERNELS[method]
    scale = old / new
    stretch = max(scale, 1.0)
    support = reach * stretch
    centre = (np.arange(new) + 0.5) * scale
    first = np.maximum((centre - support + 0.5).astype(np.intp), 0)
    end = np.minimum((centre + support + 0.5).astype(np.intp), old)
    most = int((end - first).max())
    at = np.arange(most) + first[:, np.newaxis]
    weights = kernel((at - centre[:, np.newaxis] + 0.5) * (1.0 / stretch))
    weights[at >= end[:, np.newaxis]] = 0.0
    total = np.zeros(new)
    for column in weights.T:  # In the order in which the library adds them up.
        total += column
    return Taps(first, weights * (1.0 / total)[:, np.newaxis])


def _box(at: Doubles) -> Doubles:
    return ((at > -0.5) & (at <= 0.5)).astype(np.float64)


def _triangle(at: Doubles) -> Doubles:
    distance = np.abs(at)
    return np.where(distance < 1.0, 1.0 - distance, 0.0)


def _cubic(at: Doubles, a: float = -0.5) -> Doubles:
    x = np.abs(at)
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


_KERNELS: dict[Method, tuple[Callable[[Doubles], Doubles], float]] = {
    "area": (_box, 0.5),
    "bilinear": (_triangle, 1.0),
    "bicubic": (_cubic, 2.0),
}


def _pillow(shape: tuple[int, int, int], size: tuple[int, int], method: Method, dtype: np.dtype[Any]) -> Step:
    height, width, channels = shape
    across = pillow_taps(width, size[1], method) if width != size[1] else None
    down = pillow_taps(height, size[0], method) if height != size[0] else None
    bytes_only = dtype == np.uint8
    if bytes_only:
        across, down = (taps and _fixed(taps) for taps in (across, down))
    finish = _rounded if bytes_only else _single
    passes = [
        product
        for product in (
            across and _Product(across, width, channels, finish),
            down and _Product(down, height, 0, finish),
        )
        if product is not None
    ]

    def scale(picture: Array) -> Array:
        for product in passes:
            picture = product(picture)
        return picture if bytes_only else picture.astype(np.float32, copy=False)

    return scale


def _fixed(taps: Taps) -> Taps:
    """Return weights as whole numbers with ``_BITS`` behind the point, half away from 0."""
    scaled = taps.weights * (1 << _BITS)
    return taps._replace(weights=np.trunc(scaled + np.copysign(0.5, scaled)))


def _rounded(sums: Doubles) -> Array:
    """Return sums with ``_BITS`` behind the point as bytes. Sums of whole numbers are exact in float64."""
    sums += 1 << (_BITS - 1)
    sums *= 1.0 / (1 << _BITS)
    np.floor(sums, out=sums)
    return np.clip(sums, 0, 255, out=sums).astype(np.uint8)


def _single(sums: Doubles) -> Array:
    return sums.astype(np.float32)


class _Block(NamedTuple):
    """Some new positions, the old ones that they are made of, and the weights between the two."""

    new: slice
    old: slice
    weights: Doubles


class _Product:
    """Applies taps along the rows (``channels`` 0), or along the columns of interleaved channels."""

    def __init__(self, taps: Taps, old: int, channels: int, finish: Callable[[Doubles], Array]) -> None:
        self._blocks = _blocks(taps, old, channels)
        self._along_columns = bool(channels)
        self._channels = channels
        self._new = len(taps.first)
        self._finish = finish

    def __call__(self, picture: Array) -> Array:
        height, width, channels = picture.shape
        if self._along_columns:
            flat = picture.reshape(height, width * channels)
            sums = np.empty((height, self._new * channels))
            for block in self._blocks:
                np.matmul(flat[:, block.old].astype(np.float64), block.weights, out=sums[:, block.new])
            return self._finish(sums).reshape(height, self._new, channels)
        flat = picture.reshape(height, width * channels)
        sums = np.empty((self._new, width * channels))
        for block in self._blocks:
            np.matmul(block.weights, flat[block.old].astype(np.float64), out=sums[block.new])
        return self._finish(sums).reshape(self._new, width, channels)


def _blocks(taps: Taps, old: int, channels: int) -> list[_Block]:
    """Cut the band of weights into blocks; for columns, each weight serves every channel."""
    new, most = taps.weights.shape
    blocks = []
    for begin in range(0, new, _BLOCK):
        end = min(begin + _BLOCK, new)
        first = int(taps.first[begin:end].min())
        last = min(int(taps.first[begin:end].max()) + most, old)
        dense = np.zeros((end - begin, last - first + most))
        for row, (start, weights) in enumerate(zip(taps.first[begin:end], taps.weights[begin:end], strict=True)):
            dense[row, start - first : start - first + most] += weights
        dense = dense[:, : last - first]
        if channels:
            blocks.append(
                _Block(
                    slice(begin * channels, end * channels),
                    slice(first * channels, last * channels),
                    np.ascontiguousarray(np.kron(dense.T, np.eye(channels))),
                )
            )
        else:
            blocks.append(_Block(slice(begin, end), slice(first, last), dense))
    return blocks
