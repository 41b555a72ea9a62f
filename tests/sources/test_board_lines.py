"""Lines as real boards print them, with what stands between the samples."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet import plugins
from limpet.contracts.data import SampleSpec
from limpet.contracts.fields import WindowSpec
from limpet.inference.window import Windower
from limpet.sources._rows import Calibration, Continuity, Shaper

if TYPE_CHECKING:
    from limpet.contracts.data import Rows

CASES = Path(__file__).parents[1] / "data" / "cases"


def read(
    kind: str, data: bytes, channels: tuple[str, ...] = ("a", "b"), **config: Any
) -> tuple[Rows, Counter[str]]:
    """Feed what a board sends after the rest of a line."""
    dropped: Counter[str] = Counter()
    module = plugins.load("framings", kind)
    framing = module.open(module.Config(**config), channels, dropped)
    return framing.feed(b"\n" + data), dropped


LINES: dict[str, tuple[bytes, dict[str, Any]]] = {
    "commas": (b"1.5,-2\n3,4.25\n", {}),
    "CR alone": (b"1.5,-2\r3,4.25\r", {}),
    "CR LF": (b"1.5,-2\r\n3,4.25\r\n", {}),
    "LF CR": (b"1.5,-2\n\r3,4.25\n\r", {}),
    "semicolons": (b"1.5;-2\n3;4.25\n", {}),
    "semicolons and decimal comma": (b"1,5;-2\n3;4,25\n", {}),
    "semicolons and decimal comma, configured": (b"1,5;-2\n3;4,25\n", {"delimiter": ";", "decimal": ","}),
    "decimal comma in the second line": (b"1,5;-2,0\n3,0;4,25\n", {"delimiter": ";"}),
    "tabs": (b"1.5\t-2\n3\t4.25\n", {}),
    "tabs and decimal comma": (b"1,5\t-2\n3\t4,25\n", {}),
    "blanks": (b"1.5 -2\n3   4.25\n", {}),
    "bars": (b"1.5 | -2\n3 | 4.25\n", {}),
    "a semicolon at the end": (b"1.5,-2;\n3,4.25;\n", {}),
    "a byte order mark": (b"\xef\xbb\xbf1.5,-2\n3,4.25\n", {}),
    "names as the sketch of a DHT has them": (b"a: 1.5 *C\tb: -2 %\na: 3 *C\tb: 4.25 %\n", {}),
    "quotes": (b'"1.5","-2"\n"3","4.25"\n', {}),
    "a delimiter at the end": (b"1.5,-2,\n3,4.25,\n", {}),
    "brackets": (b"[1.5, -2]\n[3, 4.25]\n", {}),
    "parentheses": (b"(1.5, -2)\n(3, 4.25)\n", {}),
    "names and colons": (b"a:1.5,b:-2\na:3,b:4.25\n", {}),
    "names and blanks": (b"a:1.5 b:-2\na:3 b:4.25\n", {}),
    "names and tabs": (b"a:1.5\tb:-2\na:3\tb:4.25\n", {}),
    "names and a blank behind the colon": (b"a: 1.5, b: -2\na: 3, b: 4.25\n", {}),
    "names and equals signs": (b"a=1.5 b=-2\na = 3 b = 4.25\n", {}),
    "names in another order": (b"b:-2,a:1.5\nb:4.25,a:3\n", {}),
    "names in another case": (b"A:1.5,B:-2\nA:3,B:4.25\n", {}),
    "more names": (b"min:-10,a:1.5,b:-2,max:10\nmin:-10,a:3,b:4.25,max:10\n", {}),
    "names and decimal comma": (b"a:1,5 b:-2\na:3 b:4,25\n", {}),
    "names and units": (b"a: 1.5 mV, b: -2 g\na: 3 mV, b: 4.25 g\n", {}),
    "names and units without commas": (b"a: 1.5 C b: -2 %\na: 3 C b: 4.25 %\n", {}),
    "a name before the numbers": (b"acc a:1.5 b:-2\nacc a:3 b:4.25\n", {}),
    "units": (b"1.5C,-2%\n3C,4.25%\n", {}),
    "units in UTF-8": ("1.5 °C,-2 %\n3 °C,4.25 %\n".encode(), {}),
    "units in Latin-1": ("1.5 °C,-2 %\n3 °C,4.25 %\n".encode("latin-1"), {}),
    "hexadecimal": (b"1.5,-0x2\n0x3,4.25\n", {}),
    "colours": (b"\x1b[0;32m1.5,-2\x1b[0m\n\x1b[0;32m3,4.25\x1b[0m\n", {}),
    "zeros": (b"1.5,-2\0\n\x003,4.25\n", {}),
}


@pytest.mark.parametrize(("data", "config"), LINES.values(), ids=LINES)
def test_lines_of_numbers_that_are_read(data: bytes, config: dict[str, Any]) -> None:
    rows, dropped = read("csv", data, **config)
    assert rows.values.tolist() == [[1.5, -2], [3, 4.25]]
    assert not rows.gap.any()
    assert not dropped


NOT_DATA = [
    b"[00:00:07.000] <inf> main: alive",
    b"[00:00:07.123,456] \x1b[0m<inf> sensor: heap 1234, stack 12\x1b[0m",
    b"I (1234) wifi: connected, ip 192.168.1.7",
    b"ets Jul 29 2019 12:21:46",
    b"rst:0x1 (POWERON_RESET),boot:0x13 (SPI_FAST_FLASH_BOOT)",
    b"load:0x3fff0030,len:1184",
    b"configsip: 0, SPIWP:0xee",
    b"entry 0x400805f0",
    b"$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47",
    b"2025-01-02 03:04:05,123 INFO started",
    b"Adafruit LIS3DH test!",
    b"WiFi connected",
    b"free heap: 23412",
    b"heap, 5",
    b"[I][main.cpp:42] loop(): tick 5, 6",
    b"x,y",
    b"Temperature,Humidity",
    b"uart:~$ ",
    b">>> ",
    b"OK",
    b"-----",
    b"=== boot ===",
    "Größe: klein".encode(),
    b"; a remark",
]


@pytest.mark.parametrize("line", NOT_DATA)
@pytest.mark.parametrize("kind", ["csv", "json"])
def test_a_line_that_is_not_data_is_no_lost_sample(kind: str, line: bytes) -> None:
    good = [b"1,2\n", b"3,4\n"] if kind == "csv" else [b'{"a":1,"b":2}\n', b'{"a":3,"b":4}\n']
    rows, dropped = read(kind, good[0] + line + b"\r\n" + good[1])
    assert rows.values.tolist() == [[1, 2], [3, 4]]
    assert not rows.gap.any()
    assert dropped == {"not_data": 1}


@pytest.mark.parametrize("line", [b"# remark", b"// remark", b"a,b", b"", b"\x1b[2J"])
def test_comments_and_headers_are_skipped(line: bytes) -> None:
    rows, dropped = read("csv", b"1,2\n" + line + b"\n3,4\n")
    assert (rows.gap.tolist(), dropped) == ([False, False], {})


@pytest.mark.parametrize("word", [b"nan", b"NaN", b"ovf", b"NA", b"null", b"--"])
def test_a_value_that_is_missing_is_not_a_number(word: bytes) -> None:
    rows, dropped = read("csv", b"1," + word + b"\n3,4\n")
    assert np.isnan(rows.values).tolist() == [[False, True], [False, False]]
    assert not dropped


def test_a_unit_that_changes_is_damage() -> None:
    rows, dropped = read("csv", b"980mV,1\n1.2V,1\n990mV,1\n")
    assert rows.values.tolist() == [[980, 1], [990, 1]]
    assert (rows.gap.tolist(), dropped) == ([False, True], {"malformed": 1})


def test_another_form_is_read_from_its_second_line_on() -> None:
    rows, dropped = read("csv", b"1,2\n3;4\n5;6\n7;8\n")
    assert rows.values.tolist() == [[1, 2], [5, 6], [7, 8]]
    assert (rows.gap.tolist(), dropped) == ([False, True, False], {"malformed": 1})


def test_one_channel_with_a_decimal_comma_must_be_configured() -> None:
    assert read("csv", b"1,5\n", ("a",))[1] == {"malformed": 1}  # it may as well be two numbers
    assert read("csv", b"1,5\n", ("a",), decimal=",", delimiter=";")[0].values.tolist() == [[1.5]]


def test_names_that_are_missing_are_a_lost_sample() -> None:
    rows, dropped = read("csv", b"a:1,b:2\na:3\na:5,b:x7\na:9,b:10\n")
    assert rows.values.tolist() == [[1, 2], [9, 10]]
    assert (rows.gap.tolist(), dropped) == ([False, True], {"fields": 1, "malformed": 1})


OBJECTS: dict[str, tuple[bytes, dict[str, Any]]] = {
    "plain": (b'{"a": 1.5, "b": -2}', {}),
    "nested": (b'{"imu": {"a": 1.5, "b": -2}, "t": 7}', {}),
    "nested deeper": (b'{"imu": {"acc": {"a": 1.5}, "b": -2}}', {}),
    "numbers in quotes": (b'{"a": "1.5", "b": "-2"}', {}),
    "units in quotes": (b'{"a": "1.5 C", "b": "-2%"}', {}),
    "a logger's prefix": (b'[00:00:07.000] <inf> main: {"a": 1.5, "b": -2}', {}),
    "a comma behind": (b'{"a": 1.5, "b": -2},', {}),
    "in an array": (b'[{"a": 1.5, "b": -2}]', {}),
    "as Python prints it": (b"{'a': 1.5, 'b': -2, 'c': None, 'd': True}", {}),
    "paths": (b'{"x": {"y": 1.5}, "v": [0, -2]}', {"paths": {"a": "x.y", "b": "v[1]"}}),
    "an array in quotes": (b'["1.5", "-2"]', {}),
}


@pytest.mark.parametrize(("line", "config"), OBJECTS.values(), ids=OBJECTS)
def test_objects_that_are_read(line: bytes, config: dict[str, Any]) -> None:
    rows, dropped = read("json", line + b"\n" + line + b"\r\n", **config)
    assert rows.values.tolist() == [[1.5, -2]] * 2
    assert not dropped


def test_channels_may_be_named_by_their_path() -> None:
    rows, _ = read("json", b'{"imu": {"ax": 1}, "v": [2, 3]}\n', ("imu.ax", "v.1"))
    assert rows.values.tolist() == [[1, 3]]


def test_a_channel_stays_where_it_was_found() -> None:
    rows, dropped = read(
        "json", b'{"acc": {"a": 1, "b": 2}}\n{"gyro": {"a": 3, "b": 4}}\n{"acc": {"a": 5, "b": 6}}\n'
    )
    assert rows.values.tolist() == [[1, 2], [5, 6]]
    assert dropped == {"not_data": 1}


def test_true_is_one_and_what_is_no_number_is_missing() -> None:
    rows, dropped = read("json", b'{"a": true, "b": false}\n{"a": NaN, "b": 1e999}\n{"a": null, "b": "nan"}\n')
    assert [str(row) for row in rows.values.tolist()] == ["[1.0, 0.0]", "[nan, inf]", "[nan, nan]"]
    assert not dropped


def test_an_object_without_a_channel_is_not_data() -> None:
    rows, dropped = read("json", b'{"a":1,"b":2}\n{"event":"button","n":1}\nnull\n{"a":3,"b":4}\n')
    assert (rows.gap.tolist(), dropped) == ([False, False], {"not_data": 2})


def test_long_lines_are_read_and_the_limit_can_be_set() -> None:
    lines = (CASES / "long_line.jsonl").read_bytes()
    rows, dropped = read("json", lines, ("a", "b", "c"))
    assert len(rows.values) == lines.count(b"\n") == len(rows.gap)
    assert not dropped
    rows, dropped = read("json", lines, ("a", "b", "c"), max_line=1000)
    assert (len(rows.values), dropped) == (0, {"overlong": lines.count(b"\n")})
    row = b"1,2," + b"x" * 3000 + b"\n"
    assert len(read("csv", row, fields=["a", "b", "c"])[0].values) == 1
    assert read("csv", row, fields=["a", "b", "c"], max_line=3000)[1] == {"overlong": 1}


def test_log_lines_between_samples_break_no_window() -> None:
    dropped: Counter[str] = Counter()
    module = plugins.load("framings", "csv")
    framing = module.open(module.Config(), ("a", "b", "c"), dropped)
    rows = framing.feed((CASES / "log_lines.txt").read_bytes())
    one = Calibration(np.array(1.0), np.array(0.0), np.array(-np.inf), np.array(np.inf))
    rows, ordinals = Continuity(None, dropped).place(rows, 0)
    windower = Windower(WindowSpec(size=10), SampleSpec((3,), np.dtype(np.float32)))
    samples = Shaper(one, None, dropped).shape(rows, ordinals, 0, 0)
    assert sum(1 for block in samples for _ in windower.push(block)) == 10
    assert windower.discarded == 0
    assert dropped == {"partial": 1, "not_data": 12}


pieces = st.one_of(
    st.binary(max_size=30),
    st.sampled_from([line + b"\n" for line in NOT_DATA]),
    st.sampled_from([data for data, _ in LINES.values()]),
    st.sampled_from([line + b"\n" for line, _ in OBJECTS.values()]),
    st.sampled_from([b":", b"=", b",", b";", b"a", b"1", b'"', b"'", b"{", b"[", b"\r", b"\n", b"\x1b["]),
)


@pytest.mark.parametrize("kind", ["csv", "json"])
@given(stream=st.lists(pieces, max_size=20))
def test_any_lines_are_read_or_counted(kind: str, stream: list[bytes]) -> None:
    rows, dropped = read(kind, b"".join(stream))
    assert rows.values.shape == (len(rows.gap), 2)
    assert all(count > 0 for count in dropped.values())
    assert set(dropped) <= {"malformed", "fields", "not_data", "partial", "overlong"}
