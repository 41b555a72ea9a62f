"""What a person gets to read for a dozen things that cannot be converted."""

from __future__ import annotations

import os
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from limpet.errors import LimpetError
from limpet_convert import project
from limpet_convert.conversion import Conversion
from limpet_convert.progress import Progress
from limpet_convert.sources import convert, convert_here

if TYPE_CHECKING:
    from pathlib import Path

keras: Any = pytest.importorskip("keras", reason="needs the environment of `make parity`")
tf: Any = pytest.importorskip("tensorflow", reason="needs the environment of `make parity`")
torch: Any = pytest.importorskip("torch", reason="needs the environment of `make parity`")
onnx: Any = pytest.importorskip("onnx", reason="needs the environment of `make parity`")
layers = keras.layers

pytestmark = pytest.mark.filterwarnings("ignore")  # the frameworks warn of each other's versions


def refused(path: Path, **options: Any) -> str:
    with pytest.raises(LimpetError) as caught:
        convert(path, "", options, path.parent)
    return str(caught.value)


def saved(folder: Path, *stack: Any, shape: tuple[int | None, ...] = (16,)) -> Path:
    keras.Sequential([keras.Input(shape), *stack]).save(folder / "model.keras")
    return folder / "model.keras"


@keras.saving.register_keras_serializable("tests")
class Complex(layers.Layer):  # type: ignore[misc,name-defined]
    """An op that TFLite lacks."""

    def call(self, x: Any) -> Any:
        return tf.math.igamma(x, x)


def test_an_op_that_tflite_lacks_is_named_with_its_layer(tmp_path: Path) -> None:
    """In this process, which knows the layer's class; the command's own child does not."""
    path = saved(tmp_path, layers.Dense(8), Complex(name="odd"))
    with pytest.raises(LimpetError) as caught:
        convert_here(path, "", {}, path.parent)
    assert "Igamma" in str(caught.value)
    assert "odd" in str(caught.value)


def test_an_open_size(tmp_path: Path) -> None:
    text = refused(saved(tmp_path, layers.Conv1D(2, 3), shape=(None, 3)))
    assert "[?, ?, 3]" in text
    assert "shape = " in text


def test_a_lambda_layer_is_code(tmp_path: Path) -> None:
    assert "Lambda layer" in refused(saved(tmp_path, layers.Lambda(lambda x: x * 2)))


def test_a_torch_op_that_tflite_lacks_is_named_with_its_module(tmp_path: Path) -> None:
    class Odd(torch.nn.Module):  # type: ignore[misc,name-defined]
        def forward(self, x: Any) -> Any:
            return torch.special.bessel_j0(x)

    module = torch.nn.Sequential()
    module.add_module("stem", torch.nn.Linear(6, 8))
    module.add_module("strange", Odd())
    torch.export.save(torch.export.export(module.eval(), (torch.zeros(1, 6),)), tmp_path / "m.pt2")
    text = refused(tmp_path / "m.pt2")
    assert "no op for special_bessel_j0 in strange" in text
    assert "polynomial" in text


def onnx_model(path: Path, nodes: list[Any], shapes: dict[str, list[int]]) -> Path:
    values = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, s) for n, s in shapes.items()]
    made = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "g", values[:-1], values[-1:]),
        opset_imports=[onnx.helper.make_opsetid("", 17)],
    )
    made.ir_version = 9
    onnx.save(made, path)
    return path


def test_an_onnx_op_that_tflite_lacks_is_named_with_its_node(tmp_path: Path) -> None:
    nodes = [
        onnx.helper.make_node("Relu", ["x"], ["r"], name="pre"),
        onnx.helper.make_node("Det", ["r"], ["y"], name="odd/det"),
    ]
    path = onnx_model(tmp_path / "m.onnx", nodes, {"x": [1, 3, 3], "y": [1]})
    assert "MatrixDeterminant in odd/det (Det)" in refused(path)


def test_a_shape_for_one_of_two_inputs(tmp_path: Path) -> None:
    path = onnx_model(
        tmp_path / "m.onnx",
        [onnx.helper.make_node("Add", ["x", "z"], ["y"])],
        {"x": [1, 3], "z": [1, 3], "y": [1, 3]},
    )
    assert "for a model with one input; this one has 2" in refused(path, shape=[1, 3])


def test_a_damaged_keras_file(tmp_path: Path) -> None:
    whole = saved(tmp_path, layers.Dense(2)).read_bytes()
    (tmp_path / "cut.keras").write_bytes(whole[: len(whole) // 2])
    assert "cut.keras: reading the model: Keras: " in refused(tmp_path / "cut.keras")


def test_a_pickle_with_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"weights": Evil()}, tmp_path / "m.pt")
    (tmp_path / "n.pt").write_bytes(pickle.dumps(Evil()))
    for name in ("m.pt", "n.pt"):
        assert "posix.mkdir" in refused(tmp_path / name, shape=[3])
    assert not (tmp_path / "ran").exists()


def test_a_traced_model_without_its_shape(tmp_path: Path) -> None:
    torch.jit.trace(torch.nn.Linear(3, 2), torch.zeros(1, 3)).save(tmp_path / "m.ts")
    assert "options = { shape = [6, 100] }" in refused(tmp_path / "m.ts")


def test_a_file_that_is_no_exported_program(tmp_path: Path) -> None:
    (tmp_path / "m.pt2").write_bytes(b"PK\x03\x04 but no zip")
    assert "torch.export.save" in refused(tmp_path / "m.pt2")


