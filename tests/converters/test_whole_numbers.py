"""Models of tokens: an input that is only cast to integers becomes one of integers, and int8 keeps every token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from limpet_convert import cli, observers, whole_numbers
from limpet_convert.graph import Graph, Tracer
from limpet_convert.quantize import left_in_float, quantize
from support import models

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("litert_quantizer", reason="there is no litert-quantizer for this machine")

TOKENS, WIDTH, LENGTH = 300, 8, 5
WINDOWS = np.random.default_rng(0).integers(0, TOKENS, (20, LENGTH)).astype(np.float32)
TABLE = np.random.default_rng(1).normal(size=(TOKENS, WIDTH)).astype(np.float32)


def operator(graph: Graph, index: int, kind: str, inputs: list[int], version: int = 1) -> None:
    """Make one op of a graph another one, without options."""
    code = graph.schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = getattr(graph.schema.BuiltinOperator, kind)
    code.version = version
    graph.model.operatorCodes.append(code)
    op = graph.subgraph.operators[index]
    op.opcodeIndex, op.inputs = len(graph.model.operatorCodes) - 1, np.array(inputs, np.int32)
    op.builtinOptions, op.builtinOptionsType = None, 0


@pytest.fixture
def embedding(tmp_path: Path) -> bytes:
    """Return a model that casts floats to tokens and looks them up in a table."""
    graph = Graph(models.dense(tmp_path / "dense.tflite", WIDTH, WIDTH, int8=False, layers=2).read_bytes())
    tokens, table = graph.ops[0].outputs[0], graph.ops[1].inputs[1]
    tensors = graph.subgraph.tensors
    for tensor, shape in ((graph.inputs[0], [LENGTH]), (tokens, [LENGTH]), (table, TABLE.shape)):
        tensors[tensor].shape = np.array(shape, np.int32)
    tensors[graph.outputs[0]].shape = np.array([LENGTH, WIDTH], np.int32)
    tensors[tokens].type = graph.schema.TensorType.INT32
    graph.model.buffers[tensors[table].buffer].data = np.frombuffer(TABLE.tobytes(), np.uint8)
    operator(graph, 0, "CAST", [graph.inputs[0]])
    operator(graph, 1, "EMBEDDING_LOOKUP", [tokens, table])
    return graph.pack()


def input_type(model: bytes) -> Any:
    return Tracer(model).inputs[0]["dtype"]


def test_an_input_that_is_cast_becomes_one_of_integers_and_reaches_int8(embedding: bytes) -> None:
    made = whole_numbers.kept(embedding)
    assert (input_type(embedding), input_type(made)) == (np.float32, np.int32)
    assert [op.kind for op in Graph(made).ops] == ["GATHER"]
    exact = np.stack([TABLE[window.astype(int)] for window in WINDOWS])
    for model in (embedding, made):
        np.testing.assert_array_equal(np.stack([Tracer(model)(window)[0] for window in WINDOWS]), exact)
    int8 = quantize(made, "int8", observers.ranges(made, WINDOWS))
    assert (input_type(int8), left_in_float(int8)) == (np.int32, [])
    found = np.stack([Tracer(int8)(window)[0] for window in WINDOWS])
    assert np.abs(found - exact).max() < np.ptp(exact) / 255


def test_an_input_that_is_used_otherwise_too_stays_as_it_is(embedding: bytes) -> None:
    graph = Graph(embedding)
    graph.subgraph.outputs = np.array([*graph.outputs, graph.inputs[0]], np.int32)
    made = whole_numbers.kept(graph.pack())
    assert input_type(made) == np.float32
    assert [op.kind for op in Graph(made).ops] == ["CAST", "GATHER"]


def test_a_model_of_floats_comes_back_as_it_is(tmp_path: Path) -> None:
    plain = models.dense(tmp_path / "dense.tflite", 4, 4, int8=False).read_bytes()
    assert whole_numbers.kept(plain) == plain


def test_diff_draws_tokens_that_a_table_has(
    embedding: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [tmp_path / name for name in ("float.tflite", "whole.tflite")]
    for path, model in zip(paths, (embedding, whole_numbers.kept(embedding)), strict=True):
        path.write_bytes(model)
    assert cli.main(["diff", *map(str, paths)]) == 0
    assert "differ by 0 at most" in capsys.readouterr().out
