"""Tables as real loggers, spreadsheets and programs write them: read right, or refused with the line."""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.errors import ConfigError
from limpet.sources._recordings import Recording, load
from limpet.sources.tables.form import Form

CASES = Path(__file__).parents[1] / "data" / "cases"
NAN = math.nan


def read(folder: Path, content: str | bytes, **form: Any) -> Recording:
    path = folder / "r.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return load(path, form.get("channels", ()), None, Form(**form))


def refused(folder: Path, content: str | bytes, **form: Any) -> str:
    with pytest.raises(ConfigError) as error:
        read(folder, content, **form)
    (problem,) = error.value.problems
    assert problem.startswith(f"path: {folder / 'r.csv'}: ")
    return problem


TABLES: dict[str, str | bytes] = {
    "plain": "a,b\n1,-2.5\n3,4\n",
    "no end at the last line": "a,b\n1,-2.5\n3,4",
    "comments before the header": "# logger X1\n# rate: 2000, range: 4\na,b\n1,-2.5\n3,4\n",
    "comments within": "a,b\n1,-2.5\n# stopped, resumed\n3,4\n",
    "other comments": "// x\n% y\na,b\n1,-2.5\n3,4\n",
    "names in a comment, as numpy writes them": "# a,b\n1,-2.5\n3,4\n",
    "a preamble of pairs": "Device: X1\nSerial;123;7\n\na,b\n1,-2.5\n3,4\n",
    "a preamble of another width": "Logger X1,,,\nRate,100 Hz,on,x\n\na,b\n1,-2.5\n3,4\n5,6\n"[:-4],
    "a preamble of the same width": "Device,X1\nPlace,cellar\na,b\n1,-2.5\n3,4\n",
    "units in brackets below": "a,b\n[m/s2],[°C]\n1,-2.5\n3,4\n",
    "units below": "a,b\ng,°C\n1,-2.5\n3,4\n",
    "units in Latin-1": "a,b\ng,\xb0C\n1,-2.5\n3,4\n".encode("latin-1"),
    "units in each cell": "a,b\n1 g,-2.5 °C\n3 g,4 °C\n",
    "per cent": "a,b\n1%,-2.5\n3%,4\n",
    "semicolons": "a;b\n1;-2.5\n3;4\n",
    "semicolons and decimal comma": "a;b\n1,0;-2,5\n3,0;4,0\n",
    "decimal comma in quotes": '"a","b"\n"1,0","-2,5"\n"3,0","4,0"\n',
    "tabs": "a\tb\n1\t-2.5\n3\t4\n",
    "tabs and decimal comma": "a\tb\n1\t-2,5\n3\t4,25\n".replace("4,25", "4,0"),
    "blanks": "a b\n1  -2.5\n 3 4\n",
    "bars": "a|b\n1|-2.5\n3|4\n",
    "blanks behind the commas": "a, b\n1, -2.5\n3, 4\n",
    "Excel's first line": "sep=;\na;b\n1;-2,5\n3;4\n",
    "a byte order mark": b"\xef\xbb\xbfa,b\n1,-2.5\n3,4\n",
    "UTF-16": "a,b\r\n1,-2.5\r\n3,4\r\n".encode("utf-16"),
    "UTF-16 without a mark": "a,b\n1,-2.5\n3,4\n".encode("utf-16-le"),
    "CR LF": "a,b\r\n1,-2.5\r\n3,4\r\n",
    "CR": "a,b\r1,-2.5\r3,4\r",
    "quotes": '"a","b"\n"1","-2.5"\n"3","4"\n',
    "a delimiter at each end": "a,b,\n1,-2.5,\n3,4,\n",
    "a delimiter at the end of rows": "a,b\n1,-2.5,\n3,4,\n",
    "a delimiter at the end of the header": "a,b,\n1,-2.5\n3,4\n",
    "empty columns at the end": "a;b;;;\n1;-2.5;;;\n3;4;;;\n",
    "words for one and zero": "a,b\ntrue,-2.5\n3,4\n",
    "a cut last line": "a,b\n1,-2.5\n3,4\n5",
    "a cut last line of a name": "a,b\n1,-2.5\n3,4\n\n#",
    "blank lines at the end": "a,b\n1,-2.5\n3,4\n\n\n",
    "empty cells at the end": "a,b\n1,-2.5\n3,4\n,\n",
    "zeros where the file system lost the end": b"a,b\n1,-2.5\n3,4\n" + bytes(100),
    "zeros in the last line": b"a,b\n1,-2.5\n3,4\n5," + bytes(100),
    "the end of file of DOS": b"a,b\r\n1,-2.5\r\n3,4\r\n\x1a",
    "a plus sign": "a,b\n+1,-2.5\n+3,4e0\n",
    "a minus sign of typographers": "a,b\n1,\N{MINUS SIGN}2.5\n3,4\n",
    "thousands": 'a,b\n1,-2.5\n3,4\n"5,000","6,000.5"\n',
    "an index without a name": ",a,b\n0,1,-2.5\n1,3,4\n",
    "times": "time,a,b\n0,1,-2.5\n0.1,3,4\n",
    "a header again after a restart": "a,b\n1,-2.5\na,b\n3,4\n",
}


