"""Tables whose times or columns could be taken for something else: never a wrong factor or a wrong channel."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any

import pytest

from limpet.errors import ConfigError
from limpet.sources._recordings import load
from limpet.sources.tables.form import Form

if TYPE_CHECKING:
    from pathlib import Path

    from limpet.sources._recordings import Recording


def loaded(folder: Path, text: str | bytes, *channels: str, name: str = "r.csv", **form: Any) -> Recording:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load(path, channels, None, Form(channels=channels, **form))


@pytest.mark.parametrize(
    ("header", "times", "step"),
    [
        ("time", ["20250101000059", "20250101000100"], 1),
        ("time", ["20250101000059250", "20250101000059500"], 0.25),
        ("time", ["20250101000059.25", "20250101000059.5"], 0.25),
        ("time", ["202501010059", "202501010100"], 60),
        ("date,time", ["20250101,000059", "20250101,000100"], 1),
        ("date", ["20250131", "20250201"], 86400),
        ("time", ["1700000000000", "1700000000010"], 0.01),
        ("time", ["2025-01-01 00:00:59 CET", "2025-01-01 00:01:00 CET"], 1),
        ("time", ["2025-01-01T00:00:59+01:00[Europe/Berlin]", "2025-01-01T00:01:00+01:00[Europe/Berlin]"], 1),
        ("Datum;Uhrzeit", ["01.02.2025;12:00:00", "01.02.2025;12:00:01"], 1),
        ("Data;Ora", ["31/01/2025;23:59:59", "01/02/2025;00:00:00"], 1),
        ("", ["2025-01-01 00:00:00", "2025-01-01 00:00:01"], 1),
        ("when it was", ["2025-01-01 00:00:00", "2025-01-01 00:00:01"], 1),
        ("Date", ["45000.5", "45000.50001157407"], 1),
        ("time (d)", ["45000.5", "45000.50001157407"], 1),
        ("timeMs", ["10", "20"], 0.01),
        ("time", ["Wed Jan  1 00:00:59 2025", "Wed Jan  1 00:01:00 2025"], 1),
        ("time.ms", ["10", "20"], 0.01),
        ("Elapsed ms", ["10", "20"], 0.01),
        ("millis()", ["10", "20"], 0.01),
        ("uptime_ms", ["10", "20"], 0.01),
    ],
)
def test_times_are_never_off_by_a_factor(tmp_path: Path, header: str, times: list[str], step: float) -> None:
    mark = ";" if ";" in header + times[0] else ","
    recording = loaded(tmp_path, f"{header}{mark}a\n{times[0]}{mark}1.5\n{times[1]}{mark}2.5\n")
    assert recording.channels == ("a",)
    assert recording.values.tolist() == [[1.5], [2.5]]
    assert recording.seconds is not None
    assert recording.seconds.tolist() == pytest.approx([0, step], rel=1e-3)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("time,a\n45000.5,1\n45000.50001157,2\n", "may be days"),
        ("timestamp,a\n739000.5,1\n739000.50001157,2\n", "may be days"),
        ("time,a\n2025-10-26 02:59:59 CEST,1\n2025-10-26 02:00:00 CET,2\n", "zone changes from CEST to CET"),
        ("time,a\n5,1\n5,2\n", "all its times are the same; set `rate`"),
        ("PK\x03\x04", "save the sheet as CSV"),
        ('[{"a": 1}]\n', "has no rows of numbers below its column names"),
    ],
)
def test_what_could_mean_two_things_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(ConfigError) as error:
        loaded(tmp_path, text)
    assert reason in error.value.problems[0]


def test_seconds_of_a_clock_that_runs_since_half_a_day_are_seconds(tmp_path: Path) -> None:
    recording = loaded(tmp_path, "time,a\n45000.123,1\n45000.133,2\n45000.143,3\n")
    assert recording.rate == pytest.approx(100)


@pytest.mark.parametrize("name", ["Unnamed: 0", "index", "", "Sample", "RECORD"])
def test_a_count_of_rows_is_no_channel_unless_it_is_named(tmp_path: Path, name: str) -> None:
    text = f"{name},ax,ay\n0,1.5,2\n1,2.5,3\n2,3.5,4\n"
    assert loaded(tmp_path, text).channels == ("ax", "ay")
    if name and "Unnamed" not in name:
        assert loaded(tmp_path, text, name, "ay").values.tolist() == [[0, 2], [1, 3], [2, 4]]


def test_a_first_column_that_its_unit_calls_a_time_is_one(tmp_path: Path) -> None:
    recording = loaded(tmp_path, "x-axis,1,2\nsecond,Volt,Volt\n0.001,5,6\n0.002,7,8\n0.003,7,8\n")
    assert recording.channels == ("1", "2")
    assert recording.rate == pytest.approx(1000)


@pytest.mark.parametrize("end", [",", "\t", ";", " "])
@pytest.mark.parametrize("stamp", ["12:00:0{}.250 -> ", "[2025-01-01 12:00:0{},250] ", "12:00:0{}.250 > "])
def test_the_time_of_a_serial_monitor_is_read(tmp_path: Path, stamp: str, end: str) -> None:
    lines = "".join(f"{stamp.format(n)}{n}.5{end}{n + 1}\r\n" for n in range(6))
    recording = loaded(tmp_path, lines, "a", "b", name="r.txt")
    assert recording.values[:2].tolist() == [[0.5, 1], [1.5, 2]]
    assert recording.rate == 1
    header = f"{stamp.format(0)}b{end}a\r\n"
    assert loaded(tmp_path, header + lines, "a", name="r.txt").values[:2].tolist() == [[1], [2]]


def test_words_between_rows_are_left_out_and_noted(tmp_path: Path) -> None:
    recording = loaded(tmp_path, "time,a\n0,1\nlink lost\n1,2\nEnd of file\n")
    assert recording.values.tolist() == [[1], [2]]
    assert recording.notes == ("2 lines are no rows and were left out, line 3 first",)


@pytest.mark.parametrize("word", ["#NV", "#WERT!", "n.a.", "OL", "I/O Timeout", "****", "<NA>"])
def test_words_of_loggers_for_no_value_are_missing(tmp_path: Path, word: str) -> None:
    recording = loaded(tmp_path, f"time,a\n0,1\n1,{word}\n2,3\n")
    assert str(recording.values.tolist()) == "[[1.0], [nan], [3.0]]"


def test_a_last_number_that_is_cut_is_left_out(tmp_path: Path) -> None:
    rows = "".join(f"{n},{n}.25\n" for n in range(6))
    assert len(loaded(tmp_path, f"time,a\n{rows}6,6.2").values) == 6
    assert len(loaded(tmp_path, f"time,a\n{rows}6,6.25").values) == 7


def test_gzip_is_known_by_its_content(tmp_path: Path) -> None:
    assert loaded(tmp_path, gzip.compress(b"time,a\n0,1\n1,2\n")).values.tolist() == [[1], [2]]


@pytest.mark.parametrize("line", ["ay:{}.5,ax:-2\r\n", "ay={}.5 ax=-2\n", "ay: {}.5\tax: -2e0\r"])
def test_numbers_behind_their_names_are_read_by_name(tmp_path: Path, line: str) -> None:
    text = "".join(line.format(n) for n in range(4))
    recording = loaded(tmp_path, text, "ax", "ay", name="r.txt")
    assert recording.values[:2].tolist() == [[-2, 0.5], [-2, 1.5]]
    assert loaded(tmp_path, text, name="r.txt").channels == ("ay", "ax")


def test_a_line_with_other_names_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="names ay, ax; the lines before name ax, ay"):
        loaded(tmp_path, "ax:1,ay:2\n" * 100 + "ay:1,ax:2\n")


def test_what_a_board_says_at_its_start_is_no_row(tmp_path: Path) -> None:
    boot = "ets Jun  8 2016 00:22:57\r\nrst:0x1 (POWERON_RESET),boot:0x13\r\n"
    recording = loaded(tmp_path, boot + "1,2,3\r\n4,5,6\r\n7,8,9\r\n", "a", "b", "c", name="r.txt")
    assert recording.values[0].tolist() == [1, 2, 3]


def test_a_name_that_may_be_a_quantity_is_said_to_be_the_time(tmp_path: Path) -> None:
    text = "t,h\n20.5,40\n21.5,41\n"
    assert 'set time = ""' in loaded(tmp_path, text).notes[0]
    assert loaded(tmp_path, text, time="").channels == ("t", "h")


def test_a_line_that_is_almost_a_name_and_a_number_costs_no_time_without_end(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        loaded(tmp_path, "a:" + "1" * 60_000 + "!\n")
    assert len(loaded(tmp_path, "a:1,b:2\n" * 60 + "a" * 60_000 + "\n").values) == 60
