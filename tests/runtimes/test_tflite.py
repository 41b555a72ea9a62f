from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from limpet.contracts.delegate import CPU
from limpet.errors import ModelError
from limpet.runtimes import tflite
from limpet.runtimes.litert import bindings
from support import models

ROW = np.arange(4, dtype=np.float32)
LSTM = Path(__file__).parents[1] / "data" / "models" / "lstm_cell.tflite"


def load(path: Path, *, shapes: Any = None, **config: Any) -> Any:
    return tflite.open(path, tflite.Config(**config), CPU, shapes)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.tflite"


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
def test_quantized_dtypes(path: Path, dtype: str) -> None:
    with load(models.dense(path, 4, 4, dtype=dtype)) as model:
        assert (model.inputs[0].dtype, model.outputs[0].dtype) == (dtype, dtype)
        np.testing.assert_allclose(model.run([ROW])[0], [ROW], atol=models.SCALE / 2)


def test_values_out_of_range_are_clipped(path: Path) -> None:
    with load(models.dense(path, 4, 4)) as model:
        (output,) = model.run([np.array([-1e30, 1e30, -np.inf, np.inf], np.float32)])
        np.testing.assert_allclose(output, [[-8.1875, 7.75, -8.1875, 7.75]])


def test_nan_is_stored_as_something_finite(path: Path) -> None:
    for size in (4, 200):
        with load(models.dense(path, size, size)) as model:
            (output,) = model.run([np.full(size, np.nan, np.float32)])
            assert np.isfinite(output).all()


def test_pixels_are_real_values(path: Path) -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    with load(models.conv(path, 2, 3)) as model:
        (output,) = model.run([pixels])
        wanted = np.minimum(pixels.clip(0, 7.75) * np.array([1, 2, 3]), 7.75)
        np.testing.assert_allclose(output, wanted[None], atol=models.SCALE)


def test_a_float_model_takes_what_can_become_float(path: Path) -> None:
    with load(models.dense(path, 4, 4, int8=False)) as model:
        for dtype in ("float32", "float64", "int16", "uint8"):
            np.testing.assert_array_equal(model.run([ROW.astype(dtype)])[0], [ROW])


def test_several_inputs_and_outputs(path: Path) -> None:
    with load(models.two(path)) as model:
        assert [spec.name for spec in model.inputs + model.outputs] == ["first", "second", "sum", "product"]
        total, product = model.run([ROW, ROW + 1])
        np.testing.assert_array_equal(total, [ROW + ROW + 1])
        np.testing.assert_array_equal(product, [ROW * (ROW + 1)])


def test_a_signature_gives_order_and_names(path: Path) -> None:
    with load(models.two(path), signature="serving") as model:
        assert [spec.name for spec in model.inputs + model.outputs] == ["a", "b", "product", "sum"]
        np.testing.assert_array_equal(model.run([ROW, ROW])[0], [ROW * ROW])
    with load(path, signature="swapped") as model:
        assert [spec.name for spec in model.outputs] == ["sum"]
    with pytest.raises(ModelError, match=r"no signature 'servin'.*'serving'"), load(path, signature="servin"):
        pass


def test_signatures_with_a_graph_each(path: Path) -> None:
    models.methods(path)
    for key, wanted in (("twice", ROW * 2), ("squared", ROW * ROW)):
        with load(path, signature=key) as model:
            assert (model.inputs[0].name, model.outputs[0].name) == ("x", "y")
            for _ in range(2):
                np.testing.assert_array_equal(model.run([ROW])[0], [wanted])


@pytest.mark.parametrize("int8", [True, False])
def test_a_shape_left_open(path: Path, *, int8: bool) -> None:
    models.dense(path, 4, 4, int8=int8, batch=-1)
    with load(path) as model:
        assert model.inputs[0].shape == model.outputs[0].shape == (-1, 4)
        np.testing.assert_array_equal(model.run([ROW])[0], [ROW])
    rows = np.stack([ROW, ROW + 1, ROW + 2])
    with load(path, shapes=[(3, 4)]) as model:
        assert model.inputs[0].shape == model.outputs[0].shape == (3, 4)
        for _ in range(2):
            np.testing.assert_array_equal(model.run([rows])[0], rows)
        with pytest.raises(ModelError, match=r"\[3, 4\], but got \[2, 4\]"):
            model.run([rows[:2]])
        model.reset()
        np.testing.assert_array_equal(model.run([rows])[0], rows)


@pytest.mark.parametrize("shapes", [[(3, 5)], [(1, 4), (1, 4)], [(0, 4)]])
def test_shapes_that_cannot_be_are_refused(path: Path, shapes: list[tuple[int, ...]]) -> None:
    models.dense(path, 4, 4, batch=-1)
    with pytest.raises(ModelError, match=r"model\.tflite"), load(path, shapes=shapes) as model:
        model.run([np.zeros(shapes[0], np.float32)])


def test_outputs_whose_size_depends_on_data(path: Path) -> None:
    with load(models.nonzero(path)) as model:
        assert model.outputs[0].shape == (-1, 1)
        for flags in ([1, 0, 0, 1, 0, 1], [0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]):
            (output,) = model.run([np.array(flags, bool)])
            np.testing.assert_array_equal(output, np.flatnonzero(flags)[:, None])