@pytest.mark.parametrize("content", TABLES.values(), ids=TABLES)
def test_tables_that_are_read(tmp_path: Path, content: str | bytes) -> None:
    found = read(tmp_path, content)
    assert found.channels == ("a", "b")
    assert found.values[:2].tolist() == [[1, -2.5], [3, 4]]


def test_the_recording_of_a_logger() -> None:
    found = load(CASES / "comments_before_header.csv", ("a_x", "a_y", "a_z"), None)
    assert found.channels == ("a_x", "a_y", "a_z")
    assert found.values.shape == (len((CASES / "comments_before_header.csv").read_text().splitlines()) - 4, 3)
    assert found.values[0].tolist() == pytest.approx([0.14, -0.07, -0.57])
    assert load(CASES / "comments_before_header.csv", (), None).channels == ("count", "a_x", "a_y", "a_z")


@pytest.mark.parametrize(
    "word",
    ["", "NA", "N/A", "#N/A", "NaN", "nan", "null", "NULL", "None", "-", "--", "?", "#DIV/0!", "-1.#IND", "ovf"],
)
def test_a_missing_value_is_no_number(tmp_path: Path, word: str) -> None:
    assert np.isnan(read(tmp_path, f"a,b\n1,2\n{word},4\n5,6\n").values).tolist() == [[0, 0], [1, 0], [0, 0]]


@pytest.mark.parametrize(
    "word", ["1_0", "1__0", "two", "1.2.3", "1,2", "0x", "12a", "1e", "--1", "٣", "1 2", "<0.1"]
)
def test_what_is_no_number_is_refused(tmp_path: Path, word: str) -> None:
    assert "line 3: column 'a': " in refused(tmp_path, f'a,b\n1,2\n"{word}",4\n', decimal=".")


TIMES: dict[str, tuple[str, list[str]]] = {
    "seconds": ("time", ["5", "5.5", "6"]),
    "a capital": ("Time", ["5", "5.5", "6"]),
    "in brackets": ("Time (s)", ["5", "5.5", "6"]),
    "milliseconds": ("time_ms", ["500", "1000", "1500"]),
    "milliseconds in brackets": ("Timestamp [ms]", ["500", "1000", "1500"]),
    "microseconds": ("time_us", ["500000", "1000000", "1500000"]),
    "microseconds with a slash": ("Time/us", ["500000", "1000000", "1500000"]),
    "millis": ("millis", ["500", "1000", "1500"]),
    "t": ("t", ["0", ".5", "1"]),
    "ts": ("ts", ["0", ".5", "1"]),
    "elapsed": ("seconds_elapsed", ["0.1", "0.6", "1.1"]),
    "Unix": ("timestamp", ["1735787045.0", "1735787045.5", "1735787046.0"]),
    "Unix in ms": ("timestamp", ["1735787045000", "1735787045500", "1735787046000"]),
    "Unix in us": ("timestamp", ["1735787045000000", "1735787045500000", "1735787046000000"]),
    "Unix in ns": ("epoch", ["1735787045000000000", "1735787045500000000", "1735787046000000000"]),
    "ISO": ("timestamp", ["2025-01-02T03:04:05", "2025-01-02T03:04:05.5", "2025-01-02T03:04:06"]),
    "ISO with Z": ("time", ["2025-01-02T03:04:05.000Z", "2025-01-02T03:04:05.500Z", "2025-01-02T03:04:06.000Z"]),
    "ISO with offsets": (
        "datetime",
        ["2025-01-02T03:04:05+00:00", "2025-01-02T05:04:05.5+02:00", "2025-01-02T03:04:06+0000"],
    ),
    "ISO with a blank": (
        "Timestamp",
        ["2025-01-02 03:04:05", "2025-01-02 03:04:05.500000", "2025-01-02 03:04:06"],
    ),
    "ISO with a comma": (
        "time",
        ['"2025-01-02 03:04:05,000"', '"2025-01-02 03:04:05,500"', '"2025-01-02 03:04:06,0"'],
    ),
    "ISO over midnight": ("time", ["2024-12-31T23:59:59.5Z", "2025-01-01T00:00:00Z", "2025-01-01T00:00:00.5Z"]),
    "compact": ("time", ["20250102T030405.0", "20250102T030405.5", "20250102T030406.0"]),
    "slashes": ("time", ["2025/01/02 03:04:05", "2025/01/02 03:04:05.5", "2025/01/02 03:04:06"]),
    "German": ("Zeit", ["02.01.2025 03:04:05", "02.01.2025 03:04:05.5", "02.01.2025 03:04:06"]),
    "American": ("time", ["12/31/2024 11:59:59.5 PM", "1/1/2025 12:00:00 AM", "1/1/2025 12:00:00.5 AM"]),
    "with a zone in the name": (
        '"Date Time, GMT+01:00"',
        ["01/02/25 03:04:05.0 PM", "01/02/25 03:04:05.5 PM", "01/02/25 03:04:06.0 PM"],
    ),
    "a month's name": ("time", ["02-Jan-2025 03:04:05", "02-Jan-2025 03:04:05.5", "02-Jan-2025 03:04:06"]),
    "time of day": ("time", ["03:04:05.0", "03:04:05.5", "03:04:06.0"]),
    "time of day over midnight": ("Time", ["23:59:59.5", "00:00:00.0", "00:00:00.5"]),
    "minutes": ("time", ["04:05.0", "04:05.5", "04:06.0"]),
    "date and time apart": ("Date,Time", ["2025-01-02,03:04:05", "2025-01-02,03:04:05.5", "2025-01-02,03:04:06"]),
    "date and time apart over midnight": (
        "date,time",
        ["31.12.2024,23:59:59.5", "01.01.2025,00:00:00", "01.01.2025,00:00:00.5"],
    ),
}


