"""Real values into a tensor's memory and out of it, in few passes and without allocating.

A quantized tensor's ``stored`` integers stand for ``(stored - zero_point) * scale``; a real value is stored as
``rint(value / scale + zero_point)``, halves to even, clipped to the dtype's range. NaN is stored as any of them.
A tensor of integers that is not quantized gets values rounded to integers, and a tensor of bool gets 0 and 1. Such
values may be indices or flags, so one that is NaN or out of range is refused, not clipped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from limpet.contracts.data import Array, FloatArray, TensorSpec, fits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Write: TypeAlias = "Callable[[Array], object]"

_ROUNDER = 12_582_912.0
"""1.5 * 2**23. A float32 of that size has no fraction bits: adding it rounds, and the low 16 bits of the sum are
the integer. Cheaper than ``rint`` and a cast from float, which warns of NaN."""
_FEW = 96
"""Elements up to which a binary search is faster than arithmetic: .6 against 1.6 µs for 9, even at 96."""
_MANY = 4096
"""From this number of elements, ``take`` from a table is slower than arithmetic or ``bytes.translate``. It makes
indices of 8 bytes each. For an image of 224 x 224 x 3 it takes 125 µs, against 45 and 78.
"""


class InputWriter:
    """Writes arrays of real values into the memory of one tensor.

    ``write`` takes arrays of ``shape`` and ``dtype``, those that came last. For others call ``adapt`` first.
    ``pixels`` are the real values that bytes from 0 to 255 stand for. Default: the bytes themselves.
    """

    __slots__ = ("_spec", "_target", "dtype", "pixels", "shape", "write")

    def __init__(self, target: Array, spec: TensorSpec) -> None:
        self.pixels: FloatArray | None = None
        self._target = target
        self._spec = spec
        self.shape: tuple[int, ...] | None = None
        self.dtype: np.dtype[Any] | None = None
        self.write: Write

    def __call__(self, values: Array) -> None:
        """Write. ``ValueError`` as ``adapt``."""
        if values.shape != self.shape or values.dtype is not self.dtype:
            self.adapt(values)
        self.write(values)

    def store(self, values: Array) -> None:
        """Write values of the tensor's dtype as they are, others as real values. ``ValueError`` as ``adapt``."""
        if values.dtype != self._target.dtype:
            self(values)
        elif values.shape == self._target.shape:
            self._target[...] = values
        elif fits(values.shape, self._target.shape):
            self._target[...] = values.reshape(self._target.shape)
        else:
            raise self._misfit(values)

    def _misfit(self, values: Array) -> ValueError:
        return ValueError(
            f"input {self._spec.name!r} has shape {list(self._target.shape)}, but got {list(values.shape)}"
        )

    def adapt(self, values: Array) -> None:
        """Prepare for arrays like ``values``: more of them will most likely come.

        ``ValueError`` where their shape, but for 1s, or their dtype is none that the tensor takes.
        """
        if not fits(values.shape, self._target.shape):
            raise self._misfit(values)
        self.write = _writer(self._target, self._spec, values, self.pixels)
        self.shape = values.shape
        self.dtype = values.dtype


def reader(source: Array, spec: TensorSpec) -> Callable[[], Array]:
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
    if _is_byte(spec) and source.size < _MANY:
        table = _table(spec)
        return lambda: table.take(source, None, real, "wrap")
    zero, scale = (_spread(parameter, spec, source.shape) for parameter in (spec.zero_point, spec.scale))

    def convert() -> Array:
        real[...] = source
        np.subtract(real, zero, real)
        return np.multiply(real, scale, real)

    return convert


def dequantizer(spec: TensorSpec) -> Callable[[Array], Array]:
    """Return what makes new real values of an array that the runtime handed over, whose size may vary."""
    if not spec.quantized:
        return lambda stored: stored
    if _is_byte(spec):
        table = _table(spec)
        return lambda stored: table.take(stored, None, None, "wrap")
    return lambda stored: _dequantize(stored, spec)


def _dequantize(stored: Array, spec: TensorSpec) -> FloatArray:
    zero, scale = (_spread(parameter, spec, stored.shape) for parameter in (spec.zero_point, spec.scale))
    real: FloatArray = (stored.astype(np.float32) - zero) * scale
    return real


def _table(spec: TensorSpec) -> FloatArray:
    """Return the real value of each byte; negative indices count from its end, as two's complement does."""
    return _dequantize(np.arange(256, dtype=np.uint8).view(spec.dtype), spec)


def takes_pixels(spec: TensorSpec) -> bool:
    """Whether bytes can be written to a tensor by a table of what each is stored as."""
    return spec.quantized and _is_byte(spec)


def _is_byte(spec: TensorSpec) -> bool:
    """Whether there are but 256 real values."""
    return spec.dtype.itemsize == 1 and len(spec.scale) == 1


def _writer(target: Array, spec: TensorSpec, values: Array, pixels: FloatArray | None) -> Write:
    """Return the fastest way from arrays like ``values`` to ``target``."""
    shaped = target.reshape(values.shape)
    if not spec.quantized:
        return _unquantized(shaped, spec, values)
    zero, scale = (
        _spread(parameter, spec, target.shape, values.shape) for parameter in (spec.zero_point, spec.scale)
    )
    if target.itemsize > np.dtype(np.int16).itemsize:
        return _quantize_wide(shaped, zero, scale)
    if values.dtype == np.float32 and _is_byte(spec) and target.size <= _FEW:
        return _quantize_few(shaped, zero, scale)
    if values.dtype in {np.dtype(np.float32), np.dtype(np.float64)}:
        return _quantize(shaped, zero, scale)
    if values.dtype == np.uint8 and _is_byte(spec):
        return _quantize_bytes(shaped, zero, scale, pixels)
    return _quantize_others(shaped, zero, scale)