def test_flags_take_0_and_1(path: Path) -> None:
    with load(models.nonzero(path)) as model:
        (output,) = model.run([np.array([1, 0, 0, 1, 0, 1], np.float32)])
        np.testing.assert_array_equal(output, [[0], [3], [5]])
        for wrong in (0.5, 2, -1, np.nan):
            with pytest.raises(ModelError, match=f"'flags' takes bool, which is 0 or 1, but got {float(wrong)}"):
                model.run([np.array([1, 0, 0, 1, 0, wrong], np.float32)])


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_integers_that_are_not_quantized_take_rounded_values(path: Path, dtype: str) -> None:
    with load(models.integers(path, dtype)) as model:
        for given_dtype in (np.float32, np.float64):
            (output,) = model.run([np.array([0, -7, 2.4, 2.6], given_dtype)])
            np.testing.assert_array_equal(output, [[0, -14, 4, 6]])
        (output,) = model.run([np.array([1, 2, 3, 250], np.uint8)])
        np.testing.assert_array_equal(output, [[2, 4, 6, 500]])
        for wrong in (np.nan, np.inf, -1e30, 2.0**63):
            with pytest.raises(ModelError, match=f"takes {dtype}, from -.* but got"):
                model.run([np.array([0, 0, 0, wrong], np.float32)])


def test_integers_that_do_not_fit_are_refused_and_never_wrap(path: Path) -> None:
    with load(models.integers(path, "int32")) as model:
        with pytest.raises(ModelError, match="takes int32, from -2147483648 to 2147483647, but got 2147483648"):
            model.run([np.array([0, 0, 0, 2**31], np.int64)])
        np.testing.assert_array_equal(model.run([np.array([0, 0, 0, 7], np.int64)])[0], [[0, 0, 0, 14]])


def test_a_reset_makes_a_stateful_model_forget(path: Path) -> None:
    with load(models.accumulator(path)) as model:
        for times in (1, 2, 3):
            np.testing.assert_array_equal(model.run([ROW])[0], [ROW * times])
        model.reset()
        np.testing.assert_array_equal(model.run([ROW])[0], [ROW])


def test_the_state_of_fused_recurrent_ops_is_cleared_without_a_new_interpreter() -> None:
    with load(LSTM) as model:
        outputs = []
        for value in (1, -0.5, 1, -0.5):
            model.reset()
            outputs.append(float(model.run([np.full((4, 1), value, np.float32)])[0].ravel()[-1]))
        np.testing.assert_allclose(outputs, [0.995, -0.952, 0.995, -0.952], atol=1e-3)
        run = model.run
        model.reset()
        assert model.run is run  # the same interpreter


def test_variables_are_cleared_by_a_new_interpreter(path: Path) -> None:
    with load(models.accumulator(path)) as model:
        for _ in range(2):
            model.reset()
            run = model.run
            np.testing.assert_array_equal(model.run([ROW])[0], [ROW])
            model.run([ROW])
        model.reset()
        assert model.run is not run


def test_text_is_refused(path: Path) -> None:
    with pytest.raises(ModelError, match="'words' holds text"), load(models.text(path)):
        pass


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (models.unknown, "edgetpu-custom-op.*delegate 'edgetpu'"),
        (lambda path: models.unknown(path, "FlexErf"), "the TensorFlow ops FlexErf; convert"),
        (lambda path: models.lacking(path, "FlexErf", "Mine", "FlexErf"), "ops FlexErf; .*custom ops Mine$"),
        (models.newer, "'ADD' version '99'"),
    ],
    ids=["edgetpu", "flex", "several", "newer"],
)
def test_an_op_that_the_runtime_lacks_is_named(path: Path, make: Any, reason: str) -> None:
    with pytest.raises(ModelError, match=reason), load(make(path)):
        pass


def test_a_version_in_the_metadata_refuses_nothing_that_the_runtime_loads(path: Path) -> None:
    for version in (b"99.1.0", b"1.5.0".ljust(16, b"\0"), b"UNKNOWN", b"\xff"):
        models.dense(path, metadata={"min_runtime_version": version})
        with load(path) as model:
            assert len(model.outputs) == 1


def test_a_refusal_names_the_runtime_that_the_model_says_it_needs(path: Path) -> None:
    models.newer(path, metadata={"min_runtime_version": b"99.1.0"})
    with pytest.raises(ModelError, match=r"'ADD' version '99'.*it needs TFLite 99\.1\.0 or later"), load(path):
        pass


def test_outputs_are_valid_until_the_next_run(path: Path) -> None:
    with load(models.dense(path, 4, 4)) as model:
        (first,) = model.run([ROW])
        kept = first.copy()
        model.run([ROW + 1])
        assert not np.array_equal(first, kept)
        np.testing.assert_array_equal(kept, [ROW])


def test_arrays_of_another_dtype_or_shape_may_follow(path: Path) -> None:
    with load(models.dense(path, 4, 4)) as model:
        for values in (ROW, ROW[None], ROW.astype(np.uint8), ROW.astype(float)[:, None], ROW[::-1][::-1]):
            np.testing.assert_array_equal(model.run([values])[0], [ROW])


def test_memory_that_moved_is_seen(path: Path) -> None:
    interpreter = tflite.Interpreter(model_path=str(models.dense(path, 4, 4, int8=False, batch=-1)))
    interpreter.allocate_tensors()
    places = [
        [bindings.place("", details, closed=True) for details in each]
        for each in (interpreter.get_input_details(), interpreter.get_output_details())
    ]
    binding = bindings.direct(interpreter, *places)
    assert not bindings.moved(interpreter, binding)
    interpreter.resize_tensor_input(places[0][0][0], (100_000, 4))
    interpreter.allocate_tensors()
    assert bindings.moved(interpreter, binding)


def test_what_the_cpus_delegate_runs(path: Path) -> None:
    placement = tflite.cover(models.two(path))
    assert (placement.ops, placement.delegated, placement.share) == (("ADD", "MUL"), (True, True), 1.0)
    placement = tflite.cover(models.nonzero(path))
    assert (placement.ops, placement.delegated, placement.share) == (("WHERE",), (False,), 0.0)
