"""Where outputs for clients go, and how real values and those that a tensor stores become each other."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from limpet.errors import ModelError
from limpet.wire import guest_records
from limpet.wire.guest_records import ALIGN, MOST_DIMENSIONS, Placed

if TYPE_CHECKING:
    import mmap
    from collections.abc import Sequence

    from limpet.contracts.data import Array, TensorSpec

REAL = np.dtype(guest_records.REAL)


class Target:
    """Where outputs go: one after the other, each with the rows of all windows."""

    def __init__(self, memory: mmap.mmap, offset: int, size: int, rows: int) -> None:
        self.placed: list[Placed] = []
        self._memory = memory
        self._end = min(offset + size, len(memory))
        self._next = offset
        self._rows = rows
        self._views: list[Array] = []

    def put(self, row: int, outputs: Sequence[Array]) -> None:
        """Copy the outputs of one window to their places."""
        if not row:
            self._views = [self._place(values) for values in outputs]
        for view, values in zip(self._views, outputs, strict=True):
            target = view if self._rows == 1 else view[row : row + 1]
            if target.shape != values.shape:
                raise ModelError("the model's output has another size for each window; send them one by one")
            target[...] = values

    def _place(self, values: Array) -> Array:
        shape = values.shape if self._rows == 1 else (self._rows, *values.shape[1:])
        size = prod(shape) * values.dtype.itemsize
        if len(shape) > MOST_DIMENSIONS:
            raise ModelError(f"an output has {len(shape)} dimensions; at most {MOST_DIMENSIONS} are sent")
        if self._next + size > self._end:
            raise ModelError(
                f"the outputs need more than the {self._end - self._next} bytes that are left for them"
            )
        view: Array = np.frombuffer(self._memory, values.dtype, prod(shape), self._next).reshape(shape)
        self.placed.append(Placed(values.dtype.str, list(shape), self._next))
        self._next += -(-size // ALIGN) * ALIGN
        return view


def to_real(values: Array, spec: TensorSpec) -> Array:
    """Return what ``Model.run`` takes: real values where the tensor is quantized."""
    if not spec.quantized or values.dtype == REAL:
        return values
    zero, scale = _parameters(spec, values.ndim)
    real: Array = (values.astype(REAL) - zero) * scale
    return real


def to_stored(values: Array, spec: TensorSpec) -> Array:
    """Return what the tensor holds for what ``Model.run`` gave."""
    if not spec.quantized:
        return values
    limits = np.iinfo(spec.dtype)
    zero, scale = _parameters(spec, values.ndim)
    stored: Array = (
        np.rint(values.astype(np.float64) / scale + zero).clip(limits.min, limits.max).astype(spec.dtype)
    )
    return stored


def _parameters(spec: TensorSpec, ndim: int) -> tuple[Array, Array]:
    """Return zero point and scale, to compute with on arrays of so many dimensions."""
    along = [1] * ndim
    if len(spec.scale) > 1:
        along[spec.quantized_dimension] = -1
    return np.asarray(spec.zero_point, REAL).reshape(along), np.asarray(spec.scale, REAL).reshape(along)
