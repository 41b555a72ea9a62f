"""The weights with which libraries resize one axis of a picture.

Each function returns ``Taps`` for ``old`` positions that become ``new`` ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Callable

    from limpet.contracts.frame import Method

Doubles: TypeAlias = NDArray[np.float64]
Places: TypeAlias = NDArray[np.intp]


class Taps(NamedTuple):
    """The weights of one axis: new position n is the sum of ``weights[n]`` times the old ones from ``first[n]``.

    ``first`` is int ``(new,)``, ``weights`` float64 ``(new, most)``, 0 beyond the end of each.
    """

    first: Places
    weights: Doubles


def smooth(old: int, new: int, method: Method) -> Taps:
    """Return Pillow's weights, and TensorFlow's with ``antialias``: a kernel as wide as what it stands for.

    Source: Pillow's libImaging/Resample.c, ``precompute_coeffs``.
    """
    kernel, reach = _KERNELS[method]
    scale = old / new
    stretch = max(scale, 1.0)
    support = reach * stretch
    centre = (np.arange(new) + 0.5) * scale
    first = np.maximum((centre - support + 0.5).astype(np.intp), 0)
    end = np.minimum((centre + support + 0.5).astype(np.intp), old)
    at = np.arange(int((end - first).max())) + first[:, np.newaxis]
    weights = kernel((at - centre[:, np.newaxis] + 0.5) * (1.0 / stretch))
    weights[at >= end[:, np.newaxis]] = 0.0
    total = np.zeros(new)
    for column in weights.T:  # In the order in which the library adds them up.
        total += column
    return Taps(first, weights * (1.0 / total)[:, np.newaxis])


def linear(old: int, new: int) -> Taps:
    """Return the weights of the two pixels around each pixel's centre, without smoothing.

    Source: OpenCV's ``INTER_LINEAR``.
    """
    place, share = between(old, new)
    return _gathered(old, place[:, np.newaxis] + np.arange(2), np.stack([1 - share, share], 1))


def between(old: int, new: int) -> tuple[Places, NDArray[np.float32]]:
    """Return the pixel before each new pixel's centre, from -1 on, and how far on the way to the next it is."""
    at = ((np.arange(new) + 0.5) * (1.0 / (new / old)) - 0.5).astype(np.float32)
    place = np.floor(at).astype(np.intp)
    return place, (at - place.astype(np.float32)).astype(np.float32)


def area_between(old: int, new: int) -> tuple[Places, NDArray[np.float32]]:
    """Return what OpenCV's ``INTER_AREA`` takes in place of ``between`` if a picture does not shrink."""
    scale = 1.0 / (new / old)
    steps = np.arange(new)
    place = np.floor(steps * scale).astype(np.intp)
    share = ((steps + 1) - (place + 1) * (new / old)).astype(np.float32)
    return place, np.where(share <= 0, 0, share - np.floor(share)).astype(np.float32)


def cubic(old: int, new: int) -> Taps:
    """Return the weights of OpenCV's ``INTER_CUBIC``: four pixels, a = -0.75, without smoothing."""
    at = (np.arange(new) + 0.5) * (1.0 / (new / old)) - 0.5
    place = np.floor(at)
    distance = np.abs((at - place)[:, np.newaxis] - [-1, 0, 1, 2])
    return _gathered(old, place.astype(np.intp)[:, np.newaxis] + [-1, 0, 1, 2], _cubic(distance, -0.75))


def cubic_by_table(old: int, new: int) -> Taps:
    """Return the weights of TensorFlow's ``ResizeBicubic``: a = -0.5, by a table of 1024 steps, none outside."""
    at = ((np.arange(new, dtype=np.float32) + np.float32(0.5)) * np.float32(old / new)) - np.float32(0.5)
    place = np.floor(at)
    share = np.rint((at - place) * 1024) / 1024
    weights = _cubic(np.abs(share[:, np.newaxis].astype(np.float64) - [-1, 0, 1, 2]))
    places = place.astype(np.intp)[:, np.newaxis] + [-1, 0, 1, 2]
    weights[(places < 0) | (places >= old)] = 0.0
    return _gathered(old, places, weights / weights.sum(axis=1, keepdims=True))


def mean(old: int, new: int) -> Taps:
    """Return the mean over the area of each new pixel: TensorFlow's ``ResizeArea``."""
    scale = np.float32(old / new)
    begin = np.arange(new, dtype=np.float32) * scale
    end = np.arange(1, new + 1, dtype=np.float32) * scale
    first = np.floor(begin).astype(np.intp)
    most = int((np.ceil(end).astype(np.intp) - first).max())
    places = first[:, np.newaxis] + np.arange(most)
    covered = np.minimum(places + 1, end[:, np.newaxis]) - np.maximum(places, begin[:, np.newaxis])
    return _gathered(old, places, np.maximum(covered, 0.0) / float(scale))


def opencv_mean(old: int, new: int) -> Taps:
    """Return the mean over the area of each new pixel, as OpenCV's ``INTER_AREA`` has it for what shrinks.

    Source: OpenCV's imgproc/resize.cpp, ``computeResizeAreaTab``.
    """
    scale = 1.0 / (new / old)
    begin = np.arange(new) * scale
    end = begin + scale
    width = np.minimum(scale, old - begin)
    last = np.minimum(np.floor(end), old - 1)
    inner = np.minimum(np.ceil(begin), last)
    first = np.where(inner - begin > 1e-3, inner - 1, inner).astype(np.intp)
    most = int((last - first).max()) + 1
    places = first[:, np.newaxis] + np.arange(most)
    weights = np.where((places >= inner[:, np.newaxis]) & (places < last[:, np.newaxis]), 1.0, 0.0)
    weights += np.where(places < inner[:, np.newaxis], (inner - begin)[:, np.newaxis], 0.0)
    rest = np.where(end - last > 1e-3, np.minimum(np.minimum(end - last, 1.0), width), 0.0)
    weights += np.where(places == last[:, np.newaxis], rest[:, np.newaxis], 0.0)
    return _gathered(old, places, (weights / width[:, np.newaxis]).astype(np.float32))


def _gathered(old: int, places: Places, weights: NDArray[Any]) -> Taps:
    """Return taps of weights at any places; those outside are that of the pixel at the border."""
    inside = np.clip(places, 0, old - 1)
    first = inside.min(axis=1)
    offsets = inside - first[:, np.newaxis]
    dense = np.zeros((len(first), int(offsets.max()) + 1))
    np.add.at(dense, (np.arange(len(first))[:, np.newaxis], offsets), weights)
    return Taps(first, dense)


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
