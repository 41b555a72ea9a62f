"""Tensors of the Open Inference Protocol as numbers and as bytes."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.gateway.errors import RequestError
from limpet.gateway.open_inference.tensors import FORMS, pack, unpack

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=12,
)


@pytest.mark.parametrize("datatype", FORMS)
def test_every_datatype_is_stored_as_numpy_stores_it(datatype: str) -> None:
    values = [True, False, True] if datatype == "BOOL" else [1, 0, 100]
    stored = pack(datatype, values, "t")
    assert stored == np.array(values, FORMS[datatype].dtype).tobytes()
    assert unpack(datatype, stored, "t") == values


def test_lists_of_lists_are_read_row_by_row() -> None:
    assert pack("INT16", [[[1, 2], [3, 4]], [[5, 6], [7, 8]]], "t") == np.arange(1, 9, dtype="<i2").tobytes()


@pytest.mark.parametrize(
    ("datatype", "values", "text"),
    [
        ("INT8", [128], "not INT8"),
        ("UINT8", [-1], "not UINT8"),
        ("INT32", [1.5], "not INT32"),
        ("FP32", ["1"], "not FP32"),
        ("FP32", [1e300], "not FP32"),
        ("FP16", [70000.0], "not FP16"),
        ("BOOL", [2], "not BOOL"),
        ("BOOL", ["x"], "not BOOL"),
        ("INT8", [[1], 2], "side by side"),
        ("BYTES", ["x"], 'datatype "BYTES"'),
        ("BF16", [1.0], "use one of BOOL"),
    ],
)
def test_numbers_that_are_not_of_the_datatype_are_refused(datatype: str, values: list[Any], text: str) -> None:
    with pytest.raises(RequestError, match=text) as refused:
        pack(datatype, values, "t")
    assert refused.value.cause == "invalid"


@given(st.sampled_from(sorted(FORMS)), st.lists(JSON, max_size=6))
def test_any_json_becomes_bytes_of_its_size_or_is_refused(datatype: str, values: list[Any]) -> None:
    stored: bytes | RequestError
    try:
        stored = pack(datatype, values, "t")
    except RequestError as error:
        stored = error
    if isinstance(stored, RequestError):
        assert stored.cause == "invalid"
    else:
        assert len(stored) % FORMS[datatype].size == 0


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=8))
def test_real_values_survive_json(values: list[float]) -> None:
    stored = pack("FP32", values, "t")
    shown = msgspec.json.decode(msgspec.json.encode(unpack("FP32", stored, "t")))
    assert pack("FP32", shown, "t") == stored


def test_json_carries_no_nan() -> None:
    with pytest.raises(RequestError, match="ask for binary data"):
        unpack("FP32", np.array([1, np.nan], np.float32).tobytes(), "t")
