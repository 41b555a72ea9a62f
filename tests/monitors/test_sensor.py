"""Faults of a sensor have their names, and end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from observations import SECOND, blocks, feature

from limpet.contracts.monitor import Observed
from limpet.contracts.reference import Reference
from limpet.contracts.stage import Spec
from limpet.inference.window_features import features_of
from limpet.monitors import sensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from limpet.contracts.data import Array
    from limpet.contracts.monitor import Alarm

SIZE = 32
INTERVAL = SECOND // 10
FEATURES = features_of(
    Spec(shape=(SIZE, 2), dtype=np.dtype(np.float32), rate=50.0, channels=("x", "y")), ("m/s²", "m/s²")
)


def samples(seed: int, count: int) -> Array:
    """Return windows ``(count, SIZE, 2)`` of an accelerometer: gravity and motion in steps of 0.01."""
    motion = np.random.default_rng(seed).normal([9.8, 0.0], [1.0, 2.0], (count, SIZE, 2))
    return motion.round(2).astype(np.float32)


def observed(windows: Array, interval_ns: int = INTERVAL, start_ns: int = 0) -> Observed:
    count = len(windows)
    return Observed(
        features=FEATURES.of(windows),
        scores=np.full(count, np.nan, np.float32),
        classes=np.full(count, -1, np.int32),
        embeddings=None,
        times_ns=start_ns + np.arange(count, dtype=np.int64) * interval_ns,
    )


def made_reference() -> tuple[Reference, Observed]:
    seen = observed(samples(1, 2000))
    features = [
        msgspec.structs.replace(feature(one.name, column), channel=one.channel, unit=one.unit)
        for one, column in zip(FEATURES.features, seen.features.T, strict=True)
    ]
    return Reference(windows=2000, rate=10.0, features=features), seen


REFERENCE, SEEN = made_reference()
THRESHOLDS = sensor.calibrate(sensor.Config(), SEEN, REFERENCE, 1e-8)


def watch(*streams: Observed) -> list[Alarm | None]:
    """Return the alarm after each stream."""
    monitor = sensor.open(sensor.Config(), REFERENCE, THRESHOLDS)
    found = []
    for stream in streams:
        for block in blocks(stream, 64):
            alarm = monitor.see(block)
        found.append(alarm)
    return found


def stuck(windows: Array) -> None:
    windows[:, :, 0] = 9.81


def dropped_out(windows: Array) -> None:
    windows[:, :, 1] = 0


def saturated(windows: Array) -> None:
    windows[:, :, 1] = np.clip(windows[:, :, 1], -1, 1)


def in_g(windows: Array) -> None:
    windows /= 9.80665


@pytest.mark.parametrize(
    ("fault", "spoil", "moved"),
    [
        ("stuck", stuck, ["x.mean"]),
        ("drop_out", dropped_out, ["y.mean"]),
        ("saturated", saturated, ["y.limits"]),
        ("unit", in_g, ["x.mean", "y.mean"]),
    ],
)
def test_a_fault_of_the_samples_is_named_and_ends(
    fault: str, spoil: Callable[[Array], None], moved: list[str]
) -> None:
    windows = samples(2, 1000)
    spoil(windows[200:])
    good, bad, again = watch(
        observed(windows[:200]),
        observed(windows[200:], start_ns=200 * INTERVAL),
        observed(samples(3, 600), start_ns=1000 * INTERVAL),
    )
    assert good is None
    assert bad is not None
    assert bad.fault == fault
    assert [one.name for one in bad.moved] == moved
    assert 128 * INTERVAL < bad.since_ns < 300 * INTERVAL
    assert 0 < bad.p_value < 1e-8
    assert again is None


def test_a_run_that_is_too_short_is_no_fault() -> None:
    windows = samples(4, 600)
    for start in range(0, 600, 30):
        stuck(windows[start : start + 12])
    assert watch(observed(windows)) == [None]


def test_a_channel_that_is_often_still_in_the_reference_is_not_stuck() -> None:
    windows = samples(5, 2000)
    for start in range(0, 2000, 100):
        stuck(windows[start : start + 60])
    seen = observed(windows)
    thresholds = sensor.calibrate(sensor.Config(), seen, REFERENCE, 1e-8)
    monitor = sensor.open(sensor.Config(), REFERENCE, thresholds)
    assert monitor.see(observed(windows[:60])) is None


def test_another_rate_is_named() -> None:
    found = watch(
        observed(samples(6, 1100)), observed(samples(7, 1100), interval_ns=2 * INTERVAL, start_ns=1100 * INTERVAL)
    )
    assert found[0] is None
    assert found[1] is not None
    assert found[1].fault == "rate"
    assert found[1].moved[0].before == pytest.approx(0.1)
    assert found[1].moved[0].now == pytest.approx(0.2)


def test_a_clock_that_drifts_is_named() -> None:
    first, second = observed(samples(8, 4200)), observed(samples(8, 9000), interval_ns=INTERVAL * 103 // 100)
    second.times_ns += 4200 * INTERVAL
    found = watch(first, second)
    assert found[0] is None
    assert found[1] is not None
    assert found[1].fault == "clock"


def test_time_that_steps_back_is_a_fault_of_the_clock() -> None:
    stream = observed(samples(9, 600))
    stream.times_ns[[100, 200, 300]] -= 5 * SECOND
    (alarm,) = watch(stream)
    assert alarm is not None
    assert alarm.fault == "clock"


def test_windows_that_are_missing_are_a_drop_out() -> None:
    stream = observed(samples(10, 1100))
    stream.times_ns = np.cumsum(np.where(np.arange(1100) % 3 == 0, 2, 1) * INTERVAL)
    (alarm,) = watch(stream)
    assert alarm is not None
    assert alarm.fault == "drop_out"


@pytest.mark.parametrize("burst", [2, 3, 4, 10])
def test_windows_that_come_in_bursts_are_no_fault(burst: int) -> None:
    """A busy machine reads several windows at once. None is missing, and the rate is as it was."""
    stream = observed(samples(13, 10_000))
    places = np.arange(10_000)
    quiet = (places // 2000) % 2 == 0  # so that the bursts come and go
    bursts = (places // burst) * burst * INTERVAL + (places % burst) * (INTERVAL // 20)
    stream.times_ns = np.where(quiet, places * INTERVAL, bursts)
    assert not any(watch(*blocks(stream, 100)))


def test_one_long_stall_is_no_other_rate() -> None:
    stream = observed(samples(14, 1100))
    stream.times_ns[300:] += 300 * SECOND
    assert watch(stream) == [None]


def test_windows_that_the_host_left_out_are_none() -> None:
    monitor = sensor.open(sensor.Config(), REFERENCE, THRESHOLDS)
    stream = observed(samples(11, 600))
    stream.times_ns += np.arange(600) // 2 * INTERVAL
    for block in blocks(stream, 2):
        block.gap = True
        assert monitor.see(block) is None


def test_a_mean_that_moves_is_no_fault_of_the_sensor() -> None:
    windows = samples(12, 1000)
    windows += np.float32(3.0)
    assert watch(observed(windows)) == [None]
