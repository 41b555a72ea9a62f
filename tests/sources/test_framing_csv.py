"""CSV lines as boards print them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from limpet.sources.framings import csv


def read(text: bytes, **config: Any) -> tuple[list[list[float]], Counter[str]]:
    """Return the values of ``text``, which begins at the start of a line, and what was dropped."""
    dropped: Counter[str] = Counter()
    framing = csv.open(csv.Config(**config), ["a", "b"], dropped)
    return framing.feed(b"\n" + text).values.tolist(), dropped


@pytest.mark.parametrize(
    ("text", "config"),
    [
        (b"1,-2.5\n", {}),
        (b" 1 , -2.5e0\r\n", {}),
        (b"+1.0;-25e-1\n", {"delimiter": ";"}),
        (b"1\t-2.5\n", {"delimiter": "\t"}),
        (b"1  -2.5 \n", {"delimiter": " "}),
        (b"1 \t-2.5 \n", {"delimiter": " "}),
        (b"-2.5,board 7,1\n", {"fields": ["b", "name", "a"]}),
        (b"-2.5,x_y,1\n", {"fields": ["b", "name", "a"]}),
        (b"# hello, world\n\na,b\n1,-2.5\na,b\n", {}),
        (b"a b\n1 -2.5\n", {"delimiter": " "}),
    ],
)
def test_lines_that_are_read(text: bytes, config: dict[str, Any]) -> None:
    assert read(text, **config) == ([[1, -2.5]], {})


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        (b"1", "fields"),
        (b"1,2,3", "fields"),
        (b"1 2", "malformed"),
        (b"1,", "malformed"),
        (b"1,two", "malformed"),
        (b"1,2x", "malformed"),
        (b"1_0,2", "malformed"),
        (b"1,\xff", "malformed"),
        (b"1,2 mV", "malformed"),
        (b"1,2[00:00:07.000] <inf> main: alive", "malformed"),
        (b"1,2,3[00:00:07.000] <inf> main: alive", "fields"),
        (b"1;2", "malformed"),
        (b"\xfe\xe0\x80\x12\x88", "malformed"),
        (b"1" * 70_000 + b",2", "overlong"),
    ],
)
def test_lines_that_are_not(line: bytes, cause: str) -> None:
    assert read(b"5,6\n" + line + b"\n7,8\n") == ([[5, 6], [7, 8]], {cause: 1})


def test_nan_and_infinity_are_numbers_here() -> None:
    (row,), dropped = read(b"nan,-inf\n")
    assert np.isnan(row[0])
    assert row[1] == -np.inf
    assert not dropped


@pytest.mark.parametrize("sequence", [b"-1", b"1.5", b"65536", b""])
def test_a_sequence_that_cannot_be_is_malformed(sequence: bytes) -> None:
    config = {"fields": ["sequence", "a", "b"], "sequence_modulo": 65536}
    assert read(sequence + b",1,2\n65535,3,4\n", **config) == ([[3, 4]], {"malformed": 1})


def test_a_sequence_without_a_modulo_is_less_than_2_to_the_32() -> None:
    config = {"fields": ["sequence", "a", "b"]}
    assert read(b"4294967296,1,2\n4294967295,3,4\n", **config) == ([[3, 4]], {"malformed": 1})


def test_what_precedes_the_first_line_end_is_not_trusted() -> None:
    dropped: Counter[str] = Counter()
    framing = csv.open(csv.Config(), ["a", "b"], dropped)
    assert framing.feed(b"23,4\n123,4\n").values.tolist() == [[123, 4]]  # the first was -123,4
    assert dropped == {"partial": 1}


@pytest.mark.parametrize("comment", [b"# ready\n", b"\n", b"\r\n"])
def test_a_board_that_begins_with_a_comment_loses_nothing(comment: bytes) -> None:
    dropped: Counter[str] = Counter()
    framing = csv.open(csv.Config(), ["a", "b"], dropped)
    assert framing.feed(comment + b"1,2\n").values.tolist() == [[1, 2]]
    assert not dropped


@pytest.mark.parametrize("fields", [["a"], ["a", "b", "a"], ["a", "b", "time_us", "time_us"]])
def test_fields_that_cannot_be_right(fields: list[str]) -> None:
    with pytest.raises(ValueError, match="fields: has '"):
        csv.open(csv.Config(fields=fields), ["a", "b"], Counter())
