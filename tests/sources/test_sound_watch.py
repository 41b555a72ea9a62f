"""What is said about sound that is of no use, and when it is said no more."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from limpet.sources._sound_watch import SoundWatch

RATE = 100


def watching(values: list[float], names: tuple[str, ...] = ("mic",)) -> tuple[list[str], Counter[str]]:
    """Return the remark after each second in which all channels but the last have noise, and the counts."""
    counts: Counter[str] = Counter()
    watch = SoundWatch(RATE, names, counts)
    remarks = []
    for value in values:
        noise = np.random.default_rng(0).uniform(-0.3, 0.3, (RATE, len(names)))
        noise[:, -1] = value if not np.isnan(value) else noise[:, -1]
        for part in np.array_split(noise.astype(np.float32), 3):
            watch.see(part)
        remarks.append(watch.remark)
    return remarks, counts


NOISE = float("nan")


def test_noise_is_in_order() -> None:
    assert watching([NOISE] * 20) == ([""] * 20, Counter())


def test_zeros_are_named_after_some_seconds_and_counted_once() -> None:
    remarks, counts = watching([NOISE, *[0.0] * 8, NOISE])
    assert remarks == [""] * 5 + ["mic: sends only zeros: is it muted?"] * 4 + [""]
    assert counts == {"silence": 1}


def test_a_constant_value_is_silence_and_no_offset() -> None:
    remarks, counts = watching([0.5] * 9)
    assert remarks[-1] == "mic: sends the same value all the time: is it muted?"
    assert counts == {"silence": 1}


def test_zeros_of_one_channel_name_the_one_with_sound() -> None:
    remarks, _ = watching([0.0] * 6, ("mic channel 1", "mic channel 2"))
    assert remarks[-1] == "mic channel 2: sends only zeros: is it muted?; mic channel 1 has sound"


def test_a_second_of_silence_now_and_then_is_none() -> None:
    assert watching([0.0, 0.0, NOISE] * 5) == ([""] * 15, Counter())


@pytest.mark.parametrize(
    ("shift", "remark", "cause"),
    [
        (0.0, "mic: 20% of its samples are at full scale; lower its volume", "clipping"),
        (0.2, "mic: has a DC offset of +20% of full scale; use the transform detrend", "dc_offset"),
    ],
)
def test_a_fault_begins_and_ends_with_hysteresis(shift: float, remark: str, cause: str) -> None:
    counts: Counter[str] = Counter()
    watch = SoundWatch(RATE, ["mic"], counts)
    wave = np.tile([-0.4, 0.4, -0.2, 0.2, 0.0], RATE // 5)
    bad = np.tile([1.0, -0.4, -0.3, -0.2, -0.1], RATE // 5) if not shift else wave + shift
    remarks = []
    for values in [wave, bad, wave, *[bad] * 4, *[wave] * 3, bad, *[wave] * 7]:
        watch.see(values.astype(np.float32)[:, np.newaxis])
        remarks.append(watch.remark)
    begin, end = remarks.index(remark), len(remarks) - 1 - remarks[::-1].index(remark)
    assert begin >= 4  # one bad second is not enough
    assert set(remarks[begin : end + 1]) == {remark}  # a good second in between does not end it
    assert remarks[-1] == ""
    assert counts == {cause: 1}
