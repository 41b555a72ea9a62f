"""What the trainer makes of a folder of recordings: pieces, windows, and what it refuses or says."""

from __future__ import annotations

import gzip
from datetime import datetime, timezone
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from limpet.contracts.fields import WindowSpec
from limpet.recordings import folder as recordings
from limpet.recordings import layouts
from limpet.recordings.folder import Recording, Span
from limpet.recordings.writing import RecordingFile
from limpet_convert.errors import ConvertError
from limpet_convert.training import pieces, problem, project_file, proposals, recorded, windows
from support.recorded_motion import RATE, motion, write

if TYPE_CHECKING:
    from pathlib import Path


def test_a_window_lies_in_one_span_and_spans_no_gap(tmp_path: Path) -> None:
    values = np.arange(300, dtype=np.float32)[:, np.newaxis] + np.zeros(2, np.float32)
    folder = write(tmp_path, [[("a", values[:120]), ("", values[120:150]), ("b", values[150:])]], gaps=[1.0])
    found = pieces.of_spans(recorded.read(folder).recordings)
    assert [(p.label, int(p.values[0, 0]), int(p.values[-1, 0])) for p in found] == [
        ("a", 0, 49),
        ("a", 50, 119),
        ("b", 150, 299),
    ]
    cut = windows.cut(found, WindowSpec(size=20, hop=10), [], RATE)
    assert cut.values.shape == (4 + 6 + 14, 20, 2)
    for window, piece in zip(cut.values, cut.piece, strict=True):
        assert np.isin(window[:, 0], found[piece].values[:, 0]).all()
        assert all(b - a == 1 for a, b in pairwise(window[:, 0].tolist()))


