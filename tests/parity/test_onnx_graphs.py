"""ONNX graphs as people have them: open sizes, odd names, half precision, several outputs, whole numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from limpet_convert import graph, sources
from limpet_convert.converters import _onnx_graph
from limpet_convert.errors import ConvertError
from limpet_convert.graph import Tracer

if TYPE_CHECKING:
    from pathlib import Path

onnx: Any = pytest.importorskip("onnx", reason="needs the environment of `make parity`")
onnxruntime: Any = pytest.importorskip("onnxruntime", reason="needs the environment of `make parity`")
reference: Any = pytest.importorskip("onnx.reference", reason="needs the environment of `make parity`")
pytest.importorskip("onnxslim", reason="needs the environment of `make parity`")
TensorProto, helper, numpy_helper = onnx.TensorProto, onnx.helper, onnx.numpy_helper


RANDOM = np.random.default_rng(0)


def constant(name: str, values: Any, dtype: Any = np.float32) -> Any:
    return numpy_helper.from_array(np.asarray(values, dtype), name)


def made(nodes: list[Any], constants: list[Any], shape: list[Any], kind: int = TensorProto.FLOAT) -> Any:
    of = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("in:0", kind, shape)],
        [helper.make_tensor_value_info("out@1", TensorProto.FLOAT, ["a", "b"])],
        constants,
    )
    return helper.make_model(of, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def convolution(shape: list[Any], dtype: Any = np.float32) -> Any:
    kind = TensorProto.FLOAT16 if dtype is np.float16 else TensorProto.FLOAT
    model = made(
        [
            helper.make_node("Conv", ["in:0", "w;1"], ["c"], "conv@0", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["c"], ["r"], "conv@0"),
            helper.make_node("GlobalAveragePool", ["r"], ["p"], ""),
            helper.make_node("Shape", ["p"], ["s"], "shape"),
            helper.make_node("Gather", ["s", "zero"], ["batch"], "batch"),
            helper.make_node("Concat", ["batch", "rest"], ["target"], "target", axis=0),
            helper.make_node("Reshape", ["p", "target"], ["flat"], "flat"),
            helper.make_node("Softmax", ["flat"], ["out@1"], "Softmax@0", axis=1),
        ],
        [
            constant("w;1", RANDOM.standard_normal((4, 3, 3, 3)), dtype),
            constant("zero", [0], np.int64),
            constant("rest", [4], np.int64),
        ],
        shape,
        kind,
    )
    model.graph.output[0].type.tensor_type.elem_type = kind
    return model


def converted(model: Any, folder: Path, **options: Any) -> bytes:
    onnx.save(model, folder / "m.onnx")
    return sources.convert(folder / "m.onnx", "", options, folder)


@pytest.mark.parametrize("batch", [-1, "N", 1])
def test_an_open_batch_and_names_that_tensorflow_refuses(tmp_path: Path, batch: Any) -> None:
    plain = converted(convolution([batch, 3, "h", "w"]), tmp_path, shape=[3, 8, 8])
    assert graph.way(plain).startswith("onnx2tf")
    tracer = Tracer(plain)
    assert tracer.inputs[0]["shape"].tolist() == [1, 8, 8, 3]
    names = " ".join(graph.Graph(plain).names)
    assert "conv@0" in names


def test_outputs_have_their_axes_as_in_the_file(tmp_path: Path) -> None:
    """Boxes of a detector, for example: a row for each place on the map."""
    model = made(
        [
            helper.make_node("Conv", ["in:0", "w"], ["c"], "conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
            helper.make_node("Reshape", ["c", "places"], ["rows"], "rows"),
            helper.make_node("Transpose", ["rows"], ["out@1"], "boxes", perm=[0, 2, 1]),
        ],
        [constant("w", RANDOM.standard_normal((6, 3, 3, 3))), constant("places", [1, 6, 64], np.int64)],
        [1, 3, 8, 8],
    )
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    tracer = Tracer(converted(model, tmp_path))
    values = RANDOM.standard_normal((1, 3, 8, 8)).astype(np.float32)
    expected = onnxruntime.InferenceSession(tmp_path / "m.onnx").run(None, {"in:0": values})[0]
    np.testing.assert_allclose(tracer(values.transpose(0, 2, 3, 1))[0], expected, atol=1e-4)


def test_a_model_that_needs_a_larger_batch_is_refused_by_its_node(tmp_path: Path) -> None:
    model = made(
        [helper.make_node("Reshape", ["in:0", "groups"], ["out@1"], "four windows")],
        [constant("groups", [4, -1], np.int64)],
        ["batch", 7],
    )
    with pytest.raises(ConvertError, match=r"does not run with the inputs in:0 \[1, 7\].*four windows"):
        converted(model, tmp_path, layout="as_is")


def test_half_precision_becomes_float32(tmp_path: Path) -> None:
    tracer = Tracer(converted(convolution([1, 3, 8, 8], np.float16), tmp_path))
    assert tracer.inputs[0]["dtype"] is np.float32


def test_a_size_that_stays_open_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match="sizes left open"):
        converted(convolution(["N", 3, "h", "w"]), tmp_path)


def test_whole_numbers_are_proven_too(tmp_path: Path) -> None:
    model = made(
        [
            helper.make_node("Gather", ["table", "in:0"], ["rows"], "embedding"),
            helper.make_node("ReduceMean", ["rows"], ["out@1"], "mean", axes=[1], keepdims=0),
        ],
        [constant("table", RANDOM.standard_normal((50, 8)))],
        ["batch", 6],
        TensorProto.INT64,
    )
    assert np.dtype(Tracer(converted(model, tmp_path)).inputs[0]["dtype"]).kind == "i"


def test_a_quantized_model_is_refused_by_its_node(tmp_path: Path) -> None:
    model = made(
        [
            helper.make_node("QuantizeLinear", ["in:0", "scale", "zero"], ["q"], "quant"),
            helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["out@1"], "dequant"),
        ],
        [constant("scale", 0.1), constant("zero", 0, np.int8)],
        [1, 4],
    )
    with pytest.raises(ConvertError, match=r"quantized already, from node quant \(QuantizeLinear\) on"):
        converted(model, tmp_path)


def test_an_op_that_no_way_has_is_refused_by_its_node(tmp_path: Path) -> None:
    model = made([helper.make_node("Unique", ["in:0"], ["out@1"], "no repeats")], [], [1, 3])
    with pytest.raises(ConvertError, match=r"no repeats \(Unique\)"):
        converted(model, tmp_path, layout="as_is")


def test_a_hard_sigmoid_has_an_int8_form(tmp_path: Path) -> None:
    node = helper.make_node("HardSigmoid", ["in:0"], ["out@1"], "gate", alpha=0.3, beta=0.4)
    model = converted(made([node], [], [1, 6]), tmp_path)
    assert "RELU_0_TO_1" not in [op.kind for op in graph.Graph(model).ops]
    values = np.linspace(-4, 4, 6, dtype=np.float32)[None]
    assert Tracer(model)(values)[0] == pytest.approx(np.clip(0.3 * values + 0.4, 0, 1), abs=1e-6)


def test_names_are_safe_and_unlike_each_other_and_titles_are_the_users() -> None:
    model, titles = _onnx_graph.prepare(convolution([1, 3, 8, 8]), {})
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    assert all(name.replace("_", "").isalnum() for name in names)
    assert titles[names[-1]] == "Softmax@0 (Softmax)"
    assert [one.name for one in (*model.graph.input, *model.graph.output)] == ["in_0", "out_1"]


def test_the_user_s_names_and_ours_are_never_the_same() -> None:
    """Here the user has the names that Limpet gives to tensors, for an input and an output."""
    model = made(
        [
            helper.make_node("Mul", ["tensor_1", "a"], ["q"], "node_1_Add"),
            helper.make_node("Add", ["q", "b"], ["tensor_0"], "\x1b[2J\n"),
        ],
        [constant("a", [2, 3]), constant("b", [1, 2])],
        [1, 2],
    )
    model.graph.input[0].name, model.graph.output[0].name = "tensor_1", "tensor_0"
    prepared, _ = _onnx_graph.prepare(model, {})
    found = [*prepared.graph.input, *prepared.graph.initializer]
    names = [one.name for one in found] + [name for node in prepared.graph.node for name in node.output]
    assert len(set(names)) == len(names)
    onnx.checker.check_model(prepared)


def test_a_branch_reads_renamed_tensors_of_the_graph_around_it() -> None:
    def branch(op: str, other: str) -> Any:
        out = helper.make_tensor_value_info(op, TensorProto.FLOAT, [1, 2])
        return helper.make_graph([helper.make_node(op, ["in:0", other], [op])], op, [], [out])

    model = made(
        [
            helper.make_node("ReduceMax", ["in:0"], ["most"], "", keepdims=0),
            helper.make_node("Greater", ["most", "zero"], ["more"]),
            helper.make_node("Abs", ["in:0"], ["b@"]),
            helper.make_node(
                "If", ["more"], ["out@1"], then_branch=branch("Mul", "b@"), else_branch=branch("Add", "b@")
            ),
        ],
        [constant("zero", 0)],
        [1, 2],
    )
    prepared, _ = _onnx_graph.prepare(model, {})
    run = reference.ReferenceEvaluator(prepared).run
    name = prepared.graph.input[0].name
    assert run(None, {name: np.float32([[1, -2]])})[0].tolist() == [[1, -4]]
    assert run(None, {name: np.float32([[-1, -2]])})[0].tolist() == [[0, 0]]


def test_functions_of_the_file_are_written_out() -> None:
    twice = helper.make_function(
        "mine", "Tw ice", ["x"], ["y"], [helper.make_node("Add", ["x", "x"], ["y"])], [helper.make_opsetid("", 17)]
    )
    model = made([helper.make_node("Tw ice", ["in:0"], ["out@1"], "n", domain="mine")], [], [1, 2])
    model.opset_import.append(helper.make_opsetid("mine", 1))
    model.functions.append(twice)
    prepared, _ = _onnx_graph.prepare(model, {})
    assert [node.op_type for node in prepared.graph.node] == ["Add"]


@pytest.mark.parametrize(
    ("kind", "shape", "why"),
    [
        (TensorProto.STRING, [1, 2], "takes STRING"),
        (TensorProto.UINT32, [1, 2], "takes UINT32"),
        (TensorProto.FLOAT, [1, 2**31 - 1, 64], "more than 268,435,456 values"),
    ],
)
def test_an_input_that_no_device_gives_is_refused(kind: int, shape: list[int], why: str) -> None:
    model = made([helper.make_node("Identity", ["in:0"], ["out@1"])], [], shape, kind)
    with pytest.raises(ConvertError, match=why):
        _onnx_graph.prepare(model, {"in:0": shape})


@pytest.mark.parametrize("op", ["Log", "Sqrt"])
def test_a_model_that_takes_no_negative_numbers_is_proven_with_positive_ones(tmp_path: Path, op: str) -> None:
    weights = RANDOM.standard_normal((6, 3))
    nodes = [
        helper.make_node(op, ["in:0"], ["h"], "first"),
        helper.make_node("MatMul", ["h", "w"], ["out@1"], "head"),
    ]
    tracer = Tracer(converted(made(nodes, [constant("w", weights)], [1, 6]), tmp_path))
    inputs = np.abs(RANDOM.standard_normal((1, 6))).astype(np.float32) + 0.1
    exact = (np.log if op == "Log" else np.sqrt)(inputs) @ weights
    np.testing.assert_allclose(tracer(inputs)[0], exact, rtol=1e-4, atol=1e-5)


def test_a_softmax_of_an_old_opset_works_on_all_axes_from_one_on(tmp_path: Path) -> None:
    nodes = [helper.make_node("Softmax", ["in:0"], ["h"], "soft", axis=1)]
    nodes.append(helper.make_node("Flatten", ["h"], ["out@1"], "flat"))
    model = made(nodes, [], [1, 3, 4, 5])
    model.opset_import[0].version = 11
    inputs = RANDOM.standard_normal((1, 4, 5, 3)).astype(np.float32)
    shares = np.exp(inputs) / np.exp(inputs).sum()
    tracer = Tracer(converted(model, tmp_path))
    np.testing.assert_allclose(tracer(inputs)[0], np.moveaxis(shares, -1, 1).reshape(1, -1), rtol=1e-4, atol=1e-6)


def test_a_model_of_more_nodes_than_any_device_has_time_for_is_refused() -> None:
    chain = [helper.make_node("Sin", [f"t{one}"], [f"t{one + 1}"]) for one in range(_onnx_graph.MOST_NODES)]
    model = made([helper.make_node("Abs", ["in:0"], ["t0"]), *chain], [], [1, 2])
    model.graph.output[0].name = f"t{len(chain)}"
    with pytest.raises(ConvertError, match=r"it has 10,001 nodes"):
        _onnx_graph.prepare(model, {})
