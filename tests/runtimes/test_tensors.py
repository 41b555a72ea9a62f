from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from limpet.contracts.data import TensorSpec
from limpet.runtimes.litert.tensors import InputWriter, dequantizer, reader

SCALES = st.floats(2.0**-20, 2.0**20, width=32)
ZEROS = st.integers(-128, 127)
SIZES = st.sampled_from([1, 9, 96, 97, 5000])
"""On either side of where another way of writing or reading is faster."""


def spec_of(dtype: str, shape: tuple[int, ...], scale: Any, zero_point: Any, axis: int = 0) -> TensorSpec:
    return TensorSpec("x", shape, np.dtype(dtype), tuple(scale), tuple(zero_point), axis)


def expected(values: np.ndarray, spec: TensorSpec) -> np.ndarray:
    """The definition, in the precision in which runtimes quantize."""
    limits = np.iinfo(spec.dtype)
    with np.errstate(over="ignore"):
        steps = values / np.float32(spec.scale[0])
    return np.rint(steps.astype(np.float64) + spec.zero_point[0]).clip(limits.min, limits.max)


def written(values: np.ndarray, spec: TensorSpec) -> np.ndarray:
    target = np.zeros(spec.shape, spec.dtype)
    InputWriter(target, spec)(values)
    return target


@given(st.data(), st.sampled_from(["int8", "uint8", "int16", "int32"]), SIZES, SCALES)
def test_floats_are_stored_by_the_definition(data: st.DataObject, dtype: str, size: int, scale: float) -> None:
    limits = np.iinfo(dtype)
    zero = data.draw(st.integers(limits.min, limits.max) if limits.bits == 8 else st.just(0))
    spec = spec_of(dtype, (size,), [scale], [zero])
    few = data.draw(hnp.arrays(np.float32, min(size, 9), elements=st.floats(width=32, allow_nan=False)))
    steps = np.float32((np.arange(size) % 512 - 256) / 2 - zero)  # halves: where rounding is decided
    values = steps * np.float32(scale)
    values[: len(few)] = few
    stored, wanted = written(values, spec), expected(values, spec)
    if dtype != "int32":
        np.testing.assert_array_equal(stored, wanted)
    else:  # Computed in float64.
        np.testing.assert_allclose(stored, wanted, rtol=1e-6, atol=1)


@given(
    st.sampled_from([(4, 5, 3), (40, 50, 3)]), st.sampled_from(["int8", "uint8"]), st.integers(-128, 127), SCALES
)
def test_pixels_are_stored_as_the_floats_they_are(
    shape: tuple[int, ...], dtype: str, zero: int, scale: float
) -> None:
    pixels = np.resize(np.random.default_rng(zero + 128).permutation(256).astype(np.uint8), shape)
    for scale_ in (scale, 1.0, 0.5):
        spec = spec_of(dtype, shape, [scale_], [zero + 128 if dtype == "uint8" else zero])
        for values in (pixels, pixels[::-1]):
            np.testing.assert_array_equal(written(values, spec), written(values.astype(np.float32), spec))


@pytest.mark.parametrize("dtype", ["float64", "float16", "int16", "int64", "bool", "uint8"])
@pytest.mark.parametrize("size", [5, 200, 5000])
def test_any_number_is_a_real_value(dtype: str, size: int) -> None:
    values = (np.arange(size) % 2).astype(dtype)
    spec = spec_of("int8", (size,), [0.5], [-3])
    np.testing.assert_array_equal(written(values, spec), np.arange(size) % 2 * 2 - 3)


@pytest.mark.parametrize("size", [4, 200, 5000])
@pytest.mark.parametrize("dtype", ["int8", "int16", "int32"])
def test_nan_and_infinity_do_no_harm(dtype: str, size: int) -> None:
    values = np.resize(np.array([np.nan, np.inf, -np.inf, 0], np.float32), size)
    stored = written(values, spec_of(dtype, (size,), [0.5], [0]))
    limits = np.iinfo(dtype)
    np.testing.assert_array_equal(stored[1:4], [limits.max, limits.min, 0])


def test_a_scale_for_each_channel() -> None:
    values = np.linspace(-2, 2, 24, dtype=np.float32).reshape(2, 3, 4)
    spec = spec_of("int8", (2, 3, 4), [0.1, 0.2, 0.4], [0, 5, -5], axis=1)
    channels = [spec_of("int8", (2, 4), [s], [z]) for s, z in zip(spec.scale, spec.zero_point, strict=True)]
    for given_ in (values, values.reshape(2, 1, 3, 4)):
        stored = written(given_, spec)
        for i, channel in enumerate(channels):
            np.testing.assert_array_equal(stored[:, i], written(values[:, i], channel))
    for real in (reader(stored, spec)(), dequantizer(spec)(stored)):
        np.testing.assert_allclose(real, values, atol=0.2)


@given(st.sampled_from(["int8", "uint8", "int16"]), SIZES, SCALES, st.integers(0, 127))
def test_stored_values_are_read_back(dtype: str, size: int, scale: float, zero: int) -> None:
    spec = spec_of(dtype, (size,), [scale], [zero])
    stored = np.arange(size).astype(dtype)
    real = (stored.astype(np.float32) - np.float32(zero)) * np.float32(scale)
    read, made = reader(stored, spec)(), dequantizer(spec)(stored)
    assert read.dtype == made.dtype == np.float32
    np.testing.assert_array_equal(read, real)
    np.testing.assert_array_equal(made, real)
    np.testing.assert_array_equal(written(read, spec), stored)


def test_what_is_not_quantized_stays_as_it_is() -> None:
    for dtype in ("float32", "int64", "bool", "float16"):
        spec = TensorSpec("x", (3,), np.dtype(dtype))
        values = np.array([0, 1, 1], dtype)
        assert reader(written(values, spec), spec)().dtype == dtype
        np.testing.assert_array_equal(dequantizer(spec)(written(values, spec)), values)


@pytest.mark.parametrize("shape", [(2, 3), (3,), (7,), (6, 2), ()])
def test_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    spec = spec_of("int8", (1, 6), [1.0], [0])
    with pytest.raises(ValueError, match=r"input 'x' has shape \[1, 6\], but got"):
        written(np.zeros(shape, np.float32), spec)


def test_ones_in_a_shape_do_not_count() -> None:
    spec = spec_of("int8", (1, 6), [1.0], [0])
    for shape in ((6,), (1, 6), (6, 1), (1, 1, 6, 1)):
        np.testing.assert_array_equal(written(np.arange(6.0).reshape(shape), spec), [range(6)])


def test_integers_without_quantization_are_rounded_and_never_clipped() -> None:
    spec = TensorSpec("x", (3,), np.dtype(np.int8))
    np.testing.assert_array_equal(written(np.array([-128.4, 0.5, 127.4], np.float32), spec), [-128, 0, 127])
    for wrong in (-129, 128, np.nan):
        with pytest.raises(ValueError, match="takes int8, from -128 to 127, but got"):
            written(np.array([0, 0, wrong], np.float32), spec)


def test_complex_numbers_are_refused_where_real_ones_are_wanted() -> None:
    with pytest.raises(ValueError, match="takes int32, but got complex64"):
        written(np.zeros(3, np.complex64), TensorSpec("x", (3,), np.dtype(np.int32)))
