"""Subtract the mean and divide by the standard deviation: one of each, or one a channel, row or element."""

from __future__ import annotations

import math
from itertools import accumulate
from operator import mul
from typing import TYPE_CHECKING, TypeAlias

import msgspec
import numpy as np
from msgspec.structs import replace

from limpet.contracts.fields import Positive
from limpet.contracts.stage import Spec
from limpet.contracts.transform import Abilities

if TYPE_CHECKING:
    from limpet.contracts.data import Array, FloatArray, Window

ABILITIES = Abilities(elementwise=True, byte_table=True)


Numbers: TypeAlias = float | list[float | list[float]]


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """``(x - mean) / std``, then cut to ±``clip``.

    ``mean`` and ``std`` are in the source's unit, ``clip`` in standard deviations. For images in 0..255 that a
    model wants in -1..1: ``mean = 127.5``, ``std = 127.5``. Each is a number or a list. The list's length says
    what it is for. First, it is for the channels (the last axis). Else it is for all elements, or the last axes,
    in row-major order. Else it is for the rows (all axes but the last), such as the bands of ``spectrum``. A list
    of rows, ``[[...], [...]]``, is repeated along axes of 1 as NumPy does.
    """

    mean: Numbers = 0.0
    """What is subtracted, in the source's unit: a number, or a list for channels, rows or elements. Example:
    `[0.0, 0.0, 9.81]`."""
    std: Numbers = 1.0
    """What the difference is divided by, in the source's unit. Example: `[2.0, 2.0, 2.0]`."""
    clip: Positive | None = None
    """Largest absolute value of the result, in standard deviations. Default: no limit. Example: `5`."""

    def __post_init__(self) -> None:
        least, most = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
        if not all(abs(mean) <= most for mean in _numbers(self.mean)):
            raise ValueError(f"mean must be finite, at most {most:.3g}, not {self.mean}")
        if not all(least <= std <= most for std in _numbers(self.std)):
            raise ValueError(f"std must be above 0, not {self.std}; drop a channel that never changes")


def open(config: Config, spec: Spec) -> Normalise:
    """Prepare for arrays of ``spec.shape``. ``ValueError`` if mean or std does not fit their channels."""
    # float64 for wide integers and float64, where float32 could not hold the difference of large numbers.
    work = np.result_type(spec.dtype, np.float32)
    mean = _fitted("mean", config.mean, spec.shape).astype(work)
    std = _fitted("std", config.std, spec.shape).astype(work)
    return Normalise(mean, std, config.clip, replace(spec, dtype=np.dtype(np.float32)))


class Normalise:
    """Values of any real dtype to float32 of the same shape; one buffer serves all calls."""

    def __init__(self, mean: Array, std: Array, clip: float | None, spec: Spec) -> None:
        self.spec = spec
        self._mean, self._std = mean, std
        # As arrays of no dimension: numpy would convert a number at each call, and is slow to repeat a single one.
        self._clip = None if clip is None else (np.array(-clip, mean.dtype), np.array(clip, mean.dtype))
        self._buffers = None if -1 in spec.shape else self._make_buffers(spec.shape)

    def __call__(self, window: Window) -> Window:
        """Return the window with its values normalised. NaN stays NaN."""
        window.values = self._normalise(window.values)
        return window

    def reset(self) -> None:
        """Do nothing: nothing is remembered."""

    def _normalise(self, values: Array) -> Array:
        work, out = self._buffers or self._make_buffers(values.shape)
        np.subtract(values, self._mean, work)
        np.divide(work, self._std, work)
        if self._clip is not None:
            low, high = self._clip
            np.maximum(work, low, out=work)
            np.minimum(work, high, out=work)
        if out is not work:
            out[...] = work
        return out

    @property
    def byte_values(self) -> FloatArray | None:
        """What becomes of each byte from 0 to 255. ``None`` if that differs between channels."""
        if self._mean.ndim or self._std.ndim:
            return None
        clip = None if self._clip is None else float(self._clip[1])
        every_byte = np.arange(256, dtype=np.uint8)
        alike = Normalise(self._mean, self._std, clip, Spec(shape=every_byte.shape, dtype=every_byte.dtype))
        values: FloatArray = alike._normalise(every_byte)
        return values

    def _make_buffers(self, shape: tuple[int, ...]) -> tuple[Array, Array]:
        """Return where to compute and where the result goes: the same array if that is float32."""
        work = np.empty(shape, self._mean.dtype)
        return work, work if work.dtype == np.float32 else np.empty(shape, np.float32)


def _numbers(value: Numbers) -> list[float]:
    """Return all numbers, row after row."""
    if not isinstance(value, list):
        return [value]
    return [number for row in value for number in (row if isinstance(row, list) else [row])]


def _fitted(name: str, value: Numbers, shape: tuple[int, ...]) -> Array:
    """Return the numbers as an array to broadcast: a single one without dimensions, others over the last two axes.

    So numpy's inner loop runs over an image's whole row instead of its three channels, which is five times as
    fast. An array (1, 9) gets one of its own shape, which is twice as fast.
    """
    if not isinstance(value, list):
        return np.array(value, np.float32)
    numbers = _numbers(value)
    wanted = _table(name, value, shape) if any(isinstance(row, list) for row in value) else _axes(value, shape)
    if wanted is None:
        raise ValueError(
            f"{name} has {len(numbers)} numbers for the {shape[-1]} channels of arrays {list(shape)}; "
            f"use one number, or a list of {_lengths(shape)}"
        )
    array = np.array(numbers, np.float32).reshape(wanted)
    if array.size == 1:
        return array.reshape(())
    if -1 in shape[-2:]:
        return array
    return np.broadcast_to(array, np.broadcast_shapes(array.shape, shape[-2:])).copy()


def _axes(value: list[float | list[float]], shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the shape in which a flat list is broadcast to arrays of ``shape``, ``None`` where none fits."""
    size = len(value)
    for axes in _last_axes(shape):
        if math.prod(axes) == size:
            return axes
    for axes in _last_axes(shape[:-1]):
        if math.prod(axes) == size:
            return (*axes, 1)
    return None


def _last_axes(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return the last axis, the last two and so on, as far as their sizes are known."""
    known = shape[len(shape) - shape[::-1].index(-1) :] if -1 in shape else shape
    return [known[-count:] for count in range(1, len(known) + 1)]


def _table(name: str, rows: list[float | list[float]], shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the shape of a list of rows. ``ValueError`` where it cannot be broadcast to ``shape``."""
    lengths = {len(row) if isinstance(row, list) else 0 for row in rows}
    length = lengths.pop()
    fits = not lengths and all(n in {1, size} for n, size in zip((length, len(rows)), shape[::-1], strict=False))
    if not fits or len(shape) < 2:
        raise ValueError(
            f"{name}: its rows do not fit arrays {list(shape)}; give each row one number, or one for each channel"
        )
    return len(rows), length


def _lengths(shape: tuple[int, ...]) -> str:
    """Return the lengths of a list that would fit."""
    products = [accumulate(axes[-1][::-1], mul) for axes in (_last_axes(shape), _last_axes(shape[:-1])) if axes]
    return " or ".join(map(str, sorted({size for sizes in products for size in sizes if size > 1}))) or "1"
