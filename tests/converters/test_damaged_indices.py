"""Damaged ``.tflite`` files: a number that stands for nothing is an error with a reason, wherever it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from limpet_convert import flatpack, quantizable, whole_numbers
from limpet_convert.errors import ConvertError
from limpet_convert.graph import Graph
from support import models

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _input(graph: Any) -> None:
    graph.subgraph.inputs = np.array([99], np.int32)


def _of_op(graph: Any) -> None:
    graph.subgraph.operators[0].inputs = np.array([0, -2], np.int32)


def _code(graph: Any) -> None:
    graph.subgraph.operators[0].opcodeIndex = 7


def _buffer(graph: Any) -> None:
    graph.subgraph.tensors[0].buffer = 1 << 31


def _type(graph: Any) -> None:
    graph.subgraph.tensors[0].type = 113


def _nothing(graph: Any) -> None:
    graph.model.subgraphs = []


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (_input, "no tensor 99"),
        (_of_op, "no tensor -2"),
        (_code, "no op code 7"),
        (_buffer, "no buffer 2147483648"),
        (_type, "unknown type"),
        (_nothing, "no graph"),
    ],
)
def test_a_number_that_stands_for_nothing_is_named(
    tmp_path: Path, damage: Callable[[Any], None], why: str
) -> None:
    graph = Graph(models.dense(tmp_path / "m.tflite", int8=False).read_bytes())
    damage(graph)
    data = flatpack.pack(graph.model, len(graph.data))
    for use in (Graph, whole_numbers.kept, quantizable.completed):
        with pytest.raises(ConvertError, match=rf"damaged.*{why}"):
            use(data)


def test_values_that_are_not_as_many_as_the_shape_says_are_an_error(tmp_path: Path) -> None:
    graph = Graph(models.dense(tmp_path / "m.tflite", int8=False).read_bytes())
    weights = next(i for i in graph.ops[0].inputs if graph.is_constant(i))
    graph.subgraph.tensors[weights].shape = np.array([1 << 20, 3], np.int32)
    with pytest.raises(ConvertError, match="damaged: tensor"):
        graph.layer(graph.ops[0])


def test_values_of_a_type_that_numpy_lacks_are_bytes(tmp_path: Path) -> None:
    graph = Graph(models.dense(tmp_path / "m.tflite", int8=False).read_bytes())
    weights = next(i for i in graph.ops[0].inputs if graph.is_constant(i))
    graph.subgraph.tensors[weights].type = graph.schema.TensorType.INT4
    values = graph.constant(weights)
    assert values is not None
    assert values.dtype == np.uint8


def test_orders_for_a_terminal_are_in_no_layer_s_name(tmp_path: Path) -> None:
    graph = Graph(models.dense(tmp_path / "m.tflite", int8=False).read_bytes())
    for tensor in graph.subgraph.tensors:
        tensor.name = b"\x1b[2J\nlayer/out"
    assert graph.layer(graph.ops[0]).isprintable()
