"""Microphones: formats, channels, rates, times, and what is lost or wrong."""

from __future__ import annotations

import time
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from limpet.contracts.data import SampleSpec
from limpet.errors import SourceError
from limpet.inference.reader import Reader
from limpet.sources import _alsa, audio
from support.microphone import NAME, Microphone, ramp

if TYPE_CHECKING:
    from pathlib import Path

    from limpet.contracts.data import Array, Samples


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "mic"


def plugged_in(monkeypatch: pytest.MonkeyPatch, folder: Path, samples: Array, **options: Any) -> Microphone:
    microphone = Microphone(folder, samples, **options)
    for name, value in microphone.environment.items():
        monkeypatch.setenv(name, value)
    return microphone


def heard(count: int, dropped: Counter[str] | None = None, pause: float = 0.0, **options: Any) -> list[Samples]:
    """Return blocks with at least so many samples. ``pause``: seconds without a read, after the first."""
    blocks: list[Samples] = []
    with audio.open(audio.Config(device=NAME, **options), Counter() if dropped is None else dropped) as samples:
        while sum(map(len, blocks)) < count:
            block = next(samples)
            if len(block):
                time.sleep(0 if blocks else pause)
                blocks.append(block)
    return blocks


def joined(blocks: list[Samples]) -> Array:
    return np.concatenate([block.values for block in blocks])


def stamps(blocks: list[Samples]) -> Array:
    return np.concatenate([block.monotonic_ns for block in blocks])


def tone(rate: int, hertz: float, seconds: float = 1.0, scale: float = 0.5) -> Array:
    return scale * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)


