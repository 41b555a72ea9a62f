"""Bodies of requests for inference: JSON, and after it tensors in binary."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.gateway.errors import RequestError
from limpet.gateway.open_inference.json_requests import (
    MOST_LISTS,
    decoded,
    encoded,
    raw_request,
    request,
)
from limpet.gateway.open_inference.messages import InferAnswer, InferRequest, Output, Region
from limpet.gateway.open_inference.planning import ModelForm, TensorForm


def read(body: dict[str, Any], binary: bytes = b"") -> InferRequest:
    head = json.dumps(body).encode()
    asked, rest = decoded(head + binary, str(len(head)))
    return request("model", "1", 1000, asked, rest)


def tensor(**more: Any) -> dict[str, Any]:
    return {"name": "a", "shape": [1, 2], "datatype": "INT8", **more}


def test_binary_tensors_follow_in_the_order_of_the_inputs() -> None:
    inputs = [
        tensor(parameters={"binary_data_size": 2}),
        tensor(name="b", data=[3, 4]),
        tensor(name="c", parameters={"binary_data_size": 1}),
    ]
    found = read({"inputs": inputs}, b"\x01\x02\x05")
    assert [bytes(one.content) for one in found.inputs if not isinstance(one.content, Region)] == [
        b"\x01\x02",
        b"\x03\x04",
        b"\x05",
    ]


def test_what_is_null_is_not_there() -> None:
    """MLServer's and KServe's classes of requests write all that they have no value for as null."""
    bare = {"inputs": [tensor(data=[1, 2])], "outputs": [{"name": "x"}]}
    full = {
        "id": None,
        "parameters": None,
        "inputs": [tensor(data=[1, 2], parameters=None)],
        "outputs": [{"name": "x", "parameters": None}],
    }
    assert read(full) == read(bare)
    assert read({**bare, "outputs": None}) == read({"inputs": bare["inputs"]})


def test_parameters_reach_the_request() -> None:
    shared = {"shared_memory_region": "r", "shared_memory_byte_size": 2, "shared_memory_offset": 64}
    found = read(
        {
            "id": "7",
            "inputs": [tensor(parameters=shared)],
            "outputs": [{"name": "y", "parameters": shared}],
            "parameters": {"real": True, "timeout": 500_000, "anything": "else"},
        }
    )
    assert found.inputs[0].content == Region("r", 64, 2)
    assert found.outputs[0].region == Region("r", 64, 2)
    assert (found.id, found.uid, found.real, found.patience) == ("7", 1000, True, 0.5)


@pytest.mark.parametrize(
    ("body", "binary", "text"),
    [
        ({"inputs": [tensor()]}, b"", "has no data"),
        ({"inputs": [tensor(parameters={"binary_data_size": 3})]}, b"ab", "claims 3 bytes"),
        ({"inputs": [tensor(data=[1, 2])]}, b"ab", "2 bytes follow the JSON"),
        ({"inputs": [tensor(data=[1, 2])], "parameters": {"sequence_id": 4}}, b"", "sequences"),
        ({"inputs": [tensor(shape=[-1, 2], data=[1])]}, b"", "could not be read"),
        ({"inputs": [tensor(data={"x": 1})]}, b"", "could not be read"),
        ({"inputs": [tensor(data=["1", "2"])]}, b"", "got `str`"),
        ({}, b"", "could not be read"),
    ],
)
def test_parts_that_do_not_fit_are_refused(body: dict[str, Any], binary: bytes, text: str) -> None:
    with pytest.raises(RequestError, match=text) as refused:
        read(body, binary)
    assert refused.value.cause == "invalid"


@pytest.mark.parametrize("length", ["", "-1", "1e3", "99", "٣", "9" * 5000, "0" * 20 + "9" * 5000])
def test_a_wrong_length_of_the_json_is_refused(length: str) -> None:
    with pytest.raises(RequestError, match="Inference-Header-Content-Length"):
        decoded(b'{"inputs":[]}', length)


@given(st.binary(max_size=200), st.one_of(st.none(), st.integers(0, 200).map(str), st.text(max_size=5)))
def test_any_bytes_are_read_or_refused(body: bytes, length: str | None) -> None:
    found: InferRequest | RequestError
    try:
        found = request("model", "", None, *decoded(body, length))
    except RequestError as error:
        found = error
    assert isinstance(found, InferRequest) or found.cause == "invalid"


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [([1, 3], 12, [1, 3]), ([-1, 3], 24, [2, 3]), ([2, -1], 8, [2, 1]), ([-1], 0, [0])],
)
def test_the_size_of_a_body_without_json_decides_an_open_dimension(
    shape: list[int], size: int, expected: list[int]
) -> None:
    form = ModelForm([TensorForm("x", "FP32", shape, real=False)], [])
    found = raw_request("model", "", form, bytes(size))
    assert [(one.name, one.shape, len(one.content)) for one in found.inputs] == [("x", expected, size)]


def test_a_body_without_json_needs_a_model_with_one_input() -> None:
    two = [TensorForm(name, "FP32", [1], real=False) for name in "xy"]
    with pytest.raises(RequestError, match="the model has 2"):
        raw_request("model", "", ModelForm(two, []), b"")


def test_lists_in_lists_without_end_are_refused() -> None:
    with pytest.raises(RequestError, match="could not be read"):
        decoded(b'{"inputs":[{"name":"a","shape":[1],"datatype":"INT8","data":' + b"[" * 100_000, None)


def test_lists_without_number_are_refused() -> None:
    with pytest.raises(RequestError, match=f"at most {MOST_LISTS} are read"):
        decoded(b'{"inputs":[{"name":"a","shape":[1],"datatype":"INT8","data":[' + b"[]," * MOST_LISTS, None)


def test_outputs_are_json_binary_or_in_shared_memory_as_wanted() -> None:
    outputs = [
        Output("a", "INT8", [2], b"\x01\x02"),
        Output("b", "FP32", [1], b"\x00\x00\x80\x3f"),
        Output("c", "INT8", [1], None, Region("r", 8, 1)),
    ]
    asked, _ = decoded(
        json.dumps(
            {
                "inputs": [],
                "outputs": [{"name": "a", "parameters": {"binary_data": False}}, {"name": "b"}, {"name": "c"}],
                "parameters": {"binary_data_output": True},
            }
        ).encode(),
        None,
    )
    body, length = encoded(InferAnswer("m", "1", "7", outputs), asked)
    assert length is not None
    assert body[length:] == b"\x00\x00\x80\x3f"
    assert json.loads(body[:length]) == {
        "model_name": "m",
        "model_version": "1",
        "id": "7",
        "outputs": [
            {"name": "a", "datatype": "INT8", "shape": [2], "data": [1, 2]},
            {"name": "b", "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 4}},
            {
                "name": "c",
                "datatype": "INT8",
                "shape": [1],
                "parameters": {
                    "shared_memory_region": "r",
                    "shared_memory_byte_size": 1,
                    "shared_memory_offset": 8,
                },
            },
        ],
    }
