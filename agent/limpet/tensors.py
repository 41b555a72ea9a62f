"""Real values into a tensor's memory and out of it, in few passes and without allocating.

Quantized values stand for ``(stored - zero_point) * scale``; a real value is stored as
``rint(value / scale + zero_point)``, halves to even, clipped to the dtype's range.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from limpet.types import Array, FloatArray, TensorSpec, fits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Write: TypeAlias = "Callable[[Array], object]"
Read: TypeAlias = "Callable[[], Array]"

_ROUNDER = 12_582_912.0
"""1.5 * 2**23. A float32 of that size has no fraction bits: adding it rounds, and the low 16 bits of the sum are
the integer. Cheaper than ``rint`` and a cast from float, and NaN becomes 0 without a warning."""
_MANY = 4096
"""Elements from which ``clip``, one pass but 1 µs of call, is faster than ``maximum`` and ``minimum``, and
arithmetic faster than a table, which wants indices of 8 bytes."""


class Feed:
    """Writes arrays of real values into the memory of one tensor."""

    __slots__ = ("_dtype", "_shape", "_spec", "_target", "_write")

    def __init__(self, target: Array, spec: TensorSpec) -> None:
        self._target = target
        self._spec = spec
        self._shape: tuple[int, ...] | None = None
        self._dtype: np.dtype[Any] | None = None

    def __call__(self, values: Array) -> None:
        """Write. ``ValueError`` where the shape, but for 1s, or the dtype is none that the tensor takes."""
        if values.shape != self._shape or values.dtype is not self._dtype:
            self._adapt(values)
        self._write(values)

    def _adapt(self, values: Array) -> None:
        """Prepare for arrays like ``values``: the next ones will most likely be."""
        if not fits(values.shape, self._target.shape):
            raise ValueError(
                f"input {self._spec.name!r} has shape {list(self._target.shape)}, but got {list(values.shape)}"
            )
        self._write = _writer(self._target, self._spec, values)
        self._shape = values.shape
        self._dtype = values.dtype


def reader(source: Array, spec: TensorSpec) -> Read:
    """Return what reads a tensor's memory: float32 real values if quantized, else values as they are.

    It returns the same array each time.
    """
    if not spec.quantized:
        values = np.empty_like(source)

        def copy() -> Array:
            values[...] = source
            return values

        return copy
    real = np.empty(source.shape, np.float32)
    if source.itemsize == 1 and len(spec.scale) == 1 and source.size < _MANY:
        stored = np.arange(256, dtype=np.uint8).view(source.dtype)
        table = dequantize(stored, spec)
        # Negative indices count from the end, as two's complement does.
        return lambda: table.take(source, None, real, "wrap")
    zero, scale = _spread(spec.zero_point, spec, source.shape), _spread(spec.scale, spec, source.shape)

    def convert() -> Array:
        real[...] = source
        np.subtract(real, zero, real)
        return np.multiply(real, scale, real)

    return convert


def dequantize(stored: Array, spec: TensorSpec) -> Array:
    """Return new float32 real values for a quantized tensor's stored ones, a copy for any other tensor."""
    if not spec.quantized:
        return stored.copy()
    zero, scale = _spread(spec.zero_point, spec, stored.shape), _spread(spec.scale, spec, stored.shape)
    return (stored.astype(np.float32) - zero) * scale


def _writer(target: Array, spec: TensorSpec, values: Array) -> Write:
    """Return the fastest way from arrays like ``values`` to ``target``."""
    shaped = target.reshape(values.shape)
    if not spec.quantized:
        if not np.can_cast(values.dtype, target.dtype, "same_kind"):
            raise ValueError(f"input {spec.name!r} takes {target.dtype}, but got {values.dtype}")
        return lambda new: np.copyto(shaped, new, "same_kind")
    zero, scale = (
        _spread(parameter, spec, target.shape, values.shape) for parameter in (spec.zero_point, spec.scale)
    )
    if target.itemsize > np.dtype(np.int16).itemsize:
        return _quantize_wide(shaped, zero, scale)
    if values.dtype.kind == "f":
        return _quantize(shaped, zero, scale)
    if values.dtype == np.uint8 and target.itemsize == 1 and len(spec.scale) == 1:
        return _quantize_bytes(shaped, zero, scale)
    return _quantize_integers(shaped, zero, scale)


def _quantize(target: Array, zero: FloatArray, scale: FloatArray) -> Write:
    """Write floats to an integer tensor of 8 or 16 bits."""
    limits = np.iinfo(target.dtype)
    low, high = ((np.float32(limit) - zero) * scale for limit in (limits.min, limits.max))
    shift = np.asarray(zero + np.float32(_ROUNDER))
    work = np.empty(target.shape, np.float32)
    bits = work.view(np.int32)

    def write(new: Array) -> None:
        np.maximum(new, low, out=work)
        np.minimum(work, high, out=work)
        np.divide(work, scale, work)
        np.add(work, shift, work)
        target[...] = bits

    def write_many(new: Array) -> None:
        new.clip(low, high, out=work)
        np.divide(work, scale, work)
        np.add(work, shift, work)
        target[...] = bits

    return write if target.size < _MANY else write_many


def _quantize_integers(target: Array, zero: FloatArray, scale: FloatArray) -> Write:
    """Write integers, which are real values too."""
    real = np.empty(target.shape, np.float32)
    write = _quantize(target, zero, scale)

    def convert(new: Array) -> None:
        real[...] = new
        write(real)

    return convert


def _quantize_bytes(target: Array, zero: FloatArray, scale: FloatArray) -> Write:
    """Write pixels, 0 to 255, in one pass: there are but 256 results."""
    table = np.empty(256, target.dtype)
    pixels = np.arange(256, dtype=np.uint8)
    _quantize(table, zero, scale)(pixels.astype(np.float32))
    shifts = table.view(np.uint8) - pixels
    if (shifts == shifts[0]).all():  # Scale 1: 24 times as fast as the table.
        stored, shift = target.view(np.uint8), shifts[:1].reshape(())
        return lambda new: np.add(new, shift, stored)
    return lambda new: table.take(new, None, target, "clip")


def _quantize_wide(target: Array, zero: FloatArray, scale: FloatArray) -> Write:
    """Write to a 32-bit tensor, whose range a float32 cannot count. Rare, so it may allocate."""
    limits = np.iinfo(target.dtype)

    def write(new: Array) -> None:
        stored = np.rint(new / scale.astype(np.float64)) + zero
        np.copyto(target, np.nan_to_num(stored).clip(limits.min, limits.max), "unsafe")

    return write


def _spread(
    parameter: Sequence[float], spec: TensorSpec, shape: tuple[int, ...], wanted: tuple[int, ...] | None = None
) -> FloatArray:
    """Return a parameter of quantization to compute with on arrays of shape ``wanted``, by default ``shape``.

    It is a 0-d array where there is one value; a value a channel is spread over the tensor's ``shape``.
    """
    values = np.asarray(parameter, np.float32)
    if len(values) == 1:
        return values.reshape(())
    along = [1] * len(shape)
    along[spec.quantized_dimension] = -1
    return np.broadcast_to(values.reshape(along), shape).reshape(wanted or shape)
