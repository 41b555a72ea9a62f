"""What a board says besides samples, and what Limpet says of lines that it cannot read."""

from __future__ import annotations

import json
import logging
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from limpet import plugins
from limpet.sources import _recognition
from limpet.sources.framings._lines import LONGER

if TYPE_CHECKING:
    from limpet.contracts.data import Rows


def read(kind: str, lines: list[str], channels: str, **config: Any) -> tuple[Rows, Counter[str]]:
    dropped: Counter[str] = Counter()
    module = plugins.load("framings", kind)
    framing = module.open(module.Config(**config), channels.split(","), dropped)
    return framing.feed("\n".join(["", *lines, ""]).encode()), dropped


@pytest.mark.parametrize("header", ["z,y,x", "Z, Y, X,", "# z,y,x", "//z,y,x", '"z","y","x"'])
def test_the_board_says_the_order_of_its_columns(header: str, caplog: pytest.LogCaptureFixture) -> None:
    rows, dropped = read("csv", [header, "1,2,3", "4,5,6"], "x,y,z")
    assert rows.values.tolist() == [[3, 2, 1], [6, 5, 4]]
    assert not dropped
    assert "another order" in caplog.text


def test_a_header_in_the_configured_order_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    rows, _ = read("csv", ["n,x,y", "7,1,2"], "x,y", fields=["n", "x", "y"])
    assert rows.values.tolist() == [[1, 2]]
    assert not caplog.text


def test_a_counter_follows_the_header() -> None:
    rows, _ = read("csv", ["sequence,y,x", "7,1,2"], "x,y", fields=["x", "y", "sequence"])
    assert rows.values.tolist() == [[2, 1]]
    assert rows.sequence is not None
    assert rows.sequence.tolist() == [7]


@pytest.mark.parametrize("line", ["I (12) app: x=1 y=2", "acc: x: 1, y: 2", "t 5 x=1 y=2"])
def test_names_behind_another_label_are_read(line: str) -> None:
    assert read("csv", [line], "x,y")[0].values.tolist() == [[1, 2]]


@pytest.mark.parametrize("line", ["IP 192.168.1.5", "192.168.1.5", "12:00:00", "200 OK", "1 2 3 go", "---"])
@pytest.mark.parametrize(("good", "channels"), [("1.5", "x"), ("1.5,2.5", "x,y"), ("1.5 2.5 3.5", "x,y,z")])
def test_a_log_line_with_numbers_is_no_lost_sample(line: str, good: str, channels: str) -> None:
    rows, dropped = read("csv", [good, good, line, good], channels)
    assert len(rows.values) == 3
    assert not rows.gap.any()
    assert dropped == {"not_data": 1}


def test_arrays_and_numbers_between_objects_are_log_lines() -> None:
    rows, dropped = read("json", ['{"x":1,"y":2}', "[7,8]", "[7]", "5", '{"x":3,"y":4}'], "x,y")
    assert rows.values.tolist() == [[1, 2], [3, 4]]
    assert not rows.gap.any()
    assert dropped == {"not_data": 3}


@pytest.mark.parametrize("word", ["1,500", "0,500", "1,5", "1,500,000"])
def test_a_comma_in_quotes_is_never_guessed_at(word: str) -> None:
    rows, dropped = read("json", [json.dumps({"x": word})], "x")
    assert not len(rows.values)
    assert dropped == {"malformed": 1}


def test_a_comma_in_quotes_is_read_with_its_key() -> None:
    assert read("json", ['{"x": "1,500"}'], "x", decimal=",")[0].values.tolist() == [[1.5]]


def test_counters_may_be_in_quotes_or_end_in_point_zero() -> None:
    rows, dropped = read("json", ['{"x":1,"sequence":"7"}', '{"x":2,"sequence":8.0}'], "x")
    assert rows.sequence is not None
    assert rows.sequence.tolist() == [7, 8]
    assert not dropped


def test_a_tag_in_braces_before_an_object_is_skipped() -> None:
    assert read("json", ['[12:00] {main} {"x": 1}'], "x")[0].values.tolist() == [[1]]


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_a_warning_names_the_limit_of_a_line_once(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        _, dropped = read(kind, ["1," + "2" * 100, "1," + "2" * 100], "x,y", max_line=64)
    assert dropped["overlong"] == 2
    assert caplog.text.count(LONGER) == 1
    assert "64 bytes" in caplog.text


@pytest.mark.parametrize(
    ("kind", "line", "said"),
    [
        ("csv", "1,2", "not with these keys"),
        ("csv", "x:1\ny:2", "value on its own line"),
        ("json", '{"x":1,"y":2}{"x":1,"y":2}', "several objects a line"),
        ("json", '[{"x":1,"y":2},{"x":1,"y":2}]', "several objects a line"),
        ("json", "{x:1,y:2}", "no valid JSON"),
        ("json", '{"a":[1,2]}', "keys a.0, a.1."),
        ("json", '{"x":"1,5","y":"2,5"}', 'decimal = ","'),
    ],
)
def test_what_no_key_reads_is_described(kind: str, line: str, said: str) -> None:
    data = ("\n" + f"{line}\n" * 8).encode()
    assert said in _recognition.describe(data, ["x", "y"], kind)
