"""The folder of recordings as foreign data, and changes to it that do not lose each other."""

from __future__ import annotations

import json
import multiprocessing
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.errors import UnreadableError
from limpet.recordings import folder, spans
from limpet.recordings.folder import Recording, Recordings, Span

STARTED = datetime(2026, 11, 28, 13, 40, tzinfo=timezone.utc)


def recording(file: str = "a.csv", **more: Any) -> Recording:
    made = Recording(
        file=file, source="imu", kind="serial", channels=["ax", "ay"], samples=100, seconds=10.0, started=STARTED
    )
    return msgspec.structs.replace(made, **more)


def written(path: Path, *recordings: Recording) -> Path:
    with folder.changing(path) as found:
        found.recordings += recordings
    return path


def test_what_was_written_is_read(tmp_path: Path) -> None:
    one = recording(units=["g", "g"], rate=10.0, gaps=[1.5], dropped={"crc": 2}, spans=[Span("walk", 0, 2.5)])
    assert not folder.is_one(tmp_path)
    assert folder.read(tmp_path) == Recordings()
    written(tmp_path, one)
    assert folder.is_one(tmp_path)
    assert folder.read(tmp_path).recordings == [one]


@pytest.mark.parametrize(
    "change",
    [
        {"file": "../a.csv"},
        {"file": "/etc/passwd"},
        {"file": ".hidden"},
        {"file": "a\n.csv"},
        {"file": "recordings.json"},
        {"channels": []},
        {"channels": ["a", "a"]},
        {"units": ["g"]},
        {"rate": 0},
        {"samples": -1},
        {"seconds": 1e300},
        {"started": "2026-11-28T13:40:00"},
        {"spans": [{"label": "a/b", "begin": 0, "end": 1}]},
        {"spans": [{"label": "a", "begin": 1, "end": 1}]},
        {"spans": [{"label": "a", "begin": 0, "end": 2}, {"label": "b", "begin": 1, "end": 3}]},
        {"gaps": [0.5] * 1001},
        {"surprise": 1},
    ],
    ids=str,
)
def test_a_damaged_description_is_refused_with_the_path(tmp_path: Path, change: dict[str, Any]) -> None:
    entry = msgspec.to_builtins(recording()) | change
    (tmp_path / "recordings.json").write_text(json.dumps({"format": 1, "recordings": [entry]}))
    with pytest.raises(UnreadableError, match=r"recordings\.json could not be read"):
        folder.read(tmp_path)


def test_two_recordings_cannot_share_a_file(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match="same file"):
        written(tmp_path, recording("a.csv"), recording("A.csv"))
    assert not folder.is_one(tmp_path)


def test_other_formats_are_refused(tmp_path: Path) -> None:
    (tmp_path / "recordings.json").write_text('{"format": 2, "recordings": []}')
    with pytest.raises(UnreadableError, match="format"):
        folder.read(tmp_path)


def test_a_link_in_place_of_a_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside.csv").write_text("time,ax,ay\n")
    inner = tmp_path / "folder"
    inner.mkdir()
    (inner / "a.csv").symlink_to(tmp_path / "outside.csv")
    with pytest.raises(UnreadableError, match="symbolic link"):
        folder.path_of(inner, recording())
    (inner / "recordings.json").symlink_to(tmp_path / "outside.csv")
    with pytest.raises(UnreadableError, match="symbolic link"):
        folder.read(inner)


@given(st.binary(max_size=300))
def test_any_bytes_are_recordings_or_unreadable(data: bytes) -> None:
    try:
        assert isinstance(folder.decode(data, "x"), Recordings)
    except UnreadableError as error:
        assert "x could not be read" in str(error)  # noqa: PT017 - most bytes are unreadable


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(Recording.__struct_fields__), _JSON, min_size=1, max_size=3))
def test_an_entry_with_any_values_is_checked_or_refused(change: dict[str, Any]) -> None:
    data = json.dumps({"format": 1, "recordings": [msgspec.to_builtins(recording()) | change]}).encode()
    try:
        (found,) = folder.decode(data, "x").recordings
    except UnreadableError:
        return
    assert Path("/folder") == (Path("/folder") / found.file).parent
    assert all(span.begin < span.end for span in found.spans)
    folder.encode(Recordings(recordings=[found]))


def _add(path: Path, name: str) -> None:
    for number in range(20):
        with folder.changing(path) as found:
            found.recordings.append(recording(f"{name}{number}.csv"))


def test_two_processes_do_not_lose_each_others_changes(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    both = [fork.Process(target=_add, args=(tmp_path, name)) for name in "ab"]
    for one in both:
        one.start()
    for one in both:
        one.join(30)
    assert len(folder.read(tmp_path).recordings) == 40


def test_an_error_in_the_middle_of_a_change_writes_nothing(tmp_path: Path) -> None:
    written(tmp_path, recording())

    def fail() -> None:
        with folder.changing(tmp_path) as found:
            found.recordings.clear()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert len(folder.read(tmp_path).recordings) == 1


def test_a_window_has_a_label_if_it_lies_wholly_in_one_span() -> None:
    known = [Span("sit", 0, 5), Span("walk", 5, 9)]
    assert spans.label_of(known, 0, 4.9) == "sit"
    assert spans.label_of(known, 5, 8.9) == "walk"
    assert not spans.label_of(known, 4, 5)
    assert not spans.label_of(known, 8, 9)


_edges = st.tuples(st.integers(0, 30), st.integers(1, 10)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@given(st.lists(st.tuples(st.sampled_from(["a", "b", ""]), _edges), max_size=12))
def test_edits_change_the_label_of_exactly_the_chosen_time(edits: list[tuple[str, tuple[int, int]]]) -> None:
    expected = [""] * 41
    found: list[Span] = []
    for label, (begin, end) in edits:
        expected[begin:end] = [label] * (end - begin)
        found = spans.with_span(found, label, begin, end) if label else spans.without(found, begin, end)
    assert [spans.label_of(found, at, at) for at in range(41)] == expected
    recording(spans=found).__post_init__()
    assert sum(spans.seconds_of(found).values()) == sum(map(bool, expected))