def _unquantized(target: Array, spec: TensorSpec, values: Array) -> Write:
    """Write numbers to a tensor that holds them as they are."""
    integers = target.dtype.kind in "iu"
    if np.can_cast(values.dtype, target.dtype, "safe" if integers else "same_kind"):
        return lambda new: np.copyto(target, new, "same_kind")
    if values.dtype.kind in "iuf" and integers:
        return _round_to_integers(target, spec)
    if values.dtype.kind in "iuf" and target.dtype.kind == "b":
        return _set_flags(target, spec)
    raise ValueError(f"input {spec.name!r} takes {target.dtype}, but got {values.dtype}")


def _round_to_integers(target: Array, spec: TensorSpec) -> Write:
    limits = np.iinfo(target.dtype)
    least, above = limits.min, float(limits.max) + 1

    def write(new: Array) -> None:
        whole = np.rint(new) if new.dtype.kind == "f" else new
        if not (whole.min(initial=0) >= least and whole.max(initial=0) < above):  # NaN is neither.
            wrong = whole[~((whole >= least) & (whole < above))].flat[0]
            raise ValueError(
                f"input {spec.name!r} takes {target.dtype}, from {limits.min} to {limits.max}, but got {wrong}"
            )
        np.copyto(target, whole, "unsafe")

    return write


def _set_flags(target: Array, spec: TensorSpec) -> Write:
    def write(new: Array) -> None:
        on = new == 1
        if not (on | (new == 0)).all():
            wrong = new[~(on | (new == 0))].flat[0]
            raise ValueError(f"input {spec.name!r} takes bool, which is 0 or 1, but got {wrong}")
        target[...] = on

    return write


def _quantize(target: Array, zero: FloatArray, scale: FloatArray) -> Write:
    """Write floats to an integer tensor of 8 or 16 bits."""
    limits = np.iinfo(target.dtype)
    low, high = ((np.float32(limit) - zero) * scale for limit in (limits.min, limits.max))
    shift = zero + np.float32(_ROUNDER)
    work = np.empty(target.shape, np.float32)
    bits = work.view(np.int32)

    def write(new: Array) -> None:
        new.clip(low, high, work)
        np.divide(work, scale, work)
        np.add(work, shift, work)
        target[...] = bits

    return write


def _quantize_few(target: Array, zero: FloatArray, scale: FloatArray) -> Write:
    """Write a few floats to a tensor of bytes: look up the two thresholds around each."""
    limits = np.iinfo(target.dtype)
    stored = np.arange(limits.min, limits.max + 1, dtype=target.dtype)
    search = _thresholds(stored, zero, scale).searchsorted
    take = stored.take
    return lambda new: take(search(new, "right"), None, target, "clip")


def _thresholds(stored: Array, zero: FloatArray, scale: FloatArray) -> FloatArray:
    """Return the least float32 that ``_quantize`` stores as ``stored[1]``, as ``stored[2]`` and so on."""
    wanted = stored[1:]
    guess = ((wanted - 0.5 - zero) * scale).astype(np.float32)
    near = [guess]
    for _ in range(3):
        near = [np.nextafter(near[0], np.float32(-np.inf)), *near, np.nextafter(near[-1], np.float32(np.inf))]
    candidates = np.stack(near)
    rounded = np.empty(candidates.shape, stored.dtype)
    _quantize(rounded, zero, scale)(candidates)
    first = (rounded >= wanted).argmax(axis=0)
    least: FloatArray = candidates[first, np.arange(len(wanted))]
    return least


def _quantize_others(target: Array, zero: FloatArray, scale: FloatArray) -> Write:
    """Write integers, which are real values too, and half-precision floats."""
    real = np.empty(target.shape, np.float32)
    write = _quantize(target, zero, scale)

    def convert(new: Array) -> None:
        real[...] = new
        write(real)

    return convert


def _quantize_bytes(target: Array, zero: FloatArray, scale: FloatArray, pixels: FloatArray | None) -> Write:
    """Write bytes that stand for ``pixels`` in one pass: there are but 256 results."""
    table = np.empty(256, target.dtype)
    each = np.arange(256, dtype=np.uint8)
    _quantize(table, zero, scale)(each.astype(np.float32) if pixels is None else pixels)
    shifts = table.view(np.uint8) - each
    if (shifts == shifts[0]).all():  # A scale of 1: 25 times as fast as the table.
        stored, shift = target.view(np.uint8), shifts[0]
        if shift == 0:
            return lambda new: np.copyto(stored, new)
        return lambda new: np.add(new, shift, stored)
    if target.size < _MANY:
        return lambda new: table.take(new, None, target, "clip")
    encoded, flat, dtype = table.tobytes(), target.reshape(-1), target.dtype

    def translate(new: Array) -> None:
        flat[...] = np.frombuffer(new.tobytes().translate(encoded), dtype)

    return translate


def _quantize_wide(target: Array, zero: FloatArray, scale: FloatArray) -> Write:
    """Write to a 32-bit tensor, whose range a float32 cannot count. Rare, so it may allocate."""
    limits = np.iinfo(target.dtype)

    def write(new: Array) -> None:
        stored = np.rint(new.astype(np.float64) / scale + zero)
        target[...] = np.nan_to_num(stored).clip(limits.min, limits.max)

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