def test_a_truncated_onnx(tmp_path: Path) -> None:
    relu = onnx.helper.make_node("Relu", ["x"], ["y"])
    whole = onnx_model(tmp_path / "m.onnx", [relu], {"x": [1, 3], "y": [1, 3]}).read_bytes()
    (tmp_path / "m.onnx").write_bytes(whole[:-15])
    assert "not a whole ONNX model" in refused(tmp_path / "m.onnx")


def test_a_folder_that_is_no_saved_model_and_a_signature_it_has_not(tmp_path: Path) -> None:
    assert "no saved_model.pb" in refused(tmp_path)
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    model.export(tmp_path / "saved", verbose=False)
    text = refused(tmp_path / "saved", signature="serve_default")
    assert "did you mean" in text


def test_a_file_that_nobody_converts_and_an_option_nobody_has(tmp_path: Path) -> None:
    (tmp_path / "m.h6").touch()
    assert "no converter takes such a file" in refused(tmp_path / "m.h6")
    assert "did you mean 'shape'" in refused(saved(tmp_path, layers.Dense(2)), shap=[3])


def test_a_tflite_that_is_quantized_already_or_cut(tmp_path: Path) -> None:
    from support import models

    models.dense(tmp_path / "int8.tflite")
    assert "quantized already" in refused(tmp_path / "int8.tflite")
    (tmp_path / "cut.tflite").write_bytes((tmp_path / "int8.tflite").read_bytes()[:200])
    assert "damaged" in refused(tmp_path / "cut.tflite")


def conversion(folder: Path, values: Any, labels: list[str], shape: tuple[int, ...] = (6, 20)) -> Conversion:
    saved(folder, layers.Flatten(), layers.Dense(3), shape=shape)
    np.save(folder / "seen.npy", np.asarray(values, np.float32))
    np.save(folder / "targets.npy", np.arange(len(values) // 20) % 3)
    tables = {
        "model": {"path": "model.keras"},
        "data": {"calibration": "seen.npy", "test": "seen.npy", "targets": "targets.npy"},
        "bundle": {"name": "m", "version": 1, "task": "classify", "labels": labels, "window": {"size": 20}},
    }
    return Conversion(project.build(tables, folder / "convert.toml"), folder / "build", Progress())


def test_channels_in_the_wrong_order_are_found_before_hours_are_spent(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(200, 6))
    with pytest.raises(LimpetError, match=r"the same in another order. Export the model with a first layer"):
        _ = conversion(tmp_path, values, ["a", "b", "c"]).model


def test_two_inputs_do_not_go_into_a_bundle(tmp_path: Path) -> None:
    made = conversion(tmp_path, np.random.default_rng(0).normal(size=(200, 6)), ["a", "b", "c"], (20, 6))
    one, two = keras.Input((20, 6), name="near"), keras.Input((20, 6), name="far")
    keras.Model([one, two], layers.Add()([one, two])).save(tmp_path / "model.keras")
    with pytest.raises(LimpetError, match=r"2 inputs \(near, far\); a pipeline feeds it one window"):
        _ = made.model


def test_labels_that_are_too_few(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(200, 6))
    with pytest.raises(LimpetError, match="2 labels for 3 outputs"):
        _ = conversion(tmp_path, values, ["a", "b"], (20, 6)).model


def test_nan_in_calibration_is_left_out_and_all_nan_is_reported(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(200, 6))
    values[30] = np.nan
    found = conversion(tmp_path, values, ["a", "b", "c"], (20, 6)).calibration
    assert found.dropped == {"not_finite": 1}
    with pytest.raises(LimpetError, match="no window in it"):
        _ = conversion(tmp_path, values * np.nan, ["a", "b", "c"], (20, 6)).calibration


def test_weights_without_a_program(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(3, 2).state_dict(), tmp_path / "weights.pth")
    text = refused(tmp_path / "weights.pth", shape=[3])
    assert "weights without a program" in text
    assert "torch.export.save(" in text


def test_a_batch_of_four(tmp_path: Path) -> None:
    made = conversion(tmp_path, np.random.default_rng(0).normal(size=(200, 6)), ["a", "b", "c"], (20, 6))
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(120, 3))
    torch.export.save(torch.export.export(module.eval(), (torch.zeros(4, 6, 20),)), tmp_path / "m.pt2")
    made.project.model.path = tmp_path / "m.pt2"
    with pytest.raises(LimpetError, match=r"a batch of 4\. Export it with a batch of 1"):
        _ = made.model


def test_targets_that_are_python_objects(tmp_path: Path) -> None:
    made = conversion(tmp_path, np.random.default_rng(0).normal(size=(200, 6)), ["a", "b", "c"], (20, 6))
    np.save(tmp_path / "targets.npy", np.array([{"a": 1}], dtype=object))
    with pytest.raises(LimpetError, match=r"data\.targets: .*targets\.npy: no \.npy file of numbers"):
        _ = made.test


def test_a_class_that_is_none(tmp_path: Path) -> None:
    made = conversion(tmp_path, np.random.default_rng(0).normal(size=(200, 6)), ["a", "b", "c"], (20, 6))
    np.save(tmp_path / "targets.npy", np.arange(10) / 4)
    with pytest.raises(LimpetError, match=r"0\.25 is no class"):
        made.verify()