def test_captures_of_one_occasion_are_never_in_two_folds(tmp_path: Path) -> None:
    parts = [[(label, motion(label, 1, n))] for n in range(12) for label in ("idle", "walk")]
    folder = write(tmp_path, parts, kind="capture")
    listed = recordings.read(folder)
    for number, one in enumerate(listed.recordings):  # four at a time, half a second apart
        one.started = datetime(2026, 11, 28, number // 4, 0, 0, 500_000 * (number % 2), tzinfo=timezone.utc)
    (folder / recordings.MANIFEST).write_bytes(recordings.encode(listed))
    found = problem.classify(recorded.read(folder), 25)
    assert found.split_by == "recording"
    assert [piece.group for piece in found.pieces] == [4 * (number // 4) for number in range(24)]
    cut = windows.cut(found.pieces, WindowSpec(size=25, hop=25), [], RATE)
    assert np.array_equal(found.recording_of(cut) // 4, np.arange(48) // 8)


def test_values_that_are_not_numbers_are_left_out_and_named(tmp_path: Path) -> None:
    values = motion("idle", 4, 1)
    values[100, 1] = np.nan
    found = recorded.read(write(tmp_path, [[("idle", values)]]))
    assert "1 of 200 samples" in found.notes[0]
    assert "'ay'" in found.notes[0]
    assert [len(piece.values) for piece in pieces.of_spans(found.recordings)] == [100, 99]


def test_a_channel_without_any_number_is_named_and_can_be_left_out(tmp_path: Path) -> None:
    values = motion("idle", 4, 1)
    values[:, 2] = np.nan
    folder = write(tmp_path, [[("idle", values)]])
    with pytest.raises(ConvertError, match="'az' has none"):
        recorded.read(folder)
    assert len(recorded.read(folder, ["ax", "ay"]).recordings[0].values) == 200


def test_recordings_that_differ_in_channels_or_rate_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, [[("idle", motion("idle", 2, n))] for n in range(2)])
    both = recordings.read(folder)
    both.recordings[1].rate = 40.0
    (folder / recordings.MANIFEST).write_bytes(recordings.encode(both))
    with pytest.raises(ConvertError, match=r"has 40 samples a second, but .* has 50"):
        recorded.read(folder)
    both.recordings[1] = msgspec.structs.replace(both.recordings[1], rate=50.0, channels=["x", "y", "z"])
    (folder / recordings.MANIFEST).write_bytes(recordings.encode(both))
    with pytest.raises(ConvertError, match="has the channels x, y, z, but"):
        recorded.read(folder)


def test_a_folder_without_recordings_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match="Run: limpet record"):
        recorded.read(tmp_path)


def test_a_folder_of_strangers_is_refused_before_it_fills_memory_or_the_terminal(tmp_path: Path) -> None:
    folder = write(tmp_path, [[("idle", motion("idle", 2, 1))]])
    [file] = folder.glob("*.csv")
    file.write_bytes(gzip.compress(b"time,ax,ay,az\n" + b"0,0,0,0\n" * 1000))
    with pytest.raises(ConvertError, match="is no CSV or WAV file"):
        recorded.read(folder)
    file.unlink()
    file.symlink_to("/dev/zero")
    with pytest.raises(ConvertError, match="symbolic link"):
        recorded.read(folder)
    found = recordings.read(folder)
    found.recordings[0] = msgspec.structs.replace(found.recordings[0], channels=["\x1b[2J", "ay", "az"])
    (folder / recordings.MANIFEST).write_bytes(recordings.encode(found))
    with pytest.raises(ConvertError, match="printable characters"):
        recorded.read(folder)
    (folder / recordings.MANIFEST).write_bytes(b'{"format": 1, "recordings": [{"file": "../../etc/passwd"}]}')
    with pytest.raises(ConvertError, match="could not be read"):
        recorded.read(folder)


def test_of_a_folder_that_is_too_large_the_first_part_of_each_span_is_used(tmp_path: Path) -> None:
    session = [[(label, motion(label, 8, n)) for label in ("idle", "walk")] for n in range(2)]
    folder = write(tmp_path, session)
    found = recorded.read(folder, largest=4 * 3 * 800)
    assert "larger than" in found.notes[0]
    assert sum(len(one.values) for one in found.recordings) == 800
    assert [(p.label, len(p.values)) for p in pieces.of_spans(found.recordings)] == [
        ("idle", 200),
        ("walk", 200),
    ] * 2
    whole = recorded.read(folder).recordings[0].values
    assert np.array_equal(found.recordings[0].values[200:], whole[400:600])


def test_whole_recordings_are_held_back_where_each_label_is_in_two(tmp_path: Path) -> None:
    session = [[(label, motion(label, 4, n)) for label in ("idle", "walk")] for n in range(3)]
    found = problem.classify(recorded.read(write(tmp_path, session)), None)
    assert (found.split_by, found.fold_count, found.warnings) == ("recording", 3, ())


def test_of_one_recording_blocks_are_held_back_and_it_is_said_to_be_no_honest_measure(tmp_path: Path) -> None:
    session = [[(label, motion(label, 8, 1)) for label in ("idle", "walk")]]
    found = problem.classify(recorded.read(write(tmp_path, session)), None)
    assert found.split_by == "block"
    assert "cannot be measured" in found.warnings[0]
    assert "two recordings or more" in found.warnings[0]


def test_a_label_of_one_recording_alone_may_be_learned_by_its_place_and_this_is_said(tmp_path: Path) -> None:
    session = [[(label, motion(label, 8, 1))] for label in ("idle", "walk")]
    found = problem.classify(recorded.read(write(tmp_path, session)), None)
    assert found.split_by == "block"
    assert "place of the sensor" in found.warnings[1]


def test_one_label_and_too_little_of_a_label_are_refused_with_what_is_needed(tmp_path: Path) -> None:
    alone = recorded.read(write(tmp_path / "alone", [[("idle", motion("idle", 4, 1))]]))
    with pytest.raises(ConvertError, match="needs two labels or more, and the only label is 'idle'"):
        problem.classify(alone, None)
    few = [[("idle", motion("idle", 4, 1)), ("walk", motion("walk", 0.4, 2))]]
    with pytest.raises(ConvertError, match="'walk' has 20 samples; it needs 40"):
        problem.classify(recorded.read(write(tmp_path / "few", few)), None)


def test_a_channel_that_gives_the_label_away_is_found_and_one_that_never_changes(tmp_path: Path) -> None:
    def with_more(label: str, number: float) -> np.ndarray:
        values = motion(label, 4, 1)
        more = np.broadcast_to(np.array([number, 7.0], np.float32), (len(values), 2))
        return np.concatenate([values, more], axis=1)

    session = recorded.read(
        write(tmp_path, [[("idle", with_more("idle", 0)), ("walk", with_more("walk", 1))]] * 2)
    )
    assert problem.leaking(session.recordings, session.channels) == ["c3"]
    assert problem.still(session) == ["c4"]


def test_windows_hold_two_periods_and_fit_into_the_spans(tmp_path: Path) -> None:
    session = [[(label, motion(label, 8, n)) for label in ("walk", "shake")] for n in range(3)]
    found = pieces.of_spans(recorded.read(write(tmp_path, session)).recordings)
    plan = proposals.plan(found, RATE)
    sizes = sorted({one.size for one in plan.candidates})
    assert (
        proposals.period([piece.values for piece in found if piece.label == "walk"]) == 25
    )  # 2 Hz at 50 a second
    assert min(sizes) >= 2 * proposals.period([piece.values for piece in found])  # type: ignore[operator]
    assert max(sizes) <= min(len(piece.values) for piece in found)
    assert {one.features.name for one in plan.candidates} == {"raw windows", "statistics", "spectrum"}


def test_rows_that_do_not_follow_each_other_get_windows_of_one_sample(tmp_path: Path) -> None:
    random = np.random.default_rng(1).normal(size=(400, 3)).astype(np.float32)
    found = pieces.of_spans(
        recorded.read(write(tmp_path, [[("a", random[:200]), ("b", random[200:])]])).recordings
    )
    plan = proposals.plan(found, RATE)
    assert {one.size for one in plan.candidates} == {1}
    assert "1 sample" in plan.reasons[0]


def test_what_is_kept_to_verify_with_has_a_share_of_every_piece_and_is_bounded() -> None:
    whole = [pieces.Piece(np.zeros((length, 2), np.float32), "a", 0, 0) for length in (4000, 40, 5, 400)]
    kept = project_file.excerpt(whole, 10, 5, most=100)
    assert [len(piece.values) for piece in kept] == [455, 10, 50]
    wide = [pieces.Piece(np.zeros((400, 200_000), np.float32), "a", 0, 0)]
    assert len(project_file.excerpt(wide, 10, 5)[0].values) == 10 + 8 * 5  # 64 MiB of windows of 8 MB


def test_normalise_divides_by_1_what_never_changes() -> None:
    values = np.random.default_rng(1).normal(5, 2, (50, 8, 2)).astype(np.float32)
    values[..., 1] = 3.0
    transform = windows.normaliser(values, by_channel=True)
    assert transform["mean"][1] == 3.0
    assert transform["std"][1] == 1.0
    found = windows.normalised(values, transform)
    assert found[..., 0].std() == pytest.approx(1, abs=0.01)
    assert not found[..., 1].any()


def test_sound_is_read_with_its_exact_rate_and_labels(tmp_path: Path) -> None:
    wave = layouts.Wave(11_025)
    for number in range(2):
        file = RecordingFile(tmp_path, ["mic"], 1_800_000_000 + number, wave)
        values = (np.arange(200)[:, np.newaxis] / 1000).astype(np.float32)
        file.write(wave.rows(np.empty(0), values))
        file.finish(recorded_as(file.name, number))
    session = recorded.read(tmp_path)
    assert (session.rate, session.channels) == (11_025, ("mic",))
    for number, one in enumerate(session.recordings):
        np.testing.assert_array_equal(one.values[:, 0], (np.arange(200) / 1000).astype(np.float32))
        assert [span.label for span in one.spans] == [("hum", "buzz")[number]]


def recorded_as(name: str, number: int) -> Recording:
    length = 200 / 11_025
    return Recording(
        file=name,
        source="mic",
        kind="audio",
        channels=["mic"],
        rate=11_025.0,
        samples=200,
        seconds=length,
        started=datetime(2027, 1, 15, 8, 0, number, tzinfo=timezone.utc),
        spans=[Span(("hum", "buzz")[number], 0, length)],
    )