@pytest.mark.parametrize(("names", "times"), TIMES.values(), ids=TIMES)
def test_times_that_are_read(tmp_path: Path, names: str, times: list[str]) -> None:
    rows = "".join(f"{time},{n},{-n}\n" for n, time in enumerate(times))
    found = read(tmp_path, f"{names},a,b\n{rows}")
    assert found.channels == ("a", "b")
    assert found.seconds is not None
    assert found.seconds.tolist() == pytest.approx([0, 0.5, 1], abs=1e-9)
    assert found.rate == pytest.approx(2, rel=1e-3)
    assert found.gaps == ()


def test_a_column_called_by_a_number_sign(tmp_path: Path) -> None:
    table = '"Plot Title: x"\n"#","Date Time, GMT+01:00","Temp, °C"\n1,01/02/25 1:00:00 PM,20\n'
    assert read(tmp_path, table).channels == ("Temp, °C",)
    assert read(tmp_path, "#,time,a\n1,0,5\n2,1,6\n").channels == ("a",)


def test_a_row_of_units_says_what_the_times_are(tmp_path: Path) -> None:
    found = read(tmp_path, "time,a\n[ms],[g]\n0,1\n500,2\n1000,3\n")
    assert found.rate == pytest.approx(2)


def test_the_column_with_the_times_can_be_named(tmp_path: Path) -> None:
    table = "when it was,a\n0,1\n0.5,2\n1,3\n"
    assert read(tmp_path, table).channels == ("when it was", "a")
    found = read(tmp_path, table, time="when it was")
    assert (found.channels, found.rate) == (("a",), pytest.approx(2))
    assert read(tmp_path, "time,a\n7,1\n3,2\n", time="").channels == ("time", "a")


def test_a_channel_that_is_called_like_a_time_stays_one(tmp_path: Path) -> None:
    table = "t,a\n21.5,1\n21.4,2\n21.6,3\n"  # a temperature
    assert read(tmp_path, table).channels == ("t", "a")
    assert read(tmp_path, "ts,a\n1,1\n2,2\n3,3\n", channels=("ts", "a")).channels == ("ts", "a")


def test_a_clock_that_steps_back_is_a_gap(tmp_path: Path) -> None:
    found = read(tmp_path, "time,a\n10,1\n10.5,2\n11,3\n2,4\n2.5,5\n")
    assert found.values[:, 0].tolist() == [1, 2, 3, 4, 5]
    assert found.gaps == (3,)
    assert found.seconds is not None
    assert found.seconds.tolist() == pytest.approx([0, 0.5, 1, 1.5, 2])
    assert found.notes == ("its clock goes back 1 times; each is a gap",)


def test_a_header_again_is_a_gap(tmp_path: Path) -> None:
    assert read(tmp_path, TABLES["a header again after a restart"]).gaps == (1,)


def test_a_row_without_a_time_is_left_out_and_said(tmp_path: Path) -> None:
    found = read(tmp_path, "time,a\n0,1\nNA,2\n1,3\n")
    assert (found.values[:, 0].tolist(), found.gaps) == ([1, 3], (1,))
    assert found.notes == ("1 rows without a time were left out",)


def test_a_cut_last_line_is_said(tmp_path: Path) -> None:
    assert read(tmp_path, TABLES["a cut last line"]).notes == ("line 4 is cut short and was left out",)


