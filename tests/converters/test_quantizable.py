"""What a model is made to be before and after its quantizer: no reversals, no loops, no output left in float."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from limpet_convert import observers, quantizable
from limpet_convert.errors import ConvertError
from limpet_convert.graph import Graph, Tracer
from limpet_convert.quantize import left_in_float, quantize
from support import flatfile, models
from support.flatfile import Op, Tensor

if TYPE_CHECKING:
    from pathlib import Path

    from limpet_convert.project import Variant

pytest.importorskip("litert_quantizer", reason="there is no litert-quantizer for this machine")

TANH, SPLIT, REVERSE, PRODUCT, PAD = 28, (49, 35), (105, 81), (126, 101), (60, 22)
INPUTS = np.random.default_rng(0).normal(size=(40, 1, 5, 4)).astype(np.float32)


def backwards(axis: tuple[int, ...] = (1,)) -> bytes:
    """The hyperbolic tangent of five steps of four numbers, the last step first."""
    tensors = [
        Tensor("input", (1, 5, 4)),
        Tensor("axis", (len(axis),), "int32", values=axis),
        Tensor("turned", (1, 5, 4)),
        Tensor("output", (1, 5, 4)),
    ]
    ops = [Op(REVERSE[0], [0, 1], [2], (REVERSE[1], {})), Op(TANH, [2], [3])]
    return flatfile.write([flatfile.Graph(tensors, ops, [0], [3])])


def halves() -> bytes:
    """The hyperbolic tangent of the first two of four numbers. Nothing reads the other two."""
    tensors = [
        Tensor("axis", (), "int32", values=2),
        Tensor("input", (1, 5, 4)),
        Tensor("first", (1, 5, 2)),
        Tensor("second", (1, 5, 2)),
        Tensor("output", (1, 5, 2)),
    ]
    ops = [Op(SPLIT[0], [0, 1], [2, 3], (SPLIT[1], {"i32_0": 2})), Op(TANH, [2], [4])]
    return flatfile.write([flatfile.Graph(tensors, ops, [1], [4])])


WEIGHTS = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)


def product(adj_y: int, batch: tuple[int, ...]) -> bytes:
    """Each of five steps times a constant matrix, which is turned if ``adj_y`` is 1."""
    values = WEIGHTS.T if adj_y else WEIGHTS
    tensors = [
        Tensor("input", (1, 5, 4)),
        Tensor("weights", (*batch, *values.shape), values=np.ascontiguousarray(values).ravel()),
        Tensor("output", (1, 5, 3)),
    ]
    ops = [Op(PRODUCT[0], [0, 1], [2], (PRODUCT[1], {"bool_1": bool(adj_y)}))]
    return flatfile.write([flatfile.Graph(tensors, ops, [0], [2])])


def kinds(model: bytes) -> list[str]:
    return [op.kind for op in Graph(model).ops]


@pytest.mark.parametrize("axis", [1, 2, -1])
def test_an_axis_is_taken_backwards_with_the_same_numbers(axis: int) -> None:
    model = backwards((axis,))
    made = quantizable.prepared(model, "int8")
    assert kinds(made) == ["GATHER", "TANH"]
    assert Tracer(made)(INPUTS[0])[0] == pytest.approx(np.tanh(np.flip(INPUTS[0], axis)), abs=1e-6)
    np.testing.assert_array_equal(Tracer(made)(INPUTS[0])[0], Tracer(model)(INPUTS[0])[0])


@pytest.mark.parametrize("variant", ["int8", "int16x8"])
@pytest.mark.parametrize("make", [backwards, halves])
def test_no_layer_stays_in_float(make: Any, variant: Variant) -> None:
    model = make()
    made = quantize(model, variant, observers.ranges(model, INPUTS))
    assert left_in_float(made) == []
    exact, other = Tracer(model), Tracer(made)
    for one in INPUTS:
        assert other(one)[0] == pytest.approx(exact(one)[0], abs=0.03)


@pytest.mark.parametrize("adj_y", [0, 1])
@pytest.mark.parametrize("batch", [(), (1,)])
def test_a_product_with_constants_is_a_layer_whose_int8_form_is_right(adj_y: int, batch: tuple[int, ...]) -> None:
    model = product(adj_y, batch)
    made = quantizable.prepared(model, "int8")
    assert kinds(made) == ["FULLY_CONNECTED"]
    assert Tracer(made)(INPUTS[0])[0] == pytest.approx(INPUTS[0] @ WEIGHTS, abs=1e-5)
    quantized = quantize(model, "int8", observers.ranges(model, INPUTS))
    assert left_in_float(quantized) == []
    int8 = Tracer(quantized)
    for one in INPUTS:
        assert int8(one)[0] == pytest.approx(one @ WEIGHTS, abs=0.15)


def test_padding_with_the_lowest_number_leaves_the_others_their_steps() -> None:
    tensors = [
        Tensor("input", (1, 5, 4)),
        Tensor("sizes", (3, 2), "int32", values=np.array([0, 0, 1, 1, 0, 0])),
        Tensor("lowest", (1,), values=np.array([np.finfo(np.float32).min])),
        Tensor("output", (1, 7, 4)),
    ]
    model = flatfile.write([flatfile.Graph(tensors, [Op(PAD[0], [0, 1, 2], [3], (PAD[1], {}))], [0], [3])])
    int8 = Tracer(quantize(model, "int8", observers.ranges(model, INPUTS)))
    for one in INPUTS:
        made = int8(one)[0].reshape(7, 4)
        assert made[1:6] == pytest.approx(one[0], abs=0.03)
        assert made[[0, 6]] == pytest.approx(np.full((2, 4), INPUTS.min()), abs=0.03)


def steps() -> bytes:
    """Five products by the same large constants, one after the other, as in a recurrent layer."""
    values = np.random.default_rng(2).normal(size=(64, 64)).astype(np.float32) / 8
    tensors = [Tensor("weights", (64, 64), values=values)]
    tensors += [Tensor(f"step_{number}", (1, 64)) for number in range(6)]
    ops = [Op(PRODUCT[0], [number, 0], [number + 1], (PRODUCT[1], {})) for number in range(1, 6)]
    return flatfile.write([flatfile.Graph(tensors, ops, [1], [6])])


def test_weights_of_many_steps_are_stored_once() -> None:
    model = steps()
    made = quantizable.prepared(model, "int8")
    assert len(made) < len(model) * 1.1
    inputs = np.random.default_rng(3).normal(size=(20, 1, 64)).astype(np.float32)
    small = quantize(model, "int8", observers.ranges(model, inputs))
    assert len(small) < len(model) * 0.7
    exact = np.stack([Tracer(model)(one)[0] for one in inputs])
    other = np.stack([Tracer(small)(one)[0] for one in inputs])
    assert np.sqrt(np.mean((exact - other) ** 2)) < 0.1 * exact.std()


@pytest.mark.parametrize("variant", ["int8", "int16x8", "mixed"])
def test_a_product_by_a_matrix_for_each_part_has_one_scale(variant: Variant) -> None:
    values = np.random.default_rng(4).normal(size=(2, 4, 3)).astype(np.float32)
    tensors = [
        Tensor("input", (2, 5, 4)),
        Tensor("weights", (2, 4, 3), values=values),
        Tensor("output", (2, 5, 3)),
    ]
    ops = [Op(PRODUCT[0], [0, 1], [2], (PRODUCT[1], {}))]
    model = flatfile.write([flatfile.Graph(tensors, ops, [0], [2])])
    inputs = INPUTS.reshape(20, 2, 5, 4)
    made = Tracer(quantize(model, variant, observers.ranges(model, inputs)))
    exact = np.stack([one @ values for one in inputs])
    other = np.stack([made(one)[0] for one in inputs])
    assert np.sqrt(np.mean((exact - other) ** 2)) < 0.05 * exact.std()


def test_a_model_without_a_reversal_stays_as_it_is() -> None:
    model = halves()
    assert quantizable.prepared(model, "int8") == model


def test_a_loop_is_refused_with_what_to_do(tmp_path: Path) -> None:
    model = models.endless(tmp_path / "loop.tflite").read_bytes()
    for variant in ("int8", "int16x8"):
        with pytest.raises(ConvertError, match=rf'^{variant}: a loop has no quantized form.*"dynamic"$'):
            quantize(model, variant, {})
