"""What the trainer makes of recorded sound: what is read of it, which settings are tried, and what it refuses."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
import soundfile

from limpet.contracts.data import SampleSpec
from limpet.inference.resolving import resolve_transforms
from limpet.inference.stages import Transforms
from limpet.inference.window import Windower
from limpet.recordings import folder as recordings
from limpet_convert.errors import ConvertError
from limpet_convert.training import pieces, problem, proposals, recorded, recorded_sound, sound, trainer, windows
from support.recorded_motion import motion
from support.recorded_motion import write as write_motion
from support.recorded_sound import RATE, SOUNDS, write
from support.recorded_sound import sound as heard

if TYPE_CHECKING:
    from pathlib import Path

    from limpet_convert.training.problem import Problem
    from limpet_convert.training.proposals import Candidate


def labelled(folder: Path, seconds: float = 4.0, count: int = 2) -> Path:
    return write(folder, [[(label, heard(label, seconds, n)) for label in SOUNDS] for n in range(count)])


def ramp(count: int) -> np.ndarray:
    return (np.arange(count, dtype=np.float32) / 32768)[:, np.newaxis]


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_each_span_has_its_own_samples(tmp_path: Path, suffix: str) -> None:
    values = ramp(12_000)
    folder = write(tmp_path, [[("hum", values[:5000]), ("", values[5000:7000]), ("hiss", values[7000:])]], suffix)
    session = recorded.read(folder)
    assert session.sound
    assert session.rate == RATE
    found = pieces.of_spans(session.recordings)
    assert [piece.label for piece in found] == ["hum", "hiss"]
    np.testing.assert_array_equal(found[0].values, values[:5000])
    np.testing.assert_array_equal(found[1].values, values[7000:])


def test_of_more_sound_than_fits_the_first_part_of_each_span_is_read(tmp_path: Path) -> None:
    values = ramp(20_000)
    folder = write(tmp_path, [[("hum", values[:8000]), ("hiss", values[8000:16_000]), ("", values[16_000:])]])
    session = recorded.read(folder, largest=20_000)  # a quarter of it
    (one,) = session.recordings
    assert len(one.values) == 4000
    found = pieces.of_spans(session.recordings)
    np.testing.assert_array_equal(found[0].values, values[:2000])
    np.testing.assert_array_equal(found[1].values, values[8000:10_000])
    assert one.breaks == (2000,)
    assert "the first 25% of each span is used" in session.notes[0]


def test_of_long_sound_only_what_is_used_is_in_memory(tmp_path: Path) -> None:
    values = np.tile(ramp(16_000), (200, 1))
    folder = write(tmp_path, [[("hum", values)]], ".flac")
    (one,) = recordings.read(folder).recordings
    wanted = recorded_sound.Wanted(0, RATE, ((50.0, 60.0),))
    recorded_sound.read(folder / one.file, one, wanted)  # what is imported at first
    tracemalloc.start()
    heard = recorded_sound.read(folder / one.file, one, wanted)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(heard.values, values[50 * RATE : 60 * RATE])
    assert peak < 3_000_000 < values.nbytes


def test_no_more_is_read_of_a_file_than_its_description_says(tmp_path: Path) -> None:
    folder = write(tmp_path, [[("hum", np.tile(ramp(16_000), (10, 1)))]], ".flac", samples=3000)
    (one,) = recorded.read(folder).recordings
    np.testing.assert_array_equal(one.values, ramp(16_000)[:3000])
    assert one.spans[0].end == 3000


def test_sound_of_several_rates_gets_the_lowest_one_and_keeps_its_pitch(tmp_path: Path) -> None:
    folder = labelled(tmp_path, 1.0)
    t = np.arange(3 * 44_100) / 44_100
    tone = (0.5 * np.sin(2 * np.pi * 1000 * t)).astype(np.float32)
    both = recordings.read(folder)
    both.recordings[1] = msgspec.structs.replace(both.recordings[1], rate=44_100.0, samples=len(tone), seconds=3.0)
    soundfile.write(folder / both.recordings[1].file, tone, 44_100)
    (folder / recordings.MANIFEST).write_bytes(recordings.encode(both))
    session = recorded.read(folder)
    assert session.rate == RATE
    assert "Sound at 44100 Hz is resampled to 16000 Hz." in session.notes
    values = session.recordings[1].values[:, 0]
    assert len(values) == pytest.approx(3 * RATE, abs=2)
    spectrum = np.abs(np.fft.rfft(values[8000:24_000]))
    assert spectrum.argmax() == 1000
    assert [(span.begin, span.end) for span in session.recordings[1].spans][:2] == [(0, RATE), (RATE, 2 * RATE)]


def test_of_stereo_one_channel_is_learned_from_and_the_error_says_how_to_choose(tmp_path: Path) -> None:
    both = np.concatenate([ramp(8000), -ramp(8000)], axis=1)
    folder = write(tmp_path, [[("hum", both)]])
    with pytest.raises(ConvertError, match=r"has 2 channels \(ch1, ch2\).*takes one. Choose it: --channels ch1"):
        recorded.read(folder)
    (one,) = recorded.read(folder, ["ch2"]).recordings
    np.testing.assert_array_equal(one.values, -ramp(8000))


def test_several_channels_of_another_fast_sensor_are_learned_from_as_before(tmp_path: Path) -> None:
    both = np.concatenate([ramp(8000), -ramp(8000)], axis=1)
    session = recorded.read(write(tmp_path, [[("hum", both)]], kind="serial"))
    assert not session.sound
    assert session.recordings[0].values.shape == (8000, 2)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"rate": 22_050.0}, "has 16000 Hz, but recordings.json says 22050 Hz"),
        ({"channels": ["a", "b"], "kind": "serial"}, "has not the channels|has 1 channel"),
    ],
)
def test_a_file_that_is_not_what_its_description_says_is_refused(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    folder = labelled(tmp_path, 1.0, 1)
    described = recordings.read(folder)
    described.recordings[0] = msgspec.structs.replace(described.recordings[0], **change)
    (folder / recordings.MANIFEST).write_bytes(recordings.encode(described))
    with pytest.raises(ConvertError, match=reason):
        recorded.read(folder)


def test_a_file_that_is_no_sound_or_ends_early_is_named(tmp_path: Path) -> None:
    folder = labelled(tmp_path, 1.0, 1)
    path = folder / recordings.read(folder).recordings[0].file
    path.write_bytes(path.read_bytes()[: 44 + 2 * RATE])  # one second of three
    (one,) = recorded.read(folder).recordings
    assert [(span.label, span.end - span.begin) for span in one.spans] == [
        (SOUNDS[0], RATE),
        (SOUNDS[1], 0),
        (SOUNDS[2], 0),
    ]
    path.write_bytes(b"RIFF and nothing else")
    with pytest.raises(ConvertError, match=path.name):
        recorded.read(folder)


def first_of(found: Problem) -> dict[str, Candidate]:
    """Return the first setting that is tried of each kind of features."""
    plan = trainer.propose(found, [])
    return {f"{one.features.name}, {one.features.network}": one for one in reversed(plan.candidates)}


def test_windows_of_sound_last_about_a_second_and_are_seen_by_their_mel_bands(tmp_path: Path) -> None:
    found = problem.classify(recorded.read(labelled(tmp_path)), None)
    plan = trainer.propose(found, [])
    assert {one.size for one in plan.candidates} == {16_384, 8192}
    assert "Sound at 16000 Hz" in plan.reasons[0]
    one = first_of(found)["log-mel, dscnn"]
    assert (one.size, one.hop) == (16_384, 4096)
    cut = windows.cut(found.pieces, one.window, one.features.transforms, found.rate)
    assert cut.values.shape[1:] == (31, 40)
    transform = windows.normaliser(cut.values, by_channel=one.features.by_channel)
    assert len(transform["mean"]) == 40  # one for each band
    hum = cut.values[[found.pieces[at].label == "hum" for at in cut.piece]].mean(axis=(0, 1))
    hiss = cut.values[[found.pieces[at].label == "hiss" for at in cut.piece]].mean(axis=(0, 1))
    assert hum.argmax() < 10 < hiss.argmax()


def test_frames_of_windows_that_overlap_are_computed_once(tmp_path: Path) -> None:
    found = problem.classify(recorded.read(labelled(tmp_path)), None)
    for one in first_of(found).values():
        spec = Windower(one.window, SampleSpec((1,), np.dtype(np.float32), rate=found.rate)).spec
        plugins = resolve_transforms(list(one.features.transforms[:1]), "transforms", tmp_path)
        assert Transforms(plugins, spec).spec.hop == one.hop // one.features.transforms[0]["hop"]


def test_of_short_spans_windows_are_shorter_and_of_slow_sound_they_last_as_long(tmp_path: Path) -> None:
    short = write(
        tmp_path / "a", [[(x, heard(x, 0.6, 9 * n + k)) for k in range(6) for x in SOUNDS] for n in (0, 1)]
    )
    found = problem.classify(recorded.read(short), None)
    assert {one.size for one in trainer.propose(found, []).candidates} == {8192, 4096}
    slow = [[(label, heard(label, 4, n, 8000)) for label in SOUNDS] for n in range(2)]
    found = problem.classify(recorded.read(write(tmp_path / "b", slow, rate=8000.0)), None)
    assert found.rate == 8000
    assert max(one.size for one in trainer.propose(found, []).candidates) == 8192


def test_a_window_that_is_too_short_for_sound_is_refused(tmp_path: Path) -> None:
    found = problem.classify(recorded.read(labelled(tmp_path)), None)
    with pytest.raises(ConvertError, match="sound needs 2048 samples or more"):
        trainer.propose(found, [512])


def test_what_is_normal_is_learned_by_the_mean_of_each_band(tmp_path: Path) -> None:
    folder = write(tmp_path, [[("", heard("hum", 6, n))] for n in range(3)])
    found = problem.anomaly(recorded.read(folder), None)
    (one,) = trainer.propose(found, []).candidates
    assert one.features.network == "mahalanobis"
    cut = windows.cut(found.pieces, one.window, one.features.transforms, found.rate)
    assert cut.values.shape[1:] == (2, 64)


def test_of_one_recording_of_sound_no_window_is_in_two_blocks(tmp_path: Path) -> None:
    found = problem.classify(recorded.read(labelled(tmp_path, 12.0, 1)), None)
    assert found.split_by == "block"
    whole = {piece.label: len(piece.values) for piece in found.whole}
    for label in SOUNDS:
        lost = whole[label] - sum(len(piece.values) for piece in found.pieces if piece.label == label)
        assert lost >= 4 * min(0.25 * whole[label] / problem.BLOCKS, max(sound.Frames(RATE).windows())) - 4


def test_numbers_of_other_sensors_are_no_sound(tmp_path: Path) -> None:
    session = recorded.read(write_motion(tmp_path, [[("idle", motion("idle", 2, 1))]]))
    assert not session.sound


def test_a_separable_network_is_as_large_as_it_says() -> None:
    network = proposals.Network("dscnn", (31, 40), 3, 16, "cross_entropy")
    first = 16 * 25 + 16
    blocks = [(16 * 9 + 16) + (16 * 32 + 32), *[(32 * 9 + 32) + (32 * 32 + 32)] * 2]
    assert network.parameters == first + sum(blocks) + 32 * 3 + 3
    assert network.operations > 16 * 20 * 16 * 25
