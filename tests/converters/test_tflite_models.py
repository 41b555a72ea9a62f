"""Models that are ``.tflite`` already: what is expanded, renamed and refused before any data is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from limpet_convert import cli, facts, observers, proving, sources
from limpet_convert.errors import ConvertError
from limpet_convert.graph import Graph, Tracer
from limpet_convert.quantize import left_in_float, quantize
from support import models

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("litert_quantizer", reason="there is no litert-quantizer for this machine")

SIZE = 64
WINDOWS = np.random.default_rng(0).normal(size=(20, SIZE)).astype(np.float32)


@pytest.fixture
def plain(tmp_path: Path) -> bytes:
    """Return three dense layers with weights of their own."""
    graph = Graph(models.dense(tmp_path / "plain.tflite", SIZE, SIZE, int8=False, layers=3).read_bytes())
    random = np.random.default_rng(1)
    for op in graph.ops:
        weights = random.normal(0, SIZE**-0.5, (SIZE, SIZE)).astype(np.float32)
        graph.model.buffers[graph.subgraph.tensors[op.inputs[1]].buffer].data = np.frombuffer(
            weights.tobytes(), np.uint8
        )
    return graph.pack()


def written(folder: Path, model: bytes, name: str = "m.tflite") -> Path:
    path = folder / name
    path.write_bytes(model)
    return path


def convert(path: Path) -> bytes:
    return sources.convert_here(path, "", {}, path.parent)


def outputs(model: bytes) -> Any:
    tracer = Tracer(model)
    return np.stack([tracer(one[None])[0] for one in WINDOWS])


def renamed(model: bytes, kind: str) -> bytes:
    """Return a model whose second op is a custom one."""
    graph = Graph(model)
    code = graph.schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = graph.schema.BuiltinOperator.CUSTOM
    code.customCode = kind.encode()
    graph.model.operatorCodes.append(code)
    graph.subgraph.operators[1].opcodeIndex = len(graph.model.operatorCodes) - 1
    return graph.pack()


def test_float16_weights_become_float32_constants_and_reach_int8(tmp_path: Path, plain: bytes) -> None:
    half = quantize(plain, "float16")
    assert [op.kind for op in Graph(half).ops].count("DEQUANTIZE") == 3
    made = convert(written(tmp_path, half))
    assert {op.kind for op in Graph(made).ops} == {"FULLY_CONNECTED"}
    assert len(half) < 0.6 * len(made) < 0.61 * len(plain)  # The halves themselves are gone.
    np.testing.assert_array_equal(outputs(made), outputs(half))
    int8 = quantize(made, "int8", observers.ranges(made, WINDOWS))
    proving.prove(int8, "int8.tflite", [WINDOWS[0]])
    assert len(int8) < 0.7 * len(half)
    assert left_in_float(int8) == []


def test_a_weight_in_halves_that_two_layers_share_stays_right(tmp_path: Path, plain: bytes) -> None:
    graph = Graph(quantize(plain, "float16"))
    first, *_, last = (op for op in graph.ops if op.kind == "FULLY_CONNECTED")
    operator = graph.subgraph.operators[last.index]
    operator.inputs = np.array([last.inputs[0], first.inputs[1], last.inputs[2]], np.int32)
    shared = graph.pack()
    np.testing.assert_array_equal(outputs(convert(written(tmp_path, shared))), outputs(shared))


def test_a_file_without_such_ops_is_taken_as_it_is(tmp_path: Path, plain: bytes) -> None:
    assert convert(written(tmp_path, plain)) == plain


def test_a_file_of_an_old_converter_reaches_int8(tmp_path: Path, plain: bytes) -> None:
    graph = Graph(plain)
    for code in graph.model.operatorCodes:
        code.builtinCode = 0  # Before 2020, the number was in the other field alone.
    made = convert(written(tmp_path, graph.pack()))
    int8 = quantize(made, "int8", observers.ranges(made, WINDOWS))
    proving.prove(int8, "int8.tflite", [WINDOWS[0]])
    assert np.abs(outputs(int8) - outputs(plain)).max() < 0.2


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("TransformLandmarks", "the custom ops TransformLandmarks. Only the program of their maker"),
        ("FlexErf", "has no TensorFlow ops, and the model needs Erf. Convert the model with TFLITE_BUILTINS only"),
    ],
)
def test_ops_that_no_runtime_has_are_refused_before_the_data_are_read(
    tmp_path: Path, plain: bytes, capsys: pytest.CaptureFixture[str], kind: str, expected: str
) -> None:
    path = written(tmp_path, renamed(plain, kind))
    written(tmp_path, b"no data", "x.npy")
    (tmp_path / "convert.toml").write_text(
        '[model]\npath = "m.tflite"\n[data]\ncalibration = "x.npy"\ntest = "x.npy"\n'
        '[bundle]\nname = "m"\nversion = 1\ntask = "regress"\n'
    )
    assert cli.main(["run", str(tmp_path / "convert.toml")]) == 1
    error = capsys.readouterr().err
    assert expected in error
    assert "x.npy" not in error
    assert cli.main(["inspect", str(path)]) == 0
    assert f"not in the runtime: {kind}\n" in capsys.readouterr().out


def test_an_op_that_comes_with_the_runtime_is_not_missing(
    tmp_path: Path, plain: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["inspect", str(written(tmp_path, renamed(plain, "TFLite_Detection_PostProcess")))]) == 0
    assert "not in the runtime" not in capsys.readouterr().out


def test_a_model_that_the_runtime_refuses_names_the_layer(plain: bytes) -> None:
    graph = Graph(plain)
    weights = graph.subgraph.tensors[graph.ops[1].inputs[1]]
    weights.shape = np.array([SIZE // 2, SIZE * 2], np.int32)  # For more inputs than it has.
    with pytest.raises(ConvertError, match=r"int8.tflite: .* refuses it: .*\(layer \w+ \(FULLY_CONNECTED\)\)"):
        proving.prove(graph.pack(), "int8.tflite", [WINDOWS[0]])


def test_a_name_that_is_no_text_is_shown_as_far_as_it_is(tmp_path: Path, plain: bytes) -> None:
    graph = Graph(plain)
    graph.subgraph.tensors[graph.inputs[0]].name = b"in\xff"
    assert facts.read(written(tmp_path, graph.pack())).inputs == ["in\N{REPLACEMENT CHARACTER} [1, 64] float32"]


def test_a_model_that_crashes_the_runtime_does_not_end_the_command(
    tmp_path: Path, plain: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = Graph(plain)
    code = graph.schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = graph.schema.BuiltinOperator.SPACE_TO_BATCH_ND
    graph.model.operatorCodes.append(code)
    op = graph.subgraph.operators[1]
    op.opcodeIndex = len(graph.model.operatorCodes) - 1
    op.builtinOptions, op.builtinOptionsType = None, 0
    op.inputs = np.array([-1, *op.inputs[1:]], np.int32)  # The runtime reads it without a look.
    path = written(tmp_path, graph.pack())
    for command in (["diff", str(path), str(path)], ["convert", str(path), "--output", str(tmp_path / "out")]):
        assert cli.main(command) == 1
        assert "m.tflite: the runtime crashed (signal 11) when it ran this model once" in capsys.readouterr().err
    assert not (tmp_path / "out" / "m.tflite").exists()
    proving.prove(plain, "m.tflite")  # The next model gets another child.