@pytest.mark.parametrize(
    ("content", "form", "reason"),
    [
        ("a,b\n1,2\n3\n5,6\n", {}, "line 3: expected 2 columns, found 1"),
        ("a,b\n1,2\n3,4,5\n", {}, "line 3: expected 2 columns, found 3"),
        ("# x\n\na,b\n1,2\n1,two\n", {}, "line 5: column 'b': 'two' is not a number; name the columns"),
        ("a,label\n1,fine\n", {}, "line 2: column 'label': 'fine' is not a number; name the columns with numbers"),
        (
            "a;b\n1,234;2,345\n",
            {},
            """line 1: '1,234' may mean two numbers; set decimal = "." or decimal = ",\"""",
        ),
        ("a;b\n1,5;2\n1.5;2\n", {}, "line 3: column 'a': '1.5' is not a number with a decimal comma"),
        ("a,b\n1 mV,2\n1 V,2\n", {}, "line 3: column 'a' has values in 'V' and in 'mV'"),
        ("a,b\n1,2\n1 V,2\n", {}, "line 3: column 'a' has values in 'V' and in ''"),
        ("time,a\n0,1\nsoon,2\n", {}, "line 3: 'soon' is not a time"),
        ("time,a\n1/2/2025 1:00,1\n2/2/2025 1:00,2\n", {}, "the day and the month are ambiguous"),
        ("time,a\n" + "1/2/2025 1:00,1\n" * 60 + "2/2/2025 1:00,1\n", {}, "line 62: '2/2/2025 1:00'"),
        ("time,a\n2025-02-30 1:00,1\n", {}, "line 2: day is out of range"),
        ("time\n1\n2\n", {}, "no column besides the time"),
        ("a,b\n1,2\n", {"time": "c"}, "no column 'c'"),
        ("a,a\n1,2\n", {}, "two columns are called 'a'"),
        (b"a,b\n1,2\n3,\0\0\n5,6\n", {}, "line 3: has NUL bytes in it"),
        ("1,2\n3,4\n", {}, "line 1: no column names; give them in the first line or as channels"),
        ("", {}, "no column names"),
        ("\n\n", {}, "no column names"),
        ("# nothing\n", {}, "no column names"),
        ("a,b\n", {}, "has no rows of numbers below its column names"),
    ],
)
def test_tables_that_are_refused(tmp_path: Path, content: str | bytes, form: dict[str, Any], reason: str) -> None:
    assert reason in refused(tmp_path, content, **form)


def test_the_decimal_character_can_be_given(tmp_path: Path) -> None:
    table = "a;b\n1,234;2,345\n"
    assert read(tmp_path, table, decimal=",").values.tolist() == [pytest.approx([1.234, 2.345])]
    assert read(tmp_path, table, decimal=".").values.tolist() == [[1234, 2345]]


numbers = st.floats(-1e6, 1e6, allow_nan=False).map(lambda number: round(number, 4))


@given(
    rows=st.lists(st.tuples(numbers, numbers, numbers), min_size=2, max_size=20),
    form=st.tuples(
        st.sampled_from([",", ";", "\t", "|", " "]),
        st.sampled_from([".", ","]),
        st.sampled_from(["\n", "\r\n", "\r"]),
        st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    ),
)
def test_a_table_reads_the_same_in_every_form(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[float, float, float]],
    form: tuple[str, str, str, str],
) -> None:
    delimiter, decimal, end, encoding = form
    decimal = "." if delimiter == "," else decimal
    lines = [delimiter.join("abc")]
    lines += [delimiter.join(f"{n:.4f}".replace(".", decimal) for n in row) for row in rows]
    found = read(tmp_path_factory.getbasetemp(), (end.join(lines) + end).encode(encoding))
    assert found.channels == ("a", "b", "c")
    np.testing.assert_allclose(found.values, np.array(rows, np.float32), rtol=1e-6)


@given(
    content=st.one_of(
        st.binary(max_size=200),
        st.lists(
            st.sampled_from(
                [
                    "a",
                    "time",
                    "1",
                    "2.5",
                    "1,5",
                    "NA",
                    ",",
                    ";",
                    "\t",
                    "\n",
                    "\n",
                    "\r",
                    '"',
                    "#",
                    " ",
                    "2025-01-02",
                    "sep=;",
                    "\0",
                ]
            ),
            max_size=40,
        ).map(lambda parts: "".join(parts).encode()),
    )
)
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    with contextlib.suppress(ConfigError):
        found = read(tmp_path_factory.getbasetemp(), content)
        assert found.values.shape == (len(found.values), len(found.channels))
        assert found.seconds is None or (np.diff(found.seconds) >= 0).all()


@pytest.mark.parametrize("name", ["r.csv", "r.csv.gz", "r.npy", "r.wav"])
def test_a_fifo_in_place_of_a_recording_is_refused_at_once(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(ConfigError, match="is not a regular file"):
        load(tmp_path / name, [], None)
