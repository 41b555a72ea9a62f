"""Features of windows: their names, their values, and that a block gives the same as one window at a time."""

from __future__ import annotations

import numpy as np
import pytest

from limpet.contracts.stage import Spec
from limpet.inference.projection import Projection
from limpet.inference.window_features import MOST, features_of


def spec(
    shape: tuple[int, ...], rate: float | None = 50.0, channels: tuple[str, ...] = (), dtype: str = "f4"
) -> Spec:
    return Spec(shape=shape, dtype=np.dtype(dtype), rate=rate, channels=channels)


def table(features: object, numbers: np.ndarray) -> dict[str, float]:
    names = [feature.name for feature in features.features]  # type: ignore[attr-defined]
    return dict(zip(names, numbers.tolist(), strict=True))


def test_a_sensors_features_are_those_that_numpy_computes_for_each_channel() -> None:
    random = np.random.default_rng(1)
    window = random.normal([1, 100], [0.5, 3], (64, 2)).astype(np.float32)
    window[10:20, 0] = window[10, 0]
    features = features_of(spec((64, 2), channels=("x", "y")), units=("g", "°C"))
    (found,) = features.of(window[np.newaxis])
    numbers = table(features, found)
    for n, channel in enumerate(("x", "y")):
        column = window[:, n].astype(np.float64)
        assert numbers[f"{channel}.mean"] == pytest.approx(column.mean(), rel=1e-5)
        assert numbers[f"{channel}.spread"] == pytest.approx(column.std(), rel=1e-4)
        assert numbers[f"{channel}.largest"] == pytest.approx(column.max())
        assert numbers[f"{channel}.least"] == pytest.approx(column.min())
        assert numbers[f"{channel}.step"] == pytest.approx(np.abs(np.diff(column)).mean(), rel=1e-5)
        assert numbers[f"{channel}.limits"] == pytest.approx(2 / 64)
    assert numbers["x.repeated"] == pytest.approx(9 / 63)
    assert numbers["y.repeated"] == 0
    units = {feature.name: feature.unit for feature in features.features}
    assert (units["x.mean"], units["y.spread"], units["y.repeated"]) == ("g", "°C", "")


def test_a_tone_has_the_level_the_peak_and_the_crossings_that_theory_gives() -> None:
    times = np.arange(16_000) / 16_000
    window = (0.5 * np.sin(2 * np.pi * 1037 * times + 0.1)).astype(np.float32)[:, np.newaxis]
    features = features_of(spec((16_000, 1), rate=16_000.0))
    assert features.picked == (8, 64, 1)
    numbers = table(features, features.of(window[np.newaxis])[0])
    assert numbers["channel 0.level"] == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=0.05)
    assert numbers["channel 0.peak"] == pytest.approx(0.5, abs=0.01)
    assert numbers["channel 0.crossings"] == pytest.approx(2 * 1037 / 16_000, abs=0.01)
    whole = features_of(spec((16_000, 1), rate=16_000.0, dtype="i2"))
    of_integers = table(whole, whole.of(np.round(window * 32768).astype(np.int16)[np.newaxis])[0])
    assert of_integers["channel 0.level"] == pytest.approx(numbers["channel 0.level"], abs=0.01)
    silent = table(features, features.of(np.zeros((1, 16_000, 1), np.float32))[0])
    assert silent["channel 0.level"] == pytest.approx(-120)
    assert silent["channel 0.repeated"] == 1


def test_a_pictures_features_tell_light_colour_and_blur_apart() -> None:
    random = np.random.default_rng(2)
    features = features_of(spec((1, 97, 131, 3), None, dtype="u1"), model_input=(1, 97, 131, 3))
    picture = random.uniform(0.2, 0.8, (97, 131, 3)).astype(np.float32)
    numbers = table(features, features.of(picture[np.newaxis])[0])
    brighter = table(features, features.of((picture + 0.1)[np.newaxis])[0])
    red = picture.copy()
    red[..., 0] += 0.1
    reddish = table(features, features.of(red[np.newaxis])[0])
    blurred = (picture + np.roll(picture, 1, 1) + np.roll(picture, -1, 1)) / 3
    soft = table(features, features.of(blurred[np.newaxis])[0])
    assert numbers["brightness"] == pytest.approx(picture.mean(), abs=0.03)
    assert brighter["brightness"] - numbers["brightness"] == pytest.approx(0.1, abs=1e-5)
    assert reddish["red"] - numbers["red"] == pytest.approx(0.1, abs=1e-5)
    assert reddish["green"] == numbers["green"]
    assert soft["sharpness"] < 0.7 * numbers["sharpness"]


@pytest.mark.parametrize(
    ("shape", "rate"),
    [
        ((1, 9), 10.0),
        ((128, 6), 50.0),
        ((2000, 3), 100.0),
        ((16_000, 1), 16_000.0),
        ((5, 300), 1.0),
        ((40, 8, 2), 1.0),
    ],
)
def test_a_block_gives_what_each_window_gives_alone(shape: tuple[int, ...], rate: float) -> None:
    windows = np.random.default_rng(3).normal(0, 1, (5, *shape)).astype(np.float32)
    features = features_of(spec(shape, rate))
    together = features.of(windows)
    alone = np.concatenate([features.of(window[np.newaxis]) for window in windows])
    np.testing.assert_allclose(together, alone, rtol=1e-5)
    assert together.shape == (5, len(features.features))
    assert len({feature.name for feature in features.features}) == len(features.features) <= MOST
    assert features.pick(windows[0]).shape == features.picked


def test_huge_samples_give_finite_features() -> None:
    features = features_of(spec((8, 1)))
    assert np.isfinite(features.of(np.full((1, 8, 1), 3e38, np.float32))).all()


def test_a_projection_is_the_same_everywhere_and_keeps_distances_in_the_mean() -> None:
    rows = np.random.default_rng(4).normal(0, 1, (300, 1000)).astype(np.float32)
    projected = Projection(7, 1000)(rows)
    assert projected.shape == (300, 32)
    np.testing.assert_allclose(
        (projected[1:] - projected[:-1])[0, :3],
        (Projection(7, 1000)(rows[1:] - rows[:-1]))[0, :3],
        rtol=1e-4,
        atol=1e-4,
    )
    kept = np.mean(np.square(projected).sum(axis=1)) / np.mean(np.square(rows).sum(axis=1))
    assert kept == pytest.approx(1, abs=0.1)
    np.testing.assert_array_equal(Projection(7, 9)(rows[:, :9]), rows[:, :9])
    first = Projection(7, 40)(np.eye(40, dtype=np.float32))
    assert [int(place) for place in np.abs(first).argmax(axis=1)[32:]] == [20, 21, 7, 20, 27, 28, 27, 22]
    with pytest.raises(ValueError, match="not rows of 1000"):
        Projection(7, 1000)(rows[:, :9])
