"""Long lists in JSON are read as short ones are, only faster."""

from __future__ import annotations

import json
import struct
from itertools import cycle, islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.gateway.errors import RequestError
from limpet.gateway.open_inference.json_requests import decoded, request
from limpet.gateway.open_inference.long_numbers import LONG, cut, packed
from limpet.gateway.open_inference.tensors import pack

_ENDS = {"INT8": (-128, 127), "UINT8": (0, 255), "INT16": (-32768, 32767), "UINT32": (0, 2**32 - 1)}


def body(data: str, datatype: str = "INT8") -> bytes:
    head = f'{{"id": "a", "inputs": [{{"name": "x", "shape": [1], "datatype": "{datatype}", "data": '
    return f"{head}{data}}}]}}".encode()


def tensor(text: bytes) -> object:
    asked, binary = decoded(text, None)
    return request("m", "", None, asked, binary).inputs[0].content


def long_text(*numbers: str, separator: str = ", ") -> str:
    return separator.join(islice(cycle(numbers), LONG))


@pytest.mark.parametrize("datatype", _ENDS)
@pytest.mark.parametrize("separator", [",", ", ", ",\n\t"])
def test_whole_numbers_become_the_bytes_of_their_tensor(datatype: str, separator: str) -> None:
    first, last = _ENDS[datatype]
    numbers = [first, last, 0, 7, 10, 99, 100, *([-1, -10, -99] if first else [])]
    text = long_text(*map(str, numbers), separator=separator)
    expected = pack(datatype, list(islice(cycle(numbers), LONG)), "x")
    assert tensor(body(f"[{text}]", datatype)) == expected
    assert packed(datatype, memoryview(text.encode())) == expected


@pytest.mark.parametrize("datatype", ["FP32", "INT64", "FP64"])
def test_other_numbers_are_read_as_in_a_short_list(datatype: str) -> None:
    found = tensor(body(f"[{long_text('1', '-2', '3')}]", datatype))
    assert found == pack(datatype, list(islice(cycle([1, -2, 3]), LONG)), "x")


def test_floats_are_read() -> None:
    found = tensor(body(f"[{long_text('1.5', '-2e3')}]", "FP32"))
    assert found == struct.pack(f"<{LONG}f", *islice(cycle([1.5, -2000.0]), LONG))


@pytest.mark.parametrize(
    "end",
    [
        *(",", ",,1", ", 01", ", -01", ", 1-2", ", 1 2", ", --1", ", -", ", - 1", ", 1.", ", +1", ", e"),
        *(", 1]", ', "a"', ", 128", ", -129", ", 99999999999999999999", ", 1.0", ", 1e0", ", [1]"),
    ],
)
@pytest.mark.parametrize("at", ["begin", "end"])
def test_what_a_short_list_may_not_have_a_long_one_may_not_have(end: str, at: str) -> None:
    numbers = long_text("1", "23")
    text = f"{numbers}{end}" if at == "end" else f"{end[1:]}, {numbers}"
    with pytest.raises(RequestError):
        tensor(body(f"[{text}]"))


@given(st.lists(st.sampled_from(["0", "-0", "1", "-1", "00", "12", "128", "-128", "1.5", "", "-", "1 1", " 7 "])))
def test_numpy_reads_nothing_that_json_does_not(parts: list[str]) -> None:
    text = ",".join(parts)
    found = packed("INT8", memoryview(text.encode()))
    if found is not None:
        assert found == pack("INT8", json.loads(f"[{text}]"), "x")


@pytest.mark.parametrize(
    "text",
    [
        '{{"inputs": [], "other": {{"data": {0}}}}}',
        '{{"inputs": [{{"name": "x\\"data\\":[1", "shape": [1], "datatype": "INT8", "x\\"data": {0}}}]}}',
    ],
)
def test_a_list_that_is_no_input_is_ignored(text: str) -> None:
    asked, _ = decoded(text.format(f"[{long_text('1')}]").encode(), None)
    assert all(one.data is None for one in asked.inputs)


@pytest.mark.parametrize("before", range(4))
def test_a_number_is_not_torn_apart_by_spaces_before_it(before: int) -> None:
    numbers = f"1, {' ' * ((1 << 18) - before)}578, {long_text('1')}"
    assert tensor(body(f"[{numbers}]", "INT16")) == pack("INT16", [1, 578, *[1] * LONG], "x")


def test_the_last_of_two_lists_counts() -> None:
    assert tensor(body(f'[{long_text("1")}], "data": [{long_text("2")}]')) == b"\x02" * LONG
    assert tensor(body(f'[{long_text("1")}], "data": [2]')) == b"\x02"


def test_a_text_in_place_of_numbers_is_refused() -> None:
    for text in (body('"0"'), body(f'[{long_text("1")}], "data": "x"')):
        with pytest.raises(RequestError):
            tensor(text)


def test_short_lists_stay_where_they_are() -> None:
    assert cut(body("[1, 2, 3]")) == (body("[1, 2, 3]"), {})
    assert cut(body(f"[{'[1], ' * LONG}[1]]"))[1] == {}
