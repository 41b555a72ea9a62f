"""What is read of a model's graph, and models that are its beginning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limpet.errors import ModelError
from limpet.models.tflite import model_graph
from support import models
from support.flatfile import Graph, Op, Tensor, write

if TYPE_CHECKING:
    from pathlib import Path


def read(path: Path) -> model_graph.ModelGraph:
    return model_graph.read(path.read_bytes())


def test_multiply_adds_of_layers(tmp_path: Path) -> None:
    dense = read(models.dense(tmp_path / "dense", 9, 5, layers=2))
    assert [op.macs for op in dense.ops] == [9 * 5, 5 * 5]
    assert dense.macs == 70
    assert read(models.dense(tmp_path / "batch", 4, 4, batch=3)).macs == 3 * 4 * 4
    assert read(models.conv(tmp_path / "conv", 8, 3)).macs == 8 * 8 * 3 * 3


def test_ops_without_multiply_adds_and_ops_nobody_knows(tmp_path: Path) -> None:
    assert read(models.two(tmp_path / "two")).macs == 0
    custom = read(models.unknown(tmp_path / "custom", "edgetpu-custom-op"))
    assert (custom.ops[0].custom, custom.ops[0].macs, custom.macs) == ("edgetpu-custom-op", None, None)


def test_tensors(tmp_path: Path) -> None:
    graph = read(models.conv(tmp_path / "conv", 8, 3))
    (image,), (scaled,) = graph.inputs, graph.outputs
    assert graph.tensors[image].shape == graph.tensors[scaled].shape == (1, 8, 8, 3)
    assert graph.tensors[image].scale == (models.SCALE,)
    assert graph.tensors[image].zero_point == (models.ZERO_POINT,)
    assert [len(t.scale) for t in graph.tensors if t.name == "filter0"] == [3]
    assert [t.name for t in graph.tensors if t.constant] == ["filter0", "bias0"]


@pytest.mark.parametrize(
    ("code", "shapes", "output", "macs"),
    [
        (3, [(1, 10, 10, 8), (16, 3, 3, 8), (16,)], (1, 5, 5, 16), 5 * 5 * 16 * 3 * 3 * 8),
        (4, [(1, 10, 10, 8), (1, 3, 3, 16), (16,)], (1, 10, 10, 16), 10 * 10 * 16 * 3 * 3),
        (67, [(4,), (16, 2, 2, 8), (1, 5, 5, 8)], (1, 10, 10, 16), 5 * 5 * 8 * 2 * 2 * 16),
        (126, [(2, 3, 4), (2, 4, 5)], (2, 3, 5), 2 * 3 * 5 * 4),
        (132, [(1, 4, 4, 4, 2), (3, 3, 3, 2, 6)], (1, 4, 4, 4, 6), 64 * 6 * 27 * 2),
        (44, [(2, 7, 3), (5, 3), (5, 5)], (2, 7, 5), 2 * 7 * (15 + 25)),
        (0, [(1, 4), (1, 4)], (1, 4), 0),
    ],
    ids=["conv", "depthwise", "transposed", "matmul", "conv3d", "lstm", "add"],
)
def test_multiply_adds(code: int, shapes: list[tuple[int, ...]], output: tuple[int, ...], macs: int) -> None:
    constants = [0, *(1 for _ in shapes[1:])]
    tensors = [
        Tensor(f"t{i}", shape, values=np.zeros(shape) if constant else None)
        for i, (shape, constant) in enumerate(zip(shapes, constants, strict=True))
    ]
    inputs = list(range(len(shapes)))
    graph = Graph([*tensors, Tensor("out", output)], [Op(code, inputs, [len(shapes)])], [0], [len(shapes)])
    assert model_graph.read(write([graph])).macs == macs


def test_matrix_turned() -> None:
    tensors = [Tensor("a", (2, 4, 3)), Tensor("b", (2, 4, 5)), Tensor("c", (2, 3, 5))]
    turned = Op(126, [0, 1], [2], (101, {"bool_0": True}))
    assert model_graph.read(write([Graph(tensors, [turned], [0, 1], [2])])).macs == 2 * 3 * 5 * 4


def test_a_beginning_computes_what_the_whole_does_on_the_way(tmp_path: Path) -> None:
    data = models.conv(tmp_path / "conv", 4, 3, layers=3).read_bytes()
    graph = model_graph.read(data)
    image = np.arange(48, dtype=np.int8).reshape(1, 4, 4, 3)

    def run(model: bytes) -> tuple[int, np.ndarray]:
        interpreter = Interpreter(model_content=model)
        interpreter.allocate_tensors()
        interpreter.set_tensor(0, image)
        interpreter.invoke()
        (output,) = interpreter.get_output_details()
        return len(model_graph.read(model).ops), interpreter.get_tensor(output["index"])

    factors = np.arange(1, 4)
    for count in (1, 2, 3):
        ops, result = run(model_graph.beginning(data, count, graph.ops[count - 1].outputs[0]))
        assert ops == count
        expected = (image.astype(float) - models.ZERO_POINT) * factors**count + models.ZERO_POINT
        assert np.array_equal(result, expected.clip(-128, 127))


def test_a_beginning_of_a_model_with_signatures(tmp_path: Path) -> None:
    data = models.two(tmp_path / "two").read_bytes()
    interpreter = Interpreter(model_content=model_graph.beginning(data, 1, 2))
    interpreter.allocate_tensors()
    assert [details["name"] for details in interpreter.get_output_details()] == ["sum"]
    assert interpreter.get_signature_list() == {}


@pytest.mark.parametrize("data", [b"", b"TFL3", bytes(100), b"\x10\0\0\0TFL3" + bytes(40)])
def test_refuses_what_is_no_model(data: bytes) -> None:
    with pytest.raises(ModelError, match="not a TFLite model, or damaged"):
        model_graph.read(data)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return models.conv(tmp_path_factory.mktemp("sound") / "model", 4, 3, layers=2).read_bytes()


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(8, 3000), st.integers(0, 255)), min_size=1, max_size=4))
def test_damage_is_reported_or_harmless(changes: list[tuple[int, int]], sound: bytes) -> None:
    data = bytearray(sound)
    for at, value in changes:
        data[at % len(data)] = value
    try:
        graph = model_graph.read(bytes(data))
    except ModelError:
        return
    assert all(op.macs is None or isinstance(op.macs, int) for op in graph.ops)
