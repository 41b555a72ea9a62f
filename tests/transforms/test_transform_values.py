"""The numbers that each transform gives, against its definition read naively."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from limpet.contracts.data import Array, SampleSpec
from limpet.transforms import normalise, resize, spectrum, statistics
from support.stages import transformed, window_spec

readings = st.floats(-1000, 1000, width=32)


def sensor(channels: int, rate: float | None = 100.0) -> SampleSpec:
    return SampleSpec((channels,), np.dtype(np.float32), rate=rate)


def spectrum_of(values: Array, rate: float = 100.0, **options: Any) -> Array:
    spec = sensor(values.shape[-1], rate)
    opened = spectrum.open(spectrum.Config(**options), window_spec(spec, values.shape))
    return transformed(opened, values).copy()


@given(arrays(np.float32, (4, 2), elements=readings), st.sampled_from([None, 0.5]))
def test_normalise_is_its_formula(values: Array, clip: float | None) -> None:
    config = normalise.Config(mean=[1.5, -2.0], std=[4.0, 0.25], clip=clip)
    limit = clip or math.inf
    wanted = [
        [min(max((float(a) - 1.5) / 4.0, -limit), limit), min(max((float(b) + 2.0) / 0.25, -limit), limit)]
        for a, b in values
    ]
    np.testing.assert_allclose(
        transformed(normalise.open(config, window_spec(sensor(2), (4, 2))), values), wanted, rtol=1e-6
    )


@pytest.mark.parametrize(
    ("shape", "mean", "as_array"),
    [
        ((60, 1), list(range(60)), np.arange(60).reshape(60, 1)),  # one an element of a window
        ((1, 60), list(range(60)), np.arange(60)),
        ((40, 3), list(range(40)), np.arange(40).reshape(40, 1)),  # one a band
        ((40, 3), list(range(120)), np.arange(120).reshape(40, 3)),
        ((40, 3), [[n] for n in range(40)], np.arange(40).reshape(40, 1)),
        ((3, 3), [1, 2, 3], np.array([1, 2, 3])),  # the channels come first
        ((3, 3), [[1], [2], [3]], np.array([[1], [2], [3]])),
        ((2, 4, 3), list(range(12)), np.arange(12).reshape(4, 3)),
        ((5,), list(range(5)), np.arange(5)),
    ],
)
def test_normalise_takes_a_number_for_each_channel_element_or_row(
    shape: tuple[int, ...], mean: list[Any], as_array: Array
) -> None:
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    spec = SampleSpec(shape[1:], values.dtype)
    for config, wanted in (
        (normalise.Config(mean=mean), values - as_array.astype(np.float32)),
        (
            normalise.Config(std=[[n + 1 for n in row] if isinstance(row, list) else row + 1 for row in mean]),
            values / (as_array + 1),
        ),
    ):
        transform = normalise.open(config, window_spec(spec, shape))
        np.testing.assert_allclose(transformed(transform, values), wanted, rtol=1e-6)
        many = transformed(normalise.open(config, window_spec(spec, (64, *shape))), np.stack([values] * 64))
        np.testing.assert_array_equal(many[7], transformed(transform, values))


def test_normalise_keeps_small_changes_of_large_integers() -> None:
    spec = SampleSpec((1,), np.dtype(np.int32))
    config = normalise.Config(mean=float(2**27), std=1.0)
    values = np.array([[2**27 - 3], [2**27 + 5]], np.int32)
    assert transformed(normalise.open(config, window_spec(spec, (2, 1))), values).tolist() == [[-3.0], [5.0]]


@pytest.mark.parametrize("window", ["hann", "none"])
@pytest.mark.parametrize("size", [15, 16])
def test_spectrum_is_the_naive_fourier_transform(window: str, size: int) -> None:
    rng = np.random.default_rng(size)
    values = rng.normal(size=(size, 2)).astype(np.float32)
    taper = [1.0 if window == "none" else math.sin(math.pi * i / size) ** 2 for i in range(size)]
    mean_squares = np.zeros((size // 2 + 1, 2))
    for k in range(size // 2 + 1):
        for channel in range(2):
            turned = [
                taper[i] * float(values[i, channel]) * np.exp(-2j * math.pi * k * i / size) for i in range(size)
            ]
            sides = 1 if k in (0, size / 2) else 2
            mean_squares[k, channel] = sides * abs(sum(turned)) ** 2 / (size * sum(w * w for w in taper))
    edges = [0, 100 / size * 2, 100 / size * 3, 50]
    wanted = [mean_squares[:2].sum(0), mean_squares[2:3].sum(0), mean_squares[3:].sum(0)]
    found = spectrum_of(values, bands=edges, window=window)
    np.testing.assert_allclose(found, np.sqrt(wanted), rtol=1e-4)


@given(arrays(np.float32, st.tuples(st.integers(2, 65), st.just(2)), elements=readings))
def test_without_a_window_the_bands_hold_the_whole_power(values: Array) -> None:
    found = spectrum_of(values, bands=1, window="none")[0]
    rms = np.sqrt(np.mean(np.square(values.astype(float)), axis=0))
    np.testing.assert_allclose(found, rms, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("window", ["hann", "none"])
@pytest.mark.parametrize("frequency", [6.25, 25.0, 43.75])
def test_a_tone_shows_in_its_band_with_its_effective_amplitude(window: str, frequency: float) -> None:
    time = np.arange(256) / 100.0
    values = (3.0 * np.sin(2 * np.pi * frequency * time + 0.7)).astype(np.float32)[:, None]
    found = spectrum_of(values, bands=5, window=window)[:, 0]  # 10 Hz each
    band = int(frequency // 10)
    assert found[band] == pytest.approx(3.0 / math.sqrt(2), rel=1e-3)
    assert np.delete(found, band).max() < 1e-3


def test_hann_keeps_a_tone_between_two_frequencies_out_of_far_bands() -> None:
    time = np.arange(256) / 100.0
    values = np.sin(2 * np.pi * 15.07 * time).astype(np.float32)[:, None]
    with_window, without = (spectrum_of(values, bands=5, window=window)[4, 0] for window in ("hann", "none"))
    assert with_window < without / 50


def test_the_level_is_in_decibels_with_a_floor() -> None:
    time = np.arange(100) / 100.0
    tone = np.stack([100 * math.sqrt(2) * np.sin(2 * np.pi * 5 * time), 0 * time], axis=1).astype(np.float32)
    found = spectrum_of(tone, bands=[2, 10], log=True)
    np.testing.assert_allclose(found, [[40.0, -120.0]], atol=1e-2)


def test_bands_begin_on_their_lower_edge_and_end_before_their_upper_one() -> None:
    time = np.arange(100) / 100.0
    tone = np.sin(2 * np.pi * 20 * time).astype(np.float32)[:, None]
    found = spectrum_of(tone, bands=[10, 20, 30], window="none")[:, 0]
    assert found[0] < 1e-3
    assert found[1] == pytest.approx(math.sqrt(0.5), rel=1e-3)


@given(arrays(np.float32, st.tuples(st.integers(1, 40), st.just(2)), elements=readings))
def test_statistics_are_their_formulas(values: Array) -> None:
    features: list[statistics.Feature] = ["rms", "mean", "max", "std", "min", "crest"]
    found = transformed(
        statistics.open(statistics.Config(features=features), window_spec(sensor(2), values.shape)), values
    )
    for channel in range(2):
        x = [float(value) for value in values[:, channel]]
        mean = math.fsum(x) / len(x)
        rms = math.sqrt(math.fsum(v * v for v in x) / len(x))
        std = math.sqrt(math.fsum((v - mean) ** 2 for v in x) / len(x))
        crest = max(map(abs, x)) / rms if rms else 0.0
        np.testing.assert_allclose(
            found[:, channel], [rms, mean, max(x), std, min(x), crest], rtol=1e-5, atol=1e-9
        )


def test_kurtosis_tells_a_sine_noise_and_shocks_apart() -> None:
    rng = np.random.default_rng(0)
    sine = np.sin(np.arange(10_000) * 2 * np.pi / 100)
    noise = rng.normal(5, 2, 10_000)
    shocks = np.where(np.arange(10_000) % 100 == 0, 10.0, 0.0) + rng.normal(0, 0.1, 10_000)
    rest = np.full(10_000, 0.1)
    values = np.stack([sine, noise, shocks, rest], axis=1).astype(np.float32)
    config = statistics.Config(features=["kurtosis"])
    found = transformed(statistics.open(config, window_spec(sensor(4), values.shape)), values)[0]
    assert found[0] == pytest.approx(1.5, rel=1e-3)
    assert found[1] == pytest.approx(3.0, abs=0.15)
    assert found[2] > 50
    assert found[3] == 0


def test_a_broken_channel_leaves_the_others_their_statistics() -> None:
    values = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    values[3, 0] = np.nan
    found = transformed(statistics.open(statistics.Config(), window_spec(sensor(2), values.shape)), values)
    assert np.isnan(found[:, 0]).all()
    assert np.isfinite(found[:, 1]).all()


def naive_resize(image: Array, height: int, width: int) -> Array:
    out = np.empty((height, width, image.shape[-1]))
    for y in range(height):
        for x in range(width):
            at_y = min(max((y + 0.5) * image.shape[0] / height - 0.5, 0), image.shape[0] - 1)
            at_x = min(max((x + 0.5) * image.shape[1] / width - 0.5, 0), image.shape[1] - 1)
            top, left = int(at_y), int(at_x)
            bottom, right = min(top + 1, image.shape[0] - 1), min(left + 1, image.shape[1] - 1)
            down, across = at_y - top, at_x - left
            upper = image[top, left] * (1 - across) + image[top, right] * across
            lower = image[bottom, left] * (1 - across) + image[bottom, right] * across
            out[y, x] = upper * (1 - down) + lower * down
    return out


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 12), st.integers(1, 12), st.sampled_from([1, 3]))
def test_resize_is_bilinear_between_pixel_centres(
    old_height: int, old_width: int, height: int, width: int, channels: int
) -> None:
    rng = np.random.default_rng(old_height * 100 + old_width)
    images = rng.integers(0, 256, (2, old_height, old_width, channels)).astype(np.float32)
    height, width = max(height, old_height), max(width, old_width)  # nothing to smooth
    spec = SampleSpec(images.shape[1:], images.dtype)
    found = transformed(
        resize.open(resize.Config(height=height, width=width), window_spec(spec, images.shape)), images
    )
    for image, out in zip(images, found, strict=True):
        np.testing.assert_allclose(out, naive_resize(image.astype(float), height, width), atol=1e-3)


def test_an_image_of_the_right_size_stays_as_it_is() -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 7, 5, 3), np.uint8)
    spec = SampleSpec(image.shape[1:], image.dtype)
    np.testing.assert_array_equal(
        transformed(resize.open(resize.Config(height=7, width=5), window_spec(spec, image.shape)), image), image
    )


@pytest.mark.parametrize("mean", [math.nan, math.inf, 1e300, [0.0, -1e39]])
def test_normalise_refuses_a_mean_that_float32_cannot_hold(mean: Any) -> None:
    with pytest.raises(ValueError, match="mean must be finite"):
        normalise.Config(mean=mean)
