"""Requests of clients for inference over HTTP: JSON with tensors behind it, checked against a model."""

from __future__ import annotations

import json
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from fuzz.registry import Prepared, parser
from limpet.gateway.open_inference.json_requests import decoded, request
from limpet.gateway.open_inference.messages import Region
from limpet.gateway.open_inference.planning import form, plan
from limpet.wire.guest_records import Serving, TensorFacts

if TYPE_CHECKING:
    from pathlib import Path

_HEAD = 4
"""Digits in front of an input: how long its JSON is."""
_SERVING = Serving(
    *("model", 1, "0" * 64, "runtime", "cpu"),
    [TensorFacts("x", "|i1", [-1, 4], 0.5, 3), TensorFacts("y", "<f4", [-1, 2, 2])],
    [TensorFacts("z", "|i1", [-1, 4], 0.5, 3)],
    8,
)


def _input(body: dict[str, object], binary: bytes = b"") -> bytes:
    head = json.dumps(body).encode()
    return b"%04d" % len(head) + head + binary


def _take(data: bytes) -> None:
    asked, binary = decoded(data[_HEAD:], data[:_HEAD].decode("latin-1") or None)
    wanted = request("model", "", 1000, asked, binary)
    planned = plan(_SERVING, form(_SERVING), wanted)
    for part in planned.parts:
        size = prod(part.shape) * np.dtype(part.dtype).itemsize
        assert part.size == size
        assert part.offset + size <= planned.inputs_size
        assert isinstance(part.content, Region) or len(part.content) == size
    assert 1 <= planned.rows <= _SERVING.batch
    assert all(index == 0 for index, _ in planned.outputs)


@parser("requests for inference")
def _requests(_: Path) -> Prepared:
    x = {"name": "x", "shape": [1, 4], "datatype": "INT8", "data": [1, -2, 3, 4]}
    y = {"name": "y", "shape": [1, 2, 2], "datatype": "FP32", "data": [[[0.5, 1], [2e3, -4]]]}
    behind = {"name": "x", "shape": [2, 4], "datatype": "INT8", "parameters": {"binary_data_size": 8}}
    two = {"name": "y", "shape": [2, 2, 2], "datatype": "FP32", "parameters": {"binary_data_size": 32}}
    region = {"shared_memory_region": "r", "shared_memory_byte_size": 4, "shared_memory_offset": 64}
    shared = {"name": "x", "shape": [1, 4], "datatype": "INT8", "parameters": region}
    outputs = [{"name": "z", "parameters": {"binary_data": True, **region}}]
    parameters = {"real": True, "timeout": 1000, "binary_data_output": True, "sequence_id": 0}
    corpus = [
        _input({"inputs": [x, y], "id": "7"}),
        _input({"inputs": [behind, two], "parameters": parameters}, bytes(40)),
        _input({"inputs": [shared, y], "outputs": outputs}),
    ]
    for each in corpus:
        _take(each)
    return Prepared(corpus, _take)
