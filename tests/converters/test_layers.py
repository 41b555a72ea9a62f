"""Which layer goes wrong: float and int8 models whose every tensor is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from limpet_convert import layers, report
from limpet_convert.graph import Graph, Tracer, layer_name
from support import models

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def pair(tmp_path: Path) -> tuple[bytes, bytes]:
    """The same model in float and in int8, which reaches from -8.1875 to 7.75."""
    exact = models.dense(tmp_path / "float.tflite", 6, 6, int8=False, layers=2)
    return exact.read_bytes(), models.dense(tmp_path / "int8.tflite", 6, 6, layers=2).read_bytes()


def test_a_clipped_range_is_called_that_where_it_begins(pair: tuple[bytes, bytes]) -> None:
    inputs = np.random.default_rng(0).uniform(-40, 40, (20, 1, 6)).astype(np.float32)
    found = layers.diagnose(*pair, inputs)
    assert found.faulty_layer is not None
    assert (found.faulty_layer.tensor, found.faulty_layer.cause) == ("input", "clipped")
    assert "-8.188 to 7.75" in found.faulty_layer.why


def test_a_healthy_model_has_no_faulty_layer(pair: tuple[bytes, bytes]) -> None:
    inputs = np.random.default_rng(0).uniform(-7, 7, (20, 1, 6)).astype(np.float32)
    found = layers.diagnose(*pair, inputs)
    assert found.faulty_layer is None
    assert all(layer.error < 0.02 for layer in found.layers)
    assert [layer.kind for layer in found.layers] == ["INPUT", "FULLY_CONNECTED", "FULLY_CONNECTED"]


def test_a_rare_channel_is_named_with_its_number(pair: tuple[bytes, bytes]) -> None:
    inputs = np.random.default_rng(0).uniform(-0.02, 0.02, (20, 1, 6)).astype(np.float32)
    inputs[:, :, 4] *= 350
    named = layers.diagnose(*pair, inputs).layers[0]
    assert named.cause == "channel"
    assert "channel 4 reaches" in named.why


def test_values_that_use_a_few_steps_of_their_range_are_named(pair: tuple[bytes, bytes]) -> None:
    inputs = np.random.default_rng(0).uniform(-0.02, 0.02, (400, 1, 6)).astype(np.float32)
    named = layers.diagnose(*pair, inputs).layers[0]
    assert named.cause == "outlier"
    assert named.effect > layers.FAULTY


def test_an_effect_is_that_of_one_layer_alone(pair: tuple[bytes, bytes]) -> None:
    inputs = np.random.default_rng(0).uniform(-7, 7, (20, 1, 6)).astype(np.float32)
    first, *_, last = layers.diagnose(*pair, inputs).layers
    step = 1 / 16 / np.sqrt(12) / inputs.std()
    assert first.effect == pytest.approx(step, rel=0.1)
    assert last.error >= first.effect > 0


def test_a_packed_graph_computes_what_it_did(pair: tuple[bytes, bytes]) -> None:
    inputs = np.random.default_rng(0).uniform(-7, 7, (1, 6)).astype(np.float32)
    for model in pair:
        np.testing.assert_array_equal(Tracer(model)(inputs)[0], Tracer(Graph(model).pack())(inputs)[0])


@pytest.mark.parametrize(
    ("tensor", "layer"),
    [
        ("sequential_1/second_1/Relu;sequential_1/second_1/convolution", "second"),
        ("model_1/block_2_1/add", "block_2"),
        ("sequential_1/first_1/convolution/Squeeze", "first"),
        ("dense/MatMul", "dense"),
        ("StatefulPartitionedCall_1:0", ""),
        ("torch.nn.modules.linear.Linear_fc;", ""),
        ("__main__.P;3", ""),
        ("blocks.0.conv;", "blocks.0.conv"),
        ("relu;;blocks.0.norm;;blocks.0.conv;2", "blocks.0.conv"),
        ("/stem/conv/Conv;1", "/stem/conv/Conv"),
    ],
)
def test_a_layer_is_called_what_its_maker_called_it(tensor: str, layer: str) -> None:
    assert layer_name(tensor) == layer


def long(tmp_path: Path, ops: int) -> tuple[bytes, bytes]:
    exact = models.dense(tmp_path / "long.tflite", 6, 6, int8=False, layers=ops)
    return exact.read_bytes(), models.dense(tmp_path / "long8.tflite", 6, 6, layers=ops).read_bytes()


def test_of_a_large_model_some_layers_are_measured_and_the_rest_are_counted(tmp_path: Path) -> None:
    ops, seconds = 60, 0.8
    float_model, int8 = long(tmp_path, ops)
    samples, most = layers.effort(Graph(float_model), seconds)
    inputs = np.random.default_rng(0).uniform(-7, 7, (30, 1, 6)).astype(np.float32)
    shares: list[float] = []
    found = layers.diagnose(float_model, int8, inputs, shares.append, seconds=seconds)
    assert samples == layers.SAMPLES
    assert layers.ENOUGH <= most < ops
    assert len(found.layers) == ops + 1
    assert found.unmeasured >= ops - most
    assert 0 < sum((layer.effect > 0) + (layer.weight_effect > 0) for layer in found.layers) <= most + 1
    assert shares == sorted(shares)
    assert "were not measured" in report.unmeasured(found)


def test_a_model_of_many_products_is_measured_with_fewer_inputs(tmp_path: Path) -> None:
    small = Graph(models.conv(tmp_path / "s.tflite", 8, 3, dtype="float32").read_bytes())
    large = Graph(models.conv(tmp_path / "l.tflite", 700, 16, layers=4, dtype="float32").read_bytes())
    assert layers.effort(small)[0] == layers.SAMPLES
    assert layers.effort(large)[0] == layers.FEWER_SAMPLES
    assert layers.effort(large)[1] >= layers.LEAST


def test_of_what_is_too_much_the_worst_are_measured_and_some_of_the_rest() -> None:
    doubts = {(number, "tensor"): float(number) for number in range(100)}
    chosen = layers.suspects(doubts, 20)
    assert len(chosen.taken) == 20
    assert {(number, "tensor") for number in range(85, 100)} <= chosen.taken
    assert min(number for number, _ in chosen.taken) == 0
    assert chosen.left == set(doubts) - chosen.taken


def test_large_tensors_are_thinned_with_all_their_channels() -> None:
    values = np.arange(200 * 200 * 3, dtype=np.float32).reshape(1, 200, 200, 3)
    thin = layers.thinned(values)
    assert thin.size <= layers.MOST_VALUES
    assert thin.shape[-1] == 3
    assert thin[0].tolist() == [0, 1, 2]
