"""JSON lines: objects and arrays."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from limpet.sources.framings import json

if TYPE_CHECKING:
    from limpet.contracts.data import Rows


def read(text: bytes, **config: Any) -> tuple[Rows, Counter[str]]:
    dropped: Counter[str] = Counter()
    return json.open(json.Config(**config), ["a", "b"], dropped).feed(text), dropped


@pytest.mark.parametrize(
    ("text", "config"),
    [
        (b'{"a": 1, "b": -2.5}\n', {}),
        (b'  {"b": -25e-1, "a": 1, "board": {"n": [1, "x"]}, "ok": true}\r\n', {}),
        (b"[1, -2.5]\n", {}),
        (b"# ready\n\n[-2.5, 7, 1]\n", {"fields": ["b", "other", "a"]}),
    ],
)
def test_lines_that_are_read(text: bytes, config: dict[str, Any]) -> None:
    rows, dropped = read(text, **config)
    assert rows.values.tolist() == [[1, -2.5]]
    assert rows.sequence is None
    assert rows.time_us is None
    assert not dropped


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        (b'{"a": 1}', "fields"),
        (b"[1]", "fields"),
        (b"[1, 2, 3]", "fields"),
        (b'{"a": 1, "b": "two"}', "malformed"),
        (b'{"a": 1, "b": ""}', "malformed"),
        (b'{"a": 1, "b": "1_0"}', "malformed"),
        (b'{"a": [1], "b": [2]}', "malformed"),
        (b'{"a": 1, "x": {"b": 2}, "y": {"b": 3}}', "fields"),
        (b'{"a": 1, "b": [2]}', "malformed"),
        (b'{"a": 1, "b": 2', "malformed"),
        (b"12", "malformed"),
        (b'{"a": 1, "b": 2, "c": ' + b"[" * 1000, "malformed"),
        (b'{"a": 1, "b": "\xff"}', "malformed"),
        (b'{"a": 1, "b": 2, "c": "' + b"x" * 70_000 + b'"}', "overlong"),
        (b'{"a": 1, "b": 2, "sequence": 1}', "fields"),
    ],
)
def test_lines_that_are_not(line: bytes, cause: str) -> None:
    rows, dropped = read(b"[5, 6]\n" + line + b"\n[7, 8]\n")
    assert rows.values.tolist() == [[5, 6], [7, 8]]
    assert rows.gap.tolist() == [False, True]
    assert dropped == {cause: 1}


def test_very_deep_nesting_is_malformed() -> None:
    channels = [f"c{n}" for n in range(2000)]
    dropped: Counter[str] = Counter()
    framing = json.open(json.Config(), channels, dropped)
    framing.feed(b'\n{"x":' + b"[" * 60_000 + b"\n")
    assert dropped == {"malformed": 1}


def test_null_is_a_value_that_is_not_there() -> None:
    rows, dropped = read(b'[3, null]\n{"a": null, "b": 2}\n')
    assert np.isnan(rows.values).tolist() == [[False, True], [True, False]]
    assert not dropped


def test_counters() -> None:
    rows, dropped = read(
        b'{"a":1,"b":2,"sequence":7,"time_us":4294967296000}\n'
        b'{"a":1,"b":2,"sequence":-1,"time_us":1}\n'
        b'{"a":1,"b":2,"sequence":8.5,"time_us":1}\n'
        b'{"a":1,"b":2,"sequence":8}\n'
        b'{"a":1,"b":2,"sequence":9,"time_us":2}\n'
    )
    assert rows.sequence is not None
    assert rows.time_us is not None
    assert rows.sequence.tolist() == [7, 9]
    assert rows.time_us.tolist() == [0, 2]
    assert dropped == {"malformed": 2, "fields": 1}


def test_counters_in_an_array() -> None:
    rows, dropped = read(b"[7, 1, 2]\n[8.5, 1, 2]\n[null, 1, 2]\n[9, 1, 2]\n", fields=["sequence", "a", "b"])
    assert rows.sequence is not None
    assert rows.sequence.tolist() == [7, 9]
    assert dropped == {"malformed": 1, "fields": 1}


def test_a_torn_first_line_is_partial_and_a_whole_one_counts() -> None:
    rows, dropped = read(b'"b": 2}\n[3, 4]\n')
    assert rows.values.tolist() == [[3, 4]]
    assert dropped == {"partial": 1}
    rows, dropped = read(b"[3, 4]\n")
    assert rows.values.tolist() == [[3, 4]]
    assert not dropped