def strength(values: Array, rate: int, hertz: float) -> float:
    """Return the amplitude of a tone in values ``(n,)``, the first tenth left out."""
    values = values[len(values) // 10 :]
    return float(np.abs(2 * np.mean(values * np.exp(-2j * np.pi * hertz * np.arange(len(values)) / rate))))


def test_samples_come_as_they_are_and_none_is_missing(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    plugged_in(monkeypatch, folder, ramp())
    dropped: Counter[str] = Counter()
    blocks = heard(4000, dropped)
    values = joined(blocks)
    np.testing.assert_array_equal(values[:, 0], ramp()[: len(values), 0] / np.float32(32768))
    assert all(before.index + len(before) == after.index for before, after in pairwise(blocks))
    assert not any(block.gap for block in blocks)
    assert not dropped
    spec = audio.describe(audio.Config(device=NAME))
    assert spec == SampleSpec((1,), np.dtype(np.float32), rate=16_000.0, patience=10.0)


def layouts() -> dict[str, Array]:
    wide = ramp().astype("<i4")
    three = (wide << 8).view(np.uint8).reshape(-1, 4)[:, :3]
    return {
        "S32_LE": wide << 16,
        "S24_3LE": three.reshape(-1, 1, 3),
        "S24_LE": (wide << 8) & 0x00FFFFFF,
        "FLOAT_LE": (ramp() / 32768).astype("<f4"),
    }


@pytest.mark.parametrize(("layout", "samples"), layouts().items(), ids=layouts())
def test_every_format_gives_the_same_samples(
    monkeypatch: pytest.MonkeyPatch, folder: Path, layout: str, samples: Array
) -> None:
    plugged_in(monkeypatch, folder, samples, layout=layout)
    values = joined(heard(400))
    np.testing.assert_array_equal(values[:, 0], ramp()[: len(values), 0] / np.float32(32768))


def test_8_bits_are_centred(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    plugged_in(monkeypatch, folder, np.array([[0], [128], [255]], np.uint8), layout="U8")
    assert joined(heard(3))[:3, 0].tolist() == [-1, 0, 127 / 128]


def test_a_plugin_of_alsa_converts_formats_and_never_rates(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    plugged_in(monkeypatch, folder, (tone(8000, 1000)[:, np.newaxis] * 16_000).astype("<i2"), rate=8000)
    with audio.open(audio.Config(device=f"plug:{NAME}", channels=[2]), Counter()) as samples:
        blocks = []
        while sum(map(len, blocks)) < 4000:
            blocks.append(next(samples))
    values = joined(blocks)[:, 0]
    assert strength(values, 16_000, 1000) == pytest.approx(0.5 * 16_000 / 32768, rel=0.01)
    assert strength(values, 16_000, 7000) < 1e-3  # where interpolation without a low-pass would put an image


def test_channels_are_chosen_or_mixed(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    plugged_in(monkeypatch, folder, np.hstack([ramp(), 2000 - ramp()]))
    one, two = ramp()[:200, 0] / np.float32(32768), (2000 - ramp()[:200, 0]) / np.float32(32768)
    np.testing.assert_array_equal(joined(heard(200))[:200, 0], one)
    np.testing.assert_array_equal(joined(heard(200, channels=[2, 1]))[:200], np.column_stack([two, one]))
    np.testing.assert_allclose(joined(heard(200, channels="mix"))[:200, 0], 1000 / 32768)


def test_gain_amplifies_up_to_full_scale(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    plugged_in(monkeypatch, folder, np.array([[100], [-20_000]], "<i2"))
    values = joined(heard(2, gain=20))
    np.testing.assert_allclose(values[:2, 0], [1000 / 32768, -1], rtol=1e-6)


@pytest.mark.parametrize("rate", [16_000, 8000])
def test_another_rate_is_resampled_with_a_low_pass(
    monkeypatch: pytest.MonkeyPatch, folder: Path, rate: int
) -> None:
    sound = tone(44_100, 1000) + tone(44_100, 12_000)
    plugged_in(monkeypatch, folder, (sound[:, np.newaxis] * 16_000).astype("<i2"), rate=44_100)
    blocks = heard(rate // 2, rate=rate)
    values, times = joined(blocks)[:, 0], stamps(blocks)
    assert strength(values, rate, 1000) == pytest.approx(0.5 * 16_000 / 32768, rel=0.01)
    assert strength(values, rate, 12_000 % rate - (rate if rate > 8000 else 0)) < 1e-3  # where it would alias to
    assert len(values) / ((times[-1] - times[0]) / 1e9 + 1 / rate) == pytest.approx(rate, rel=0.01)


def test_a_lower_rate_of_the_device_is_resampled_too(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    plugged_in(monkeypatch, folder, (tone(8000, 1000)[:, np.newaxis] * 16_000).astype("<i2"), rate=8000)
    assert strength(joined(heard(4000))[:, 0], 16_000, 1000) == pytest.approx(0.5 * 16_000 / 32768, rel=0.01)


@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_times_are_steady_rise_and_lie_in_the_past(
    monkeypatch: pytest.MonkeyPatch, folder: Path, rate: int
) -> None:
    plugged_in(monkeypatch, folder, ramp(rate), rate=rate)
    begin = time.monotonic_ns()
    blocks = heard(8000)
    times = stamps(blocks)
    assert begin - 1e6 <= times[0]
    assert times[-1] <= time.monotonic_ns()
    steps = np.diff(times)
    assert (steps > 0).all()
    assert np.median(steps) == pytest.approx(62_500, rel=0.01)
    assert all(
        (block.wall_ns - block.monotonic_ns == block.wall_ns[0] - block.monotonic_ns[0]).all() for block in blocks
    )


@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_an_overrun_is_counted_so_that_all_samples_are_accounted_for(
    monkeypatch: pytest.MonkeyPatch, folder: Path, rate: int
) -> None:
    plugged_in(monkeypatch, folder, ramp(rate), rate=rate)
    dropped: Counter[str] = Counter()
    blocks = heard(4000, dropped, pause=0.3, buffer=0.15)
    times = stamps(blocks)
    (gap,) = [place for place, block in enumerate(blocks) if block.gap]
    before, after = blocks[gap - 1], blocks[gap]
    lost = after.index - before.index - len(before)
    assert dropped["overrun"] == lost > 0
    elapsed = (times[-1] - times[0]) / 1e9 * 16_000 + 1
    assert sum(map(len, blocks)) + lost == pytest.approx(elapsed, abs=0.03 * 16_000)
    assert (np.diff(times) > 0).all()


def test_an_unplugged_microphone_is_away_and_comes_back(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    microphone = plugged_in(monkeypatch, folder, ramp())
    dropped: Counter[str] = Counter()
    reader = Reader(audio, audio.Config(device=NAME), dropped)
    blocks = iter(reader)
    assert len(next(blocks))
    microphone.unplug()
    while reader.away is None:
        last = next(blocks)
    assert reader.away == "mic: was unplugged"
    microphone.plug_in()
    while not len(last := next(blocks)):
        pass
    assert last.gap
    assert reader.away is None
    assert dropped == {"disconnected": 1}
    blocks.close()


def test_a_device_that_cannot_be_used_is_refused_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    microphone = plugged_in(monkeypatch, folder, ramp())
    for config, reason in (
        (audio.Config(device=NAME, channels=[2]), "mic: has 1 channels; `channels` needs 2"),
        (audio.Config(device="hw:CARD=Away,DEV=0"), "hw:CARD=Away,DEV=0: is not there; is it plugged in?"),
        (audio.Config(device="nosuch"), "nosuch: is not there"),
    ):
        with pytest.raises(SourceError) as refused, audio.open(config, Counter()):
            pass
        assert reason in str(refused.value)
    microphone.take()
    with (
        pytest.raises(SourceError, match="mic: is in use by another program"),
        audio.open(audio.Config(device=NAME), Counter()),
    ):
        pass


def test_a_microphone_needs_the_nodes_of_its_own_card_alone(tmp_path: Path) -> None:
    (tmp_path / "card3").mkdir()
    (tmp_path / "card3" / "id").write_text("Device\n")
    (tmp_path / "Device").symlink_to("card3")
    own = ("/dev/snd/controlC3", "/dev/snd/pcmC3D1c", "/dev/snd/timer")
    assert _alsa.nodes("hw:CARD=Device,DEV=1", tmp_path) == own
    assert _alsa.nodes("plughw:Device,1", tmp_path) == own
    assert _alsa.nodes("hw:3,1", tmp_path) == own
    assert _alsa.nodes("hw:CARD=Away", tmp_path) == ("/dev/snd/controlC*", "/dev/snd/pcmC*D0c", "/dev/snd/timer")
