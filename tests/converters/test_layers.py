"""Which layer goes wrong: float and int8 models whose every tensor is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from limpet_convert import layers
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
