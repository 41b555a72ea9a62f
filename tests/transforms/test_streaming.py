"""However a stream is cut into overlapping windows, each sample is transformed once, as in one long window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limpet import plugins
from limpet.contracts.data import Array, SampleSpec
from support.golden import arrays
from support.stages import transformed, window_spec

if TYPE_CHECKING:
    from limpet.contracts.stage import Stage

SOUND = arrays("sounds")["sound"]
SIGNAL = arrays("sounds")["signal"]
SOS = [[0.02, 0.04, 0.02, 1.0, -1.56, 0.64], [1.0, -2.0, 1.0, 1.0, -1.8, 0.85]]


def opened(kind: str, options: dict[str, Any], values: Array, rate: float, hop: int) -> Stage:
    module = plugins.load("transforms", kind)
    spec = SampleSpec(values.shape[1:], values.dtype, rate=rate)
    stage: Stage = module.open(msgspec.convert(options, module.Config), window_spec(spec, values.shape, hop))
    return stage


def streamed(stage: Stage, values: Array, size: int, hop: int) -> Array:
    """Return all rows of the first window, and those of the others that are new."""
    rows = []
    for begin in range(0, len(values) - size + 1, hop):
        found = transformed(stage, values[begin : begin + size])
        rows.append(np.array(found if not rows else found[len(found) - (stage.spec.hop or 0) :]))
    return np.concatenate(rows)


@pytest.mark.parametrize(
    ("kind", "options", "unit"),
    [
        ("filter", {"sos": SOS}, 1),
        ("filter", {"sos": SOS, "start": "first"}, 1),
        ("filter", {"taps": [0.1, 0.2, 0.4, 0.2, 0.1], "start": "first"}, 1),
        ("rolling", {"samples": 40}, 1),
        ("rolling", {"samples": 3, "features": ["kurtosis", "min"]}, 1),
        ("resample", {"rate": 62.5}, 8),
        ("resample", {"rate": 250}, 2),
        ("gain", {"mode": "auto", "level": 2.0, "attack": 0.1, "release": 0.3}, 1),
    ],
)
@settings(max_examples=20)
@given(data=st.data())
def test_a_signal_may_be_cut_anyhow(kind: str, options: dict[str, Any], unit: int, data: st.DataObject) -> None:
    size = unit * data.draw(st.integers(1, len(SIGNAL) // 2 // unit), "size")
    hop = unit * data.draw(st.integers(max(1, size // unit // 8), size // unit), "hop")
    length = size + (len(SIGNAL) - size) // hop * hop
    whole = transformed(opened(kind, options, SIGNAL[:length], 100.0, length), SIGNAL[:length])
    found = streamed(opened(kind, options, SIGNAL[:size], 100.0, hop), SIGNAL, size, hop)
    np.testing.assert_allclose(found, whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "options", "step"),
    [
        ("micro_frontend", {}, 160),
        ("spectrogram", {"like": "tensorflow", "frame": 400, "hop": 160}, 160),
        ("log_mel", {"like": "yamnet"}, 160),
        ("log_mel", {"like": "kaldi"}, 160),
        ("log_mel", {"fft": 512, "hop": 200, "pad": "none", "top_db": 0}, 200),
        ("mfcc", {"like": "tensorflow", "frame": 400, "hop": 320}, 320),
    ],
)
@settings(max_examples=10)
@given(data=st.data())
def test_sound_may_be_cut_in_whole_steps(
    kind: str, options: dict[str, Any], step: int, data: st.DataObject
) -> None:
    size = data.draw(st.integers(1000, 8000), "size")
    most = (size - 512) // step  # Windows overlap by a frame at least, so that no frame falls between two.
    hop = step * data.draw(st.integers(max(1, most // 8), most), "hop")
    length = size + (len(SOUND) - size) // hop * hop
    whole = transformed(opened(kind, options, SOUND[:length], 16_000.0, step), SOUND[:length])
    found = streamed(opened(kind, options, SOUND[:size], 16_000.0, hop), SOUND, size, hop)
    np.testing.assert_allclose(found, whole[: len(found)], rtol=1e-4, atol=2e-4)
    assert len(whole) - len(found) <= 1


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("log_mel", {"like": "yamnet"}),
        ("log_mel", {"fft": 512, "hop": 160, "pad": "none", "reference": "max"}),
        ("log_mel", {"fft": 512, "hop": 160}),
        ("mfcc", {"fft": 512, "hop": 160, "pad": "none"}),
        ("mfcc", {"like": "python_speech_features"}),
    ],
)
@pytest.mark.parametrize("hop", [160, 1000, 1600, 2000, 4000])
def test_frames_that_are_kept_are_those_that_a_window_alone_has(
    kind: str, options: dict[str, Any], hop: int
) -> None:
    size = 2000
    going = opened(kind, options, SOUND[:size], 16_000.0, hop)
    for begin in range(0, len(SOUND) - size + 1, hop):
        window = SOUND[begin : begin + size]
        alone = transformed(opened(kind, options, window, 16_000.0, hop), window)
        np.testing.assert_allclose(transformed(going, window), alone, rtol=1e-5, atol=1e-4)


def test_the_micro_frontend_takes_real_numbers_as_the_int16_that_they_are() -> None:
    integers = arrays("sounds")["int16"]
    real = opened("micro_frontend", {}, SOUND, 16_000.0, len(SOUND))
    stage = opened("micro_frontend", {}, integers, 16_000.0, len(SOUND))
    np.testing.assert_array_equal(transformed(real, SOUND), transformed(stage, integers))


def test_the_micro_frontend_forgets_the_noise_at_a_reset() -> None:
    stage = opened("micro_frontend", {}, SOUND[:8000], 16_000.0, 8000)
    first = transformed(stage, SOUND[:8000]).copy()
    assert np.abs(transformed(stage, SOUND[:8000]) - first).max() > 1
    stage.reset()
    np.testing.assert_array_equal(transformed(stage, SOUND[:8000]), first)


def test_a_filter_that_starts_with_the_first_sample_rests_there() -> None:
    steady = np.full((64, 2), 9.81, np.float32)
    for options in ({"sos": [SOS[0]]}, {"taps": [0.5, 0.25, 0.25]}):
        stage = opened("filter", {**options, "start": "first"}, steady, 100.0, 64)
        found = transformed(stage, steady)
        np.testing.assert_allclose(found, np.broadcast_to(found[-1], found.shape), rtol=1e-5)


def test_automatic_gain_is_its_formula() -> None:
    values = SIGNAL[:, :1].astype(np.float64)
    level, power, gain, wanted = 0.5, None, 1.0, []
    before = 1.0
    for sample in values[:, 0]:  # At 100 samples a second, each is a step of 10 ms.
        before = gain
        square = sample * sample
        if power is None:
            power = square
        else:
            power += (square - power) * (1 - np.exp(-0.01 / (0.02 if square > power else 0.5)))
        wanted.append(sample * before)
        gain = min(level / np.sqrt(power), 100.0)
    found = transformed(opened("gain", {"mode": "auto", "level": level}, values, 100.0, len(values)), values)
    np.testing.assert_allclose(found[:, 0], wanted, rtol=1e-5)


def test_a_window_gets_the_gain_that_gives_it_the_level() -> None:
    found = transformed(opened("gain", {"mode": "peak", "level": 0.9}, SOUND, 16_000.0, 1), SOUND)
    assert np.abs(found).max() == pytest.approx(0.9, rel=1e-5)
    found = transformed(opened("gain", {"mode": "rms", "level": 0.1}, SOUND, 16_000.0, 1), SOUND)
    assert np.sqrt(np.mean(found.astype(float) ** 2)) == pytest.approx(0.1, rel=1e-5)
    silence = np.zeros(100, np.float32)
    for mode in ("peak", "rms", "auto"):
        stage = opened("gain", {"mode": mode}, silence, 16_000.0, 100)
        np.testing.assert_array_equal(transformed(stage, silence), silence)


def test_rolling_features_are_those_of_the_last_samples() -> None:
    features = ["mean", "std", "min", "max", "rms"]
    stage = opened("rolling", {"samples": 7, "features": features}, SIGNAL, 100.0, len(SIGNAL))
    found = transformed(stage, SIGNAL).reshape(len(SIGNAL), len(features), 3)
    for at in (0, 3, 6, 7, 250, 499):
        last = SIGNAL[max(0, at - 6) : at + 1].astype(np.float64)
        wanted = [last.mean(0), last.std(0), last.min(0), last.max(0), np.sqrt((last**2).mean(0))]
        np.testing.assert_allclose(found[at], wanted, rtol=1e-5, atol=1e-6)


def test_transforms_with_memory_stand_behind_each_other() -> None:
    sound = np.repeat(SOUND, 3)[:48_000]  # as of a microphone at 48 kHz

    def chain(size: int, hop: int) -> list[Stage]:
        stages: list[Stage] = []
        spec = window_spec(SampleSpec((), sound.dtype, rate=48_000.0), (size,), hop)
        for kind, options in (
            ("resample", {"rate": 16_000}),
            ("gain", {"mode": "auto", "level": 0.1, "most": 10}),
            ("micro_frontend", {}),
        ):
            module = plugins.load("transforms", kind)
            stages.append(module.open(msgspec.convert(options, module.Config), spec))
            spec = stages[-1].spec
        return stages

    def passed(stages: list[Stage], values: Array) -> Array:
        for stage in stages:
            values = transformed(stage, values)
        return np.array(values)

    whole = passed(chain(48_000, 48_000), sound)
    stages = chain(2400, 1440)
    assert (stages[-1].spec.shape, stages[-1].spec.hop, stages[-1].spec.rate) == ((3, 40), 3, 100.0)
    found = [passed(stages, sound[begin : begin + 2400]) for begin in range(0, 48_000 - 2399, 1440)]
    rows = np.concatenate(found)
    # A float32 beside the middle of two integers may be rounded to the other one: one step of int16.
    np.testing.assert_allclose(rows, whole[: len(rows)], atol=0.5)
    assert np.mean(rows == whole[: len(rows)]) > 0.9
