"""A recording while it is written, and what a crash leaves. ``abandon`` does what a dying process does."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limpet.recordings import folder, layouts, writing
from limpet.recordings.folder import Recording, Span
from limpet.recordings.label_track import LabelTrack
from limpet.recordings.writing import RecordingFile
from limpet.sources._recordings import load
from recordings.test_folder import STARTED, recording

if TYPE_CHECKING:
    from pathlib import Path


def described(file: RecordingFile, samples: int, **more: Any) -> Recording:
    return recording(file.name, samples=samples, seconds=samples / 10, **more)


def begun(path: Path, samples: int, **more: Any) -> RecordingFile:
    file = RecordingFile(path, ["ax", "ay"], STARTED.timestamp())
    add(file, 0, samples)
    file.sync(described(file, samples, **more))
    return file


def add(file: RecordingFile, begin: int, end: int) -> None:
    file.write(layouts.lines([n / 10 for n in range(begin, end)], [(str(n), "0.5") for n in range(begin, end)]))


def test_a_recording_that_ends_is_in_the_description(tmp_path: Path) -> None:
    file = begun(tmp_path, 3)
    assert list(writing.running(tmp_path)) == [file.name]
    file.finish(described(file, 3))
    assert folder.read(tmp_path).recordings == [described(file, 3)]
    assert file.path.read_text() == "time,ax,ay\n0.000000,0,0.5\n0.100000,1,0.5\n0.200000,2,0.5\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == [file.name, "recordings.json", "recordings.lock"]
    assert not list(writing.running(tmp_path))


def test_names_are_by_time_and_never_used_again(tmp_path: Path) -> None:
    first = begun(tmp_path, 1)
    second = begun(tmp_path, 1)
    assert (first.name, second.name) == ("2026-11-28T13-40-00.csv", "2026-11-28T13-40-00-2.csv")
    for file in (first, second):
        file.finish(described(file, 1))


def test_after_a_crash_the_rows_since_the_last_description_count_and_half_a_row_does_not(tmp_path: Path) -> None:
    file = begun(tmp_path, 10, spans=[Span("sit", 0, 0.3), Span("walk", 0.3, 1.0)])
    add(file, 10, 14)
    with file.path.open("ab") as end:
        end.write(b"1.4000")
    file.abandon()
    (note,) = writing.recover(tmp_path)
    assert "Recovered 14 samples (1.4 s)" in note
    (found,) = folder.read(tmp_path).recordings
    assert (found.samples, found.seconds, found.complete) == (14, 1.4, False)
    assert found.spans == [Span("sit", 0, 0.3), Span("walk", 0.3, 1.4)]
    assert file.path.read_text().endswith("\n1.300000,13,0.5\n")
    assert not list(writing.recover(tmp_path))


def test_a_recording_that_is_being_written_is_not_recovered(tmp_path: Path) -> None:
    file = begun(tmp_path, 10)
    assert not list(writing.recover(tmp_path))
    file.finish(described(file, 10))


def test_a_crash_between_the_two_last_steps_adds_nothing_twice(tmp_path: Path) -> None:
    file = begun(tmp_path, 10)
    with folder.changing(tmp_path) as found:
        found.recordings.append(described(file, 10))
    add(file, 10, 12)
    file.abandon()
    (said,) = writing.recover(tmp_path)
    assert "is in recordings.json already" in said
    assert folder.read(tmp_path).recordings == [described(file, 10)]
    assert len(file.path.read_text().splitlines()) == 13
    assert not list(writing.recover(tmp_path))


def test_a_recording_without_samples_leaves_nothing(tmp_path: Path) -> None:
    begun(tmp_path, 0).abandon()
    assert ["no samples" in note for note in writing.recover(tmp_path)] == [True]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", [b"", b"{", b'{"recording":1,"size":0}', b"\xff" * 100])
def test_a_damaged_description_costs_no_other_recording(tmp_path: Path, damage: bytes) -> None:
    bad, good = begun(tmp_path, 5), begun(tmp_path, 5)
    (tmp_path / "2026-11-28T13-40-00.running.json").write_bytes(damage)
    bad.abandon()
    good.abandon()
    assert len(list(writing.recover(tmp_path))) == 2
    assert [one.file for one in folder.read(tmp_path).recordings] == [good.name]
    assert bad.path.exists()


def test_a_file_that_has_another_name_elsewhere_is_not_cut(tmp_path: Path) -> None:
    (tmp_path / "recordings").mkdir()
    file = begun(tmp_path / "recordings", 3)
    file.write(b"half a row\n")
    os.link(file.path, tmp_path / "other")
    file.abandon()
    before = (tmp_path / "other").read_bytes()
    (said,) = writing.recover(tmp_path / "recordings")
    assert "has another name elsewhere" in said
    assert (tmp_path / "other").read_bytes() == before


def test_a_folder_in_place_of_a_description_is_named_and_stays(tmp_path: Path) -> None:
    (tmp_path / "a.running.json").mkdir()
    (said,) = writing.recover(tmp_path)
    assert "a.running.json is a directory" in said
    assert (tmp_path / "a.running.json").is_dir()


def test_a_description_that_names_a_file_elsewhere_changes_nothing_there(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    outside = tmp_path / "outside.csv"
    outside.write_text("time,ax,ay\n0,1")
    (inner / "a.csv").symlink_to(outside)
    running = writing.Running(recording("a.csv", samples=0), 0)
    (inner / "a.running.json").write_bytes(msgspec.json.encode(running))
    assert ["could not be recovered" in note for note in writing.recover(inner)] == [True]
    assert outside.read_text() == "time,ax,ay\n0,1"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.binary(max_size=200), st.integers(0, 400))
def test_whatever_a_crash_leaves_at_the_end_the_recording_is_recovered(
    tmp_path: Path, rest: bytes, size: int
) -> None:
    path = tmp_path / os.urandom(8).hex()
    path.mkdir()
    file = begun(path, 10)
    with file.path.open("ab") as end:
        end.write(rest)
    (path / "2026-11-28T13-40-00.running.json").write_bytes(
        msgspec.json.encode(writing.Running(described(file, 10), size))
    )
    file.abandon()
    (note,) = writing.recover(path)
    assert all(one.file == file.name for one in folder.read(path).recordings), note


@given(st.lists(st.tuples(st.sampled_from(["", "a", "b"]), st.floats(0, 10)), max_size=8), st.floats(0.1, 12))
def test_changes_of_the_label_become_spans_that_a_reader_takes(
    changes: list[tuple[str, float]], end: float
) -> None:
    track = LabelTrack("a")
    for label, at in changes:
        track.change(label, at)
    spans = track.spans(end)
    recording(spans=spans).__post_init__()
    assert all(span.end <= end for span in spans)


def test_samples_are_counted_by_label() -> None:
    track = LabelTrack("sit")
    track.change("walk", 1.0)
    track.change("", 2.0)
    assert track.counts([0.0, 0.5, 1.0, 1.9, 2.0]) == {"sit": 2, "walk": 2, "": 1}
    assert track.spans(3.0) == [Span("sit", 0, 1), Span("walk", 1, 2)]


def sound(count: int, channels: int = 2) -> Any:
    return (np.arange(count * channels).reshape(-1, channels) / 100_000).astype(np.float32)


def begun_sound(path: Path, samples: int) -> tuple[RecordingFile, Recording]:
    wave = layouts.Wave(16_000)
    file = RecordingFile(path, ["left", "right"], STARTED.timestamp(), wave)
    file.write(wave.rows(np.empty(0), sound(samples)))
    about = recording(
        file.name, channels=["left", "right"], units=[], rate=16_000.0, samples=samples, seconds=samples / 16_000
    )
    file.sync(about)
    return file, about


def test_sound_is_a_wav_file_that_is_whole_after_each_second(tmp_path: Path) -> None:
    file, about = begun_sound(tmp_path, 400)
    values, rate = soundfile.read(file.path, dtype="float32")
    assert rate == 16_000
    np.testing.assert_array_equal(values, sound(400))
    file.finish(about)
    assert folder.read(tmp_path).recordings == [about]
    assert file.path.suffix == ".wav"
    np.testing.assert_array_equal(load(file.path, ["right"], None).values, sound(400)[:, 1:])


def test_after_a_crash_all_whole_samples_of_sound_count(tmp_path: Path) -> None:
    file, _ = begun_sound(tmp_path, 400)
    file.write(sound(420)[400:].tobytes() + b"half")
    file.abandon()
    (note,) = writing.recover(tmp_path)
    assert "Recovered 420 samples" in note
    (found,) = folder.read(tmp_path).recordings
    assert (found.samples, found.seconds, found.complete) == (420, 0.02625, False)
    np.testing.assert_array_equal(soundfile.read(file.path, dtype="float32")[0], sound(420))


def test_a_wav_file_that_is_none_of_ours_is_left_as_it_is(tmp_path: Path) -> None:
    file, _ = begun_sound(tmp_path, 400)
    file.abandon()
    soundfile.write(file.path, sound(500), 16_000, subtype="PCM_16")
    before = file.path.read_bytes()
    (note,) = writing.recover(tmp_path)
    assert "its header does not fit its description" in note
    assert file.path.read_bytes() == before


def test_a_table_and_a_sound_of_the_same_second_have_different_names(tmp_path: Path) -> None:
    table = begun(tmp_path, 1)
    file, _ = begun_sound(tmp_path, 1)
    assert (table.name, file.name) == ("2026-11-28T13-40-00.csv", "2026-11-28T13-40-00-2.wav")
    assert sorted(writing.running(tmp_path)) == sorted([table.name, file.name])
    table.abandon()
    file.abandon()
