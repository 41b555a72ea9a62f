"""Axes of a model's inputs and outputs in another order: the same numbers, elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from limpet_convert.converters import _tflite_axes
from limpet_convert.graph import Graph, Tracer
from support import models

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def plain(tmp_path: Path) -> bytes:
    return models.conv(tmp_path / "m.tflite", size=4, channels=3).read_bytes()


def test_an_output_is_given_with_its_axes_in_another_order(plain: bytes) -> None:
    graph, values = Graph(plain), np.random.default_rng(0).standard_normal((1, 4, 4, 3)).astype(np.float32)
    name = graph.names[graph.outputs[0]]
    _tflite_axes.give(graph, graph.outputs[0], [0, 3, 1, 2])
    found, before = Tracer(graph.pack()), Tracer(plain)
    np.testing.assert_array_equal(found(values)[0], before(values)[0].transpose(0, 3, 1, 2))
    assert found.outputs[0]["name"] == name


def test_an_input_is_taken_with_its_axes_in_another_order(plain: bytes) -> None:
    graph, values = Graph(plain), np.random.default_rng(0).standard_normal((1, 3, 4, 4)).astype(np.float32)
    name = graph.names[graph.inputs[0]]
    _tflite_axes.take(graph, graph.inputs[0], [0, 2, 3, 1])
    found, before = Tracer(graph.pack()), Tracer(plain)
    assert found.inputs[0]["shape"].tolist() == [1, 3, 4, 4]
    np.testing.assert_array_equal(found(values)[0], before(values.transpose(0, 2, 3, 1))[0])
    assert found.inputs[0]["name"] == name
