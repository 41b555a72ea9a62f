"""What holds for every transform. A new one adds its cases here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from limpet import plugins
from limpet.contracts.data import Array, Cut, SampleSpec
from limpet.contracts.transform import Abilities
from support.memory import keeps_no_memory_of_others
from support.stages import transformed, window, window_spec

if TYPE_CHECKING:
    from limpet.contracts.stage import Stage

VIBRATION = SampleSpec((3,), np.dtype(np.float32), ("x", "y", "z"), rate=100.0)
CAMERA = SampleSpec((8, 12, 3), np.dtype(np.uint8), rate=30.0)
MICROPHONE = SampleSpec((), np.dtype(np.int16), rate=16_000.0)
SPEECH = SampleSpec((1,), np.dtype(np.float32), ("sound",), rate=16_000.0)
UNSTEADY = SampleSpec((3,), np.dtype(np.float64))


@dataclass(frozen=True)
class Case:
    """A transform that can be opened and, with ``refusal``, one that cannot be.

    ``memory``: it goes on from window to window.
    """

    kind: str
    options: dict[str, Any]
    spec: SampleSpec
    shape: tuple[int, ...]
    refusal: str = ""
    hop: int | None = None
    memory: bool = False

    def open(self) -> Stage:
        module = plugins.load("transforms", self.kind)
        config = msgspec.convert(self.options, module.Config)
        transform: Stage = module.open(config, window_spec(self.spec, self.shape, self.hop))
        return transform

    @property
    def abilities(self) -> Abilities:
        return plugins.abilities(plugins.load("transforms", self.kind), Abilities)

    def values(self, seed: int = 0) -> Array:
        shape = [16 if size == -1 else size for size in self.shape]
        return np.random.default_rng(seed).uniform(0, 100, shape).astype(self.spec.dtype)


WORKING = [
    Case("normalise", {"mean": 3, "std": 2.5}, VIBRATION, (16, 3)),
    Case("normalise", {"mean": [1, 2, 3], "std": [1, 2, 3], "clip": 2}, VIBRATION, (1, 3)),
    Case("normalise", {"mean": [1, 2, 3]}, UNSTEADY, (-1, 3)),
    Case("normalise", {"mean": [127.5] * 3, "std": 127.5}, CAMERA, (1, 8, 12, 3)),
    Case("normalise", {"mean": list(range(16)), "std": 2}, VIBRATION, (16, 3)),
    Case("normalise", {"mean": [[n, n + 1, n + 2] for n in range(16)]}, VIBRATION, (16, 3)),
    Case("normalise", {"std": [1 + n / 10 for n in range(48)]}, VIBRATION, (16, 3)),
    Case("normalise", {"mean": list(range(288))}, CAMERA, (1, 8, 12, 3)),
    Case("spectrum", {"bands": 4}, VIBRATION, (16, 3)),
    Case("spectrum", {"bands": [5, 20.5, 40], "window": "none", "log": True}, VIBRATION, (25, 3)),
    Case("spectrum", {"bands": 8}, MICROPHONE, (256,)),
    Case("statistics", {}, VIBRATION, (16, 3)),
    Case("statistics", {"features": ["kurtosis", "min"]}, UNSTEADY, (-1, 3)),
    Case("statistics", {"features": ["rms"]}, MICROPHONE, (256,)),
    Case("resize", {"height": 5, "width": 20}, CAMERA, (1, 8, 12, 3)),
    Case("resize", {"height": 4, "width": 6}, CAMERA, (2, 8, 12, 3)),
    Case("resize", {"height": 4, "width": 6, "method": "bicubic"}, CAMERA, (-1, 8, 12, 3)),
    Case("letterbox", {"height": 16, "width": 16}, CAMERA, (1, 8, 12, 3)),
    Case("letterbox", {"height": 7, "width": 9, "align": "top_left"}, CAMERA, (2, 8, 12, 3)),
    Case("crop", {"height": 4, "width": 4}, CAMERA, (1, 8, 12, 3)),
    Case("crop", {"square": True}, CAMERA, (1, 8, 12, 3)),
    Case("colour", {"to": "bgr"}, CAMERA, (1, 8, 12, 3)),
    Case("colour", {"to": "grey"}, CAMERA, (2, 8, 12, 3)),
    Case("normalise", {"mean": list(range(40)), "std": 2}, SampleSpec((40,), np.dtype(np.float32)), (98, 40)),
    Case("normalise", {"mean": list(range(40))}, VIBRATION, (98, 40, 3)),  # one for each band of 3 channels
    Case("spectrogram", {"fft": 256}, MICROPHONE, (1000,)),
    Case("spectrogram", {"like": "tensorflow", "frame": 8, "hop": 4}, VIBRATION, (32, 3), hop=8, memory=True),
    Case("spectrogram", {"like": "yamnet", "scale": "db", "least": 1e-5}, SPEECH, (800, 1)),
    Case("log_mel", {"fft": 512, "bands": 20}, SPEECH, (1600, 1)),
    Case("log_mel", {"like": "yamnet"}, MICROPHONE, (1600,), hop=800, memory=True),
    Case("log_mel", {"like": "kaldi", "bands": 40}, MICROPHONE, (1600,), hop=160, memory=True),
    Case("mfcc", {"fft": 512, "bands": 20, "pad": "reflect"}, SPEECH, (1600, 1)),
    Case("mfcc", {"like": "tensorflow", "frame": 400, "hop": 200}, MICROPHONE, (1600,), hop=400, memory=True),
    Case("mfcc", {"like": "python_speech_features", "energy": False}, MICROPHONE, (1700,)),
    Case("micro_frontend", {}, MICROPHONE, (800,), hop=480, memory=True),
    Case("micro_frontend", {}, SPEECH, (1601, 1), hop=160, memory=True),
    Case("mfcc", {"like": "python_speech_features"}, VIBRATION, (100, 3)),  # frames of 2 samples
    Case("gain", {"mode": "peak"}, VIBRATION, (16, 3)),
    Case("gain", {"mode": "rms", "level": 0.1}, UNSTEADY, (-1, 3)),
    Case("gain", {"mode": "auto", "level": 0.1}, MICROPHONE, (1000,), hop=300, memory=True),
    Case("filter", {"sos": [[0.2, 0.4, 0.2, 1, -0.4, 0.2]] * 2}, VIBRATION, (200, 3), hop=50, memory=True),
    Case("filter", {"taps": [0.25, 0.5, 0.25], "start": "first"}, MICROPHONE, (16,), memory=True),
    Case("detrend", {}, VIBRATION, (16, 3)),
    Case("detrend", {"type": "constant"}, UNSTEADY, (-1, 3)),
    Case("rolling", {"samples": 5}, VIBRATION, (16, 3), hop=4, memory=True),
    Case("rolling", {"samples": 30, "features": ["crest", "mean"]}, MICROPHONE, (16,), memory=True),
    Case("resample", {"rate": 50}, VIBRATION, (16, 3), hop=4, memory=True),
    Case("resample", {"rate": 160, "per_window": True}, VIBRATION, (15, 3)),
    Case("resample", {"rate": 8000, "like": "soxr"}, MICROPHONE, (1600,)),
]

REFUSED = [
    Case("normalise", {"mean": [1, 2]}, VIBRATION, (16, 3), "mean has 2 numbers for the 3 channels"),
    Case("normalise", {"std": [1] * 9}, VIBRATION, (16, 3), "std has 9 numbers for the 3 channels"),
    Case("normalise", {"mean": [1, 2]}, VIBRATION, (16, 3), "or a list of 3 or 16 or 48"),
    Case("normalise", {"mean": [[1, 2]] * 16}, VIBRATION, (16, 3), "rows do not fit"),
    Case("normalise", {"mean": [[1, 2, 3], [1]]}, VIBRATION, (2, 3), "rows do not fit"),
    Case("normalise", {"mean": [[1, 2, 3], 1]}, VIBRATION, (2, 3), "rows do not fit"),
    Case("normalise", {"mean": [1] * 16}, UNSTEADY, (-1, 3), "16 numbers for the 3 channels"),
    Case("normalise", {"std": [[1], [0]]}, VIBRATION, (2, 3), "std must be above 0"),
    Case("normalise", {"std": [1, 0, 1]}, VIBRATION, (16, 3), "std must be above 0"),
    Case("normalise", {"mean": float("nan")}, VIBRATION, (16, 3), "mean must be finite"),
    Case("normalise", {"mean": [], "std": []}, VIBRATION, (16, 3), "0 numbers"),
    Case("normalise", {"clip": -1}, VIBRATION, (16, 3), "clip"),
    Case("spectrum", {"bands": 4}, UNSTEADY, (16, 3), "steady rate"),
    Case("spectrum", {"bands": 4}, VIBRATION, (-1, 3), "2 samples or more"),
    Case("spectrum", {"bands": 4}, VIBRATION, (1, 3), "2 samples or more"),
    Case("spectrum", {"bands": 4}, CAMERA, (1, 8, 12, 3), "samples, channels"),
    Case("spectrum", {"bands": [0, 60]}, VIBRATION, (16, 3), "60 Hz, is above 50 Hz"),
    Case("spectrum", {"bands": [0, 20, 10]}, VIBRATION, (16, 3), "rising edges"),
    Case("spectrum", {"bands": [20]}, VIBRATION, (16, 3), "bands"),
    Case("spectrum", {"bands": [0, 20, 22, 40]}, VIBRATION, (16, 3), "no frequency is in .* 20 to 22 Hz"),
    Case("spectrum", {"bands": 100}, VIBRATION, (16, 3), "no frequency is in"),
    Case("spectrum", {"bands": 4, "window": "flattop"}, VIBRATION, (16, 3), "window"),
    Case("spectrum", {}, VIBRATION, (16, 3), "bands"),
    Case("statistics", {}, CAMERA, (1, 8, 12, 3), "samples, channels"),
    Case("statistics", {"features": []}, VIBRATION, (16, 3), "features"),
    Case("statistics", {"features": ["median"]}, VIBRATION, (16, 3), "features"),
    Case("statistics", {"features": ["min", "min"]}, VIBRATION, (16, 3), "twice"),
    Case("resize", {"height": 5, "width": 20}, VIBRATION, (16, 3), "takes pictures"),
    Case("resize", {"height": 0, "width": 20}, CAMERA, (1, 8, 12, 3), "height"),
    Case("resize", {"height": 5}, CAMERA, (1, 8, 12, 3), "width"),
    Case("resize", {"height": 5, "width": 1 << 20}, CAMERA, (1, 8, 12, 3), "width"),
    Case("resize", {"height": 1 << 13, "width": 1 << 13}, CAMERA, (1, 8, 12, 3), "8192x8192 have more than"),
    Case(
        "resize", {"height": 5, "width": 5, "like": "pillow", "antialias": False}, CAMERA, (1, 8, 12, 3), "smooths"
    ),
    Case("letterbox", {"height": 5, "width": 20}, VIBRATION, (16, 3), "takes pictures"),
    Case("letterbox", {"height": 5, "width": 20, "fill": 256}, CAMERA, (1, 8, 12, 3), "fill"),
    Case("crop", {"height": 9, "width": 4}, CAMERA, (1, 8, 12, 3), "4x9 is larger than its picture of 12x8"),
    Case("crop", {"height": 9}, CAMERA, (1, 8, 12, 3), "either width and height, or share or square"),
    Case("crop", {"height": 4, "width": 4, "share": 0.5}, CAMERA, (1, 8, 12, 3), "either width and height"),
    Case("crop", {}, CAMERA, (1, 8, 12, 3), "either width and height"),
    Case("colour", {"to": "grey"}, CAMERA, (1, 8, 12, 4), "3 channels"),
    Case("colour", {"to": "grey"}, VIBRATION, (16, 3), "takes pictures"),
    Case("spectrogram", {}, UNSTEADY, (4000, 3), "steady rate"),
    Case("spectrogram", {}, CAMERA, (1, 8, 12, 3), "samples, channels"),
    Case("spectrogram", {"pad": "none"}, SPEECH, (1000, 1), "2048 samples or more, the length of a frame"),
    Case("spectrogram", {"pad": "reflect"}, SPEECH, (1000, 1), "above 1024 samples"),
    Case("spectrogram", {"like": "tensorflow"}, SPEECH, (1000, 1), "needs frame and hop"),
    Case("spectrogram", {"fft": 256, "frame": 400}, SPEECH, (1000, 1), "at least the frame"),
    Case("spectrogram", {"top_db": 80}, SPEECH, (1000, 1), "top_db and reference are for"),
    Case("log_mel", {"like": "yamnet"}, VIBRATION, (1000, 3), "YAMNet takes 16000"),
    Case("log_mel", {"like": "kaldi"}, UNSTEADY, (1000, 3), "steady rate"),
    Case("log_mel", {"like": "tensorflow", "frame": 8, "hop": 4}, VIBRATION, (1000, 3), "high is 3800 Hz"),
    Case("log_mel", {"low": 60}, VIBRATION, (1000, 3), "must be below high"),
    Case("log_mel", {"like": "kaldi", "mel": "htk"}, SPEECH, (1000, 1), "mel and norm"),
    Case("log_mel", {"like": "yamnet", "pad": "none"}, SPEECH, (300, 1), "400 samples or more"),
    Case("mfcc", {"coefficients": 30, "bands": 20}, SPEECH, (1000, 1), "30 coefficients of 20 bands"),
    Case("mfcc", {"like": "python_speech_features", "scale": "db"}, SPEECH, (1000, 1), "has no scale"),
    Case("mfcc", {"like": "yamnet"}, SPEECH, (1000, 1), "yamnet"),
    Case("micro_frontend", {}, VIBRATION, (1000, 3), "one channel"),
    Case("micro_frontend", {}, SampleSpec((), np.dtype(np.int16), rate=8000.0), (1000,), "16000 samples a second"),
    Case("micro_frontend", {}, SampleSpec((), np.dtype(np.int16)), (1000,), "steady rate"),
    Case("micro_frontend", {}, MICROPHONE, (400,), "480 samples or more"),
    Case("micro_frontend", {}, MICROPHONE, (800,), "multiple, not 500", hop=500),
    Case("micro_frontend", {}, MICROPHONE, (800,), "leave samples out", hop=1600),
    Case("gain", {"mode": "auto"}, UNSTEADY, (16, 3), "steady rate"),
    Case("gain", {"mode": "auto"}, VIBRATION, (16, 3), "leave samples out", hop=17),
    Case("gain", {"mode": "peak"}, CAMERA, (1, 8, 12, 3), "samples, channels"),
    Case("gain", {"mode": "loud"}, VIBRATION, (16, 3), "loud"),
    Case("filter", {}, VIBRATION, (16, 3), "either sos or taps"),
    Case("filter", {"taps": [1], "sos": [[1, 0, 0, 1, 0, 0]]}, VIBRATION, (16, 3), "either sos or taps"),
    Case("filter", {"sos": [[1, 0, 0, 1, -1, 0]]}, VIBRATION, (16, 3), r"sos\[0\] is not stable"),
    Case("filter", {"sos": [[1, 0, 0, 0, 0, 0]]}, VIBRATION, (16, 3), r"sos\[0\] is not stable"),
    Case("filter", {"sos": [[1, 0, 0, 1, 0]]}, VIBRATION, (16, 3), "sos"),
    Case("filter", {"taps": [1, float("inf")]}, VIBRATION, (16, 3), "finite"),
    Case("filter", {"taps": [1]}, VIBRATION, (16, 3), "leave samples out", hop=20),
    Case("filter", {"taps": [1]}, UNSTEADY, (-1, 3), "window with a size"),
    Case("filter", {"taps": [1]}, CAMERA, (1, 8, 12, 3), "samples, channels"),
    Case("detrend", {}, CAMERA, (1, 8, 12, 3), "samples, channels"),
    Case("detrend", {}, VIBRATION, (1, 3), "2 samples or more"),
    Case("rolling", {"samples": 0}, VIBRATION, (16, 3), "samples"),
    Case("rolling", {"samples": 3, "features": ["min", "min"]}, VIBRATION, (16, 3), "twice"),
    Case("rolling", {"samples": 4000}, VIBRATION, (4000, 3), "the limit is"),
    Case("mfcc", {"like": "python_speech_features"}, SampleSpec((), np.dtype(np.float32)), (100,), "steady rate"),
    Case("rolling", {"samples": 3}, VIBRATION, (16, 3), "leave samples out", hop=20),
    Case("resample", {"rate": 50}, UNSTEADY, (16, 3), "steady rate"),
    Case("resample", {"rate": 50}, VIBRATION, (15, 3), "use a multiple of 2, such as 16"),
    Case("resample", {"rate": 50}, VIBRATION, (16, 3), "hop of 5; use a multiple of 2", hop=5),
    Case("spectrogram", {"fft": 32768, "hop": 1}, SPEECH, (1 << 16, 1), "too much for one window"),
    Case("log_mel", {"frame": 8, "fft": 8, "hop": 1}, SPEECH, (1 << 20, 1), "too much for one window"),
    Case("mfcc", {"frame": 8, "fft": 8, "hop": 1}, SPEECH, (1 << 20, 1), "too much for one window"),
    Case("spectrogram", {"fft": 256, "hop": 1}, VIBRATION, (1 << 12, 40), "40 channels are too much"),
    Case("filter", {"taps": [1] * 16_384}, SPEECH, (1 << 20, 1), "too much for one window"),
    Case("spectrum", {"bands": 1 << 31}, VIBRATION, (16, 3), "16 samples have 9 frequencies"),
    Case("resample", {"rate": 1_000_000}, VIBRATION, (1000, 3), "the limit is"),
    Case("resample", {"rate": 0.001}, VIBRATION, (16, 3), "no ratio of whole numbers"),
    Case("resample", {"rate": 50}, CAMERA, (1, 8, 12, 3), "samples, channels"),
]


def named(case: Case) -> str:
    return f"{case.kind}-{list(case.options)}-{list(case.shape)}"


working = pytest.mark.parametrize("case", WORKING, ids=named)


def test_every_transform_has_cases() -> None:
    kinds = set(plugins.names("transforms"))
    assert {case.kind for case in WORKING} == kinds
    assert {case.kind for case in REFUSED} == kinds


@working
def test_elementwise_ones_take_many_windows_at_once(case: Case) -> None:
    if not case.abilities.elementwise or -1 in case.shape:
        return
    alone, together = case.open(), replace(case, shape=(5, *case.shape)).open()
    windows = [case.values(seed) for seed in range(5)]
    assert together.spec.shape == (5, *alone.spec.shape)
    expected = np.stack([transformed(alone, window).copy() for window in windows])
    assert np.array_equal(transformed(together, np.stack(windows)), expected)


@pytest.mark.parametrize("case", REFUSED, ids=named)
def test_what_cannot_work_is_refused_with_the_reason(case: Case) -> None:
    with pytest.raises(ValueError, match=case.refusal):
        case.open()


@working
def test_shape_and_dtype_are_as_declared(case: Case) -> None:
    transform = case.open()
    values = case.values()
    out = transformed(transform, values)
    declared = [len(values) if size == -1 else size for size in transform.spec.shape]
    assert list(out.shape) == declared
    assert out.dtype == transform.spec.dtype
    assert out.dtype == (np.uint8 if case.abilities.picture else np.float32)
    assert np.isfinite(out).all()
    assert transform.spec.channels in {(), case.spec.channels} or case.kind == "rolling"
    assert len(transform.spec.channels) in {0, out.shape[-1]}
    assert transform.spec.rate is None or transform.spec.rate > 0
    if (
        transform.spec.hop is not None and case.spec.rate
    ):  # It counts rows of the result: as many seconds as before.
        rate = transform.spec.rate
        assert rate
        assert transform.spec.hop / rate == pytest.approx((case.hop or case.shape[0]) / case.spec.rate)


@working
def test_a_call_depends_on_its_own_input_alone_and_leaves_it_as_it_was(case: Case) -> None:
    if case.memory:
        return
    transform, values = case.open(), case.values()
    first = transformed(transform, values).copy()
    second = transformed(transform, case.values(seed=1)).copy()
    again = transformed(transform, values)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(again, first)
    np.testing.assert_array_equal(values, case.values())


@working
def test_one_buffer_serves_all_calls(case: Case) -> None:
    transform = case.open()
    if -1 not in transform.spec.shape:
        assert transformed(transform, case.values()) is transformed(transform, case.values(seed=1))


@working
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32, np.float64])
def test_every_real_dtype_gives_the_same(case: Case, dtype: type[np.generic]) -> None:
    if case.kind == "micro_frontend":  # Its integers are those of int16, its real numbers are from -1 to 1.
        return
    values = np.floor(case.values())
    wanted = transformed(case.open(), values.astype(np.float64)).copy()
    found = transformed(case.open(), values.astype(dtype))
    # Bytes stay bytes, and are rounded after each axis.
    rounding = 1.0 if case.abilities.picture and found.dtype == np.uint8 else 0.0
    np.testing.assert_allclose(found.astype(np.float64), wanted, rtol=2e-4, atol=rounding + 2e-4)


@working
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38, -3e38])
def test_numbers_that_are_none_are_no_error(case: Case, bad: float) -> None:
    values = case.values().astype(np.float32)
    values.flat[::3] = bad
    transform = case.open()
    with np.errstate(all="ignore"):  # whether numpy warns is the caller's choice
        transformed(transform, values)
    if case.memory:
        transform.reset()
    good = case.values()
    np.testing.assert_array_equal(transformed(transform, good), transformed(case.open(), good))


@working
def test_memory_in_another_order_is_taken_as_well(case: Case) -> None:
    values = case.values()
    found = transformed(case.open(), np.asfortranarray(values))
    np.testing.assert_allclose(found, transformed(case.open(), values), rtol=1e-5, atol=1e-5)


@working
def test_memory_that_it_gets_is_left_alone_and_not_needed_afterwards(case: Case) -> None:
    windows = [window(case.values(seed)) for seed in range(4)]
    keeps_no_memory_of_others(case.open, windows, lambda found: found.values)


@working
def test_after_a_reset_it_goes_on_as_if_newly_opened(case: Case) -> None:
    used = case.open()
    for seed in range(3):
        transformed(used, case.values(seed))
    used.reset()
    np.testing.assert_array_equal(transformed(used, case.values(7)), transformed(case.open(), case.values(7)))


@working
def test_what_it_does_not_change_passes_on(case: Case) -> None:
    if case.kind in {"crop", "letterbox"}:
        return  # Of a picture they show another part; test_pictures.py sees which.
    cut = Cut(0.25, 0, 1, 0.5)
    found = case.open()(window(case.values(), cut=cut))
    assert (found.cut, found.monotonic_ns, found.wall_ns, found.ordinal) == (cut, 0, 0, 0)
