"""What a session makes of records of the process that reads the source, without that process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.errors import ConfigError, SourceError, UnreadableError
from limpet.recorder import plot, screen, source_records
from limpet.recorder.session import Session, Wanted
from limpet.recorder.source_records import Block, Described, Ended, FromSource, Note, Status
from limpet.recordings import folder
from limpet.recordings.folder import MOST_GAPS, Span
from limpet.sources._recordings import load
from limpet.watch.words import cells

if TYPE_CHECKING:
    from pathlib import Path

    from limpet.recordings.folder import Recording

DESCRIBED = Described(["ax", "ay"], 100.0, live=False, units=["g", "m"])


def session(path: Path, described: Described = DESCRIBED, **wanted: Any) -> Session:
    made = Session(Wanted(path, "imu", "serial", **wanted))
    made.receive(described)
    return made


def block(begin: int, end: int, *, gap: bool = False, code: int | None = None) -> Block:
    """Samples of 100 Hz, from one number to another."""
    numbers = np.arange(begin, end)
    columns = [numbers, numbers + 0.5, *([] if code is None else [np.full(len(numbers), code)])]
    values = np.stack(columns, axis=1).astype(np.float32)
    return Block("float32", values.tobytes(), (numbers * 10_000_000).tobytes(), 1_800_000_000_000_000_000, gap)


def recorded(path: Path, made: Session) -> list[Recording]:
    made.close()
    return folder.read(path).recordings


@pytest.mark.parametrize(
    ("limits", "samples", "why"),
    [
        ({"samples": 120}, 120, "Recorded 120 samples"),
        ({"seconds": 0.5}, 50, "Recorded 0.5 s"),
        ({"size": 200}, 11, "The limit of 200 bytes is reached"),
    ],
    ids=str,
)
def test_a_recording_ends_at_its_limit(tmp_path: Path, limits: dict[str, Any], samples: int, why: str) -> None:
    made = session(tmp_path, **limits)
    for begin in range(0, 200, 20):
        made.receive(block(begin, begin + 20))
    assert why in made.ended
    assert not made.trouble
    (one,) = recorded(tmp_path, made)
    text = (tmp_path / one.file).read_text()
    assert len(text.splitlines()) - 1 == one.samples == samples
    assert "size" not in limits or len(text) <= 200


def test_units_follow_their_channels_and_a_channel_carries_the_label(tmp_path: Path) -> None:
    described = Described(["code", "ax", "ay"], 100.0, live=False, units=["", "g", "m"])
    made = session(tmp_path, described, label_channel="code", labels=("sit", "walk"))
    codes = [1] * 50 + [0] * 10 + [2] * 40 + [7] * 10 + [1.5] * 10
    values = np.stack([codes, np.arange(120), np.arange(120)], axis=1).astype(np.float64)
    times = np.arange(120) * 10_000_000
    made.receive(Block("float64", values.tobytes(), times.tobytes(), 0, gap=False))
    (one,) = recorded(tmp_path, made)
    assert (one.channels, one.units) == (["ax", "ay"], ["g", "m"])
    assert one.spans == [Span("sit", 0, 0.5), Span("walk", 0.6, 1.0)]
    assert made.unknown_labels == 2
    assert made.labelled == {"sit": 50, "walk": 40, "": 30}


@pytest.mark.parametrize(
    ("described", "wanted", "problem"),
    [
        (DESCRIBED, {"label_channel": "x", "labels": ("a",)}, "has no channel 'x'; it has ax, ay"),
        (DESCRIBED, {"units": ("g",)}, "1 units for 2 channels"),
        (Described(["time", "ax"], None, live=True), {}, "a channel is called 'time'"),
        (Described(["label", "ax"], None, live=True), {}, "--label-channel label"),
        (Described(["code"], None, live=True), {"label_channel": "code", "labels": ("a",)}, "no other channel"),
    ],
    ids=str,
)
def test_what_cannot_be_recorded_is_an_error(
    tmp_path: Path, described: Described, wanted: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem.replace("(", r"\(")):
        session(tmp_path, described, **wanted)


def test_after_the_limit_of_gaps_another_recording_begins(tmp_path: Path) -> None:
    made = session(tmp_path, label="walk")
    for number in range(MOST_GAPS + 5):
        made.receive(block(2 * number, 2 * number + 2, gap=True))
    first, second = recorded(tmp_path, made)
    assert (len(first.gaps), first.samples) == (MOST_GAPS, 2 * MOST_GAPS + 2)
    assert second.samples == 2 * 4
    assert second.spans == [Span("walk", 0, second.seconds)]


def test_a_process_that_was_started_again_leaves_a_gap_and_its_counts_add_up(tmp_path: Path) -> None:
    made = session(tmp_path)
    made.receive(Status(None, {"crc": 2}))
    made.receive(block(0, 10))
    made.receive(DESCRIBED)
    made.receive(Status(None, {"crc": 1, "queue": 3}))
    made.receive(block(50, 60))
    made.receive(Ended())
    assert made.ended
    (one,) = recorded(tmp_path, made)
    assert one.gaps == [0.5]
    assert one.dropped == {"crc": 3, "queue": 3}
    with pytest.raises(SourceError, match="other channels"):
        made.receive(Described(["x"], None, live=True))


def at(value: float, nanoseconds: int) -> Block:
    return Block("float64", np.float64(value).tobytes(), np.int64(nanoseconds).tobytes(), 0, gap=False)


def statuses(runs: int) -> list[FromSource]:
    """A process that is started again and again, each time with other causes and the largest counts."""
    one = Described(["a"], 100.0, live=True)
    return [
        record
        for run in range(runs)
        for record in (one, Status(None, {f"{run}-{number}": 1 << 53 for number in range(100)}), at(1.0, run))
    ]


@pytest.mark.parametrize(
    "records",
    [
        [Described(["a"], 1e-300, live=True), at(1.0, 0)],
        [Described(["a"], None, live=True), *(at(1.0, 1000 * (number == 4999)) for number in range(5000))],
        [Described(["a"], 100.0, live=True), at(1.0, 1 << 62), at(1.0, -(1 << 63)), at(1.0, 1 << 62)],
        [Described(["a"], 100.0, live=True), at(1e308, 0), at(-1e308, 10**7)],
        statuses(3),
    ],
    ids=["rate", "burst", "clock", "values", "causes"],
)
def test_whatever_the_process_sends_the_recording_is_listed(tmp_path: Path, records: list[FromSource]) -> None:
    made = Session(Wanted(tmp_path, "imu", "serial"))
    for record in records:
        made.receive(record)
        made.tick()
        for line in screen.frame(made, "title", 1.0, (), (80, 24)):
            assert line.isprintable()
    (one,) = recorded(tmp_path, made)
    assert one.samples == sum(isinstance(record, Block) for record in records)
    assert not made.trouble


def test_wide_names_stay_in_their_columns(tmp_path: Path) -> None:
    names = ["\u6e29\u5ea6", "\u6e29\u5ea6\u30bb\u30f3\u30b5\u30fc\u306e\u5e73\u5747\u5024", "b"]
    rows = screen.channels(names, np.ones((1, 3)), 80, 9)
    assert len({cells(row) for row in rows}) == 1
    made = session(tmp_path, Described(["a"], 100.0, live=True))
    title, *_ = screen.frame(made, names[1] * 20, 1.0, (), (80, 24))
    assert cells(title) <= 79


def test_channels_with_the_same_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="two channels with the same name"):
        session(tmp_path, Described(["a", "a"], None, live=True))


def test_warnings_without_end_take_no_memory_without_end(tmp_path: Path) -> None:
    made = session(tmp_path)
    for number in range(1000):
        made.receive(Note(str(number)))
    assert made.notes[:2] == ["0", "1"]
    assert made.notes[100:] == ["further warnings of the source are left out"]


@pytest.mark.parametrize("values", [[np.nan], [np.inf, -np.inf, np.nan], [1e308, -1e308], [-1.5e308], [3.0, 3.0]])
def test_any_values_can_be_drawn(values: list[float]) -> None:
    drawn = plot.braille(np.arange(len(values), dtype=float), np.array([values]).T, (0.0, 9.0), (20, 5))
    assert [len(line) for line in drawn] == [20] * 5
    assert any(character != "\N{BRAILLE PATTERN BLANK}" for line in drawn for character in line)
    assert len(screen.sparkline(np.array(values), 20)) == len(values)


def test_samples_before_their_description_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="before it describes them"):
        Session(Wanted(tmp_path, "imu", "serial")).receive(block(0, 1))
    assert not list(tmp_path.iterdir())


@given(st.binary(max_size=64), st.binary(max_size=64), st.sampled_from(["float32", "float64"]))
def test_a_block_that_does_not_fit_is_refused(values: bytes, times: bytes, dtype: Any) -> None:
    made = Block(dtype, values, times, 0, gap=False)
    try:
        array, stamps = source_records.arrays(made, 2)
    except UnreadableError:
        return
    assert array.shape == (len(stamps), 2)
    assert (stamps[1:] >= stamps[:-1]).all()  # a difference could overflow


@given(st.binary(max_size=200))
def test_any_bytes_of_that_process_are_a_record_or_refused(data: bytes) -> None:
    try:
        msgspec.msgpack.decode(data, type=FromSource)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return


def test_values_that_are_not_finite_are_dropped_and_counted(tmp_path: Path) -> None:
    made = session(tmp_path)
    values = np.array([[1, 2], [np.nan, 2], [3, np.inf], [4, 5]], np.float32)
    times = np.arange(4) * 10_000_000
    made.receive(Block("float32", values.tobytes(), times.tobytes(), 0, gap=False))
    (one,) = recorded(tmp_path, made)
    assert (one.samples, one.dropped) == (2, {"not_finite": 2})


def test_a_time_far_away_costs_no_earlier_sample(tmp_path: Path) -> None:
    made = session(tmp_path)
    made.receive(block(0, 10))
    times = np.array([1 << 61, (1 << 61) + 1], np.int64)
    with pytest.raises(SourceError, match="years after"):
        made.receive(Block("float32", bytes(16), times.tobytes(), 0, gap=False))
    assert [one.samples for one in recorded(tmp_path, made)] == [10]


def test_the_rate_is_measured_between_gaps_if_the_source_says_none_or_another(tmp_path: Path) -> None:
    for said, measured in ((None, 100.0), (100.0, 100.0), (25.0, 100.0)):
        made = session(tmp_path, Described(["ax", "ay"], said, live=False))
        made.receive(block(0, 100))
        made.receive(block(1000, 1100, gap=True))
        one = recorded(tmp_path, made)[-1]
        assert one.rate == pytest.approx(measured)
        assert ["25" in note for note in made.notes] == [True] * (said == 25.0)


SOUND = Described(["sound"], 16_000.0, live=False, wave=True)


def noise(begin: int, end: int, *, gap: bool = False) -> Block:
    values = (np.arange(begin, end) / 100_000).astype(np.float32)
    return Block(
        "float32", values.tobytes(), (np.arange(begin, end) * 62_500).tobytes(), 1_800_000_000_000_000_000, gap
    )


def test_sound_is_written_as_wav_with_labels_by_its_own_time(tmp_path: Path) -> None:
    made = session(tmp_path, SOUND, label="hum", samples=3000)
    for begin in range(0, 4000, 400):
        made.receive(noise(begin, begin + 400))
    (one,) = recorded(tmp_path, made)
    assert (one.file.endswith(".wav"), one.rate, one.samples, one.seconds) == (True, 16_000, 3000, 0.1875)
    assert one.spans == [Span("hum", 0, 0.1875)]
    loaded = load(tmp_path / one.file, [], None)
    np.testing.assert_array_equal(loaded.values[:, 0], (np.arange(3000) / 100_000).astype(np.float32))
    assert (loaded.channels, loaded.rate) == (("sound",), 16_000)


def test_a_gap_in_sound_begins_another_file(tmp_path: Path) -> None:
    made = session(tmp_path, SOUND, label="hum")
    made.receive(noise(0, 400))
    made.receive(noise(1000, 1400, gap=True))
    made.receive(noise(1400, 1800))
    assert [(one.samples, one.gaps) for one in recorded(tmp_path, made)] == [(400, []), (800, [])]


def test_a_limit_of_bytes_leaves_whole_samples_of_sound(tmp_path: Path) -> None:
    made = session(tmp_path, SOUND, size=1000)
    made.receive(noise(0, 400))
    (one,) = recorded(tmp_path, made)
    assert made.ended == "The limit of 1,000 bytes is reached."
    assert (tmp_path / one.file).stat().st_size == 58 + 4 * one.samples <= 1000
