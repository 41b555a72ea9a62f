"""Keras, SavedModel, PyTorch, ONNX and TFLite in; every variant out; the whole way twice; mixtures."""

from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from limpet.models import manifest as manifests
from limpet.trust.names import named
from limpet_convert import cli, layers, metrics, observers, runners, sign, sources
from limpet_convert.converters import coreml
from limpet_convert.converters import torch as torch_converter
from limpet_convert.converters.keras import to_tflite
from limpet_convert.graph import Graph, Tracer
from limpet_convert.quantize import left_in_float, quantize

if TYPE_CHECKING:
    from pathlib import Path

keras: Any = pytest.importorskip("keras", reason="needs the environment of `make parity`")
tensorflow: Any = pytest.importorskip("tensorflow", reason="needs the environment of `make parity`")
torch: Any = pytest.importorskip("torch", reason="needs the environment of `make parity`")
litert: Any = pytest.importorskip("litert_quantizer.quantizer", reason="needs the environment of `make parity`")
onnx: Any = pytest.importorskip("onnx", reason="needs the environment of `make parity`")

pytestmark = pytest.mark.filterwarnings("ignore")  # the frameworks warn of each other's versions
INPUTS = np.random.default_rng(0).normal(size=(60, 20, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def network() -> Any:
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((20, 6)),
            keras.layers.Conv1D(16, 3, padding="same", activation="relu", name="first"),
            keras.layers.BatchNormalization(),
            keras.layers.Conv1D(24, 3, activation="relu", name="second"),
            keras.layers.Flatten(),
            keras.layers.Dense(4, name="head"),
        ]
    )


@pytest.fixture(scope="module")
def model(network: Any, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("keras") / "m.keras"
    network.save(path)
    return sources.convert(path, "", {}, path.parent)


def outputs(model: bytes, folder: Path) -> Any:
    (folder / "m.tflite").write_bytes(model)
    return runners.run_all(runners.open_model(folder / "m.tflite"), INPUTS)[0]


def test_keras_and_saved_model_compute_what_they_did(network: Any, model: bytes, tmp_path: Path) -> None:
    expected = np.asarray(network(INPUTS))
    assert outputs(model, tmp_path) == pytest.approx(expected, abs=1e-5)
    network.export(tmp_path / "saved", verbose=False)
    again = sources.convert(tmp_path / "saved", "", {"shape": [20, 6]}, tmp_path)
    assert outputs(again, tmp_path) == pytest.approx(expected, abs=1e-5)


def test_a_saved_model_with_the_slots_of_an_older_optimizer_converts(network: Any, tmp_path: Path) -> None:
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    network.export(tmp_path / "saved", verbose=False)
    file = tmp_path / "saved/saved_model.pb"
    model = SavedModel.FromString(file.read_bytes())
    nodes = model.meta_graphs[0].object_graph_def.nodes
    (weight, *_) = [number for number, node in enumerate(nodes) if node.WhichOneof("kind") == "variable"]
    nodes[0].slot_variables.add(original_variable_node_id=weight, slot_name="m", slot_variable_node_id=weight)
    file.write_bytes(model.SerializeToString())
    made = sources.convert(tmp_path / "saved", "", {"shape": [20, 6]}, tmp_path)
    assert outputs(made, tmp_path) == pytest.approx(np.asarray(network(INPUTS)), abs=1e-5)


def test_pytorch_exported_and_traced_take_windows_with_channels_last(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv1d(6, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 4)
    ).eval()
    example = torch.from_numpy(INPUTS[:1].transpose(0, 2, 1).copy())
    torch.export.save(torch.export.export(module, (example,)), tmp_path / "m.pt2")
    torch.jit.trace(module, example).save(tmp_path / "m.ts")
    expected = module(torch.from_numpy(INPUTS.transpose(0, 2, 1).copy())).detach().numpy()
    for name, options in (("m.pt2", {}), ("m.ts", {"shape": [6, 20]})):
        made = sources.convert(tmp_path / name, "", options, tmp_path)
        assert outputs(made, tmp_path) == pytest.approx(expected, abs=1e-5)


def weighted(model: bytes) -> list[str]:
    graph = Graph(model)
    return [graph.layer(op) for op in graph.ops if op.kind in {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}]


def test_pytorchs_modules_and_onnxs_nodes_keep_their_names(tmp_path: Path) -> None:
    block = torch.nn.Sequential(torch.nn.Conv1d(8, 8, 3, groups=8), torch.nn.BatchNorm1d(8), torch.nn.ReLU())
    module = torch.nn.Sequential()
    for name, one in {
        "stem": torch.nn.Conv1d(6, 8, 3),
        "block": block,
        "flat": torch.nn.Flatten(),
        "head": torch.nn.Linear(128, 4),
    }.items():
        module.add_module(name, one)
    example = (torch.from_numpy(INPUTS[:1].transpose(0, 2, 1).copy()),)
    torch.export.save(torch.export.export(module.eval(), example), tmp_path / "m.pt2")
    torch.jit.trace(module, example[0]).save(tmp_path / "m.ts")
    torch.onnx.export(module, example, tmp_path / "m.onnx", dynamo=False, input_names=["x"], output_names=["y"])
    for name, options in (("m.pt2", {}), ("m.ts", {"shape": [6, 20]})):
        assert weighted(sources.convert(tmp_path / name, "", options, tmp_path)) == ["stem", "block.0", "head"]
    from_onnx = weighted(sources.convert(tmp_path / "m.onnx", "", {}, tmp_path))
    assert from_onnx == ["/stem/Conv", "/block/block.0/Conv", "/head/Gemm"]


def test_two_inputs_are_converted_though_no_bundle_takes_them(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    near, far = random.normal(size=(1, 6)).astype(np.float32), random.normal(size=(1, 3)).astype(np.float32)

    class Both(torch.nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = torch.nn.Linear(6, 4), torch.nn.Linear(3, 4)

        def forward(self, x: Any, z: Any) -> Any:
            return self.left(x) - self.right(z)

    module, examples = Both().eval(), (torch.from_numpy(near), torch.from_numpy(far))
    torch.export.save(torch.export.export(module, examples), tmp_path / "m.pt2")
    made = Tracer(sources.convert(tmp_path / "m.pt2", "", {}, tmp_path))
    assert made(near, far)[0] == pytest.approx(module(*examples).detach().numpy(), abs=1e-5)
    one, two = keras.Input((6,), name="near"), keras.Input((3,), name="far")
    model = keras.Model([one, two], keras.layers.Dense(4)(one) - keras.layers.Dense(4)(two))
    model.save(tmp_path / "m.keras")
    model.export(tmp_path / "saved", verbose=False)
    for source in (tmp_path / "m.keras", tmp_path / "saved"):
        tracer = Tracer(sources.convert(source, "", {}, tmp_path))
        given = [near if detail["shape"][-1] == 6 else far for detail in tracer.inputs]
        assert tracer(*given)[0] == pytest.approx(np.asarray(model([near, far])), abs=1e-5)


def test_a_core_ml_package_of_pytorch_takes_the_windows_that_its_tflite_model_takes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Conv1d(6, 8, 3), torch.nn.Flatten(), torch.nn.Linear(144, 4)).eval()
    torch.export.save(torch.export.export(module, (torch.zeros(1, 6, 20),)), tmp_path / "m.pt2")
    (tmp_path / "m.tflite").write_bytes(sources.convert(tmp_path / "m.pt2", "", {}, tmp_path))
    program, shape = torch_converter.live(tmp_path / "m.pt2", torch_converter.Config())
    coreml.convert(program, tmp_path / "m.mlpackage", coreml.Config(weights="float32"), [shape])
    exact, found = (
        runners.run_all(runners.open_model(tmp_path / name), INPUTS[:4])[0] for name in ("m.tflite", "m.mlpackage")
    )
    assert shape == (1, 20, 6)
    assert found == pytest.approx(exact, abs=1e-5)
    original = runners.run_all(runners.open_model(tmp_path / "m.pt2"), INPUTS[:4])[0]
    assert original == pytest.approx(exact, abs=1e-5)


def test_onnx_goes_through_an_environment_of_its_own(tmp_path: Path) -> None:
    random, helper = np.random.default_rng(0), onnx.helper
    weights = {"w": random.normal(size=(8, 6, 3)), "f": random.normal(size=(160, 4))}
    constants = [onnx.numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], kernel_shape=[3], pads=[1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Flatten", ["r"], ["l"]),
        helper.make_node("MatMul", ["l", "f"], ["y"]),
    ]
    x, y = (
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("x", [1, 6, 20]), ("y", [1, 4]))
    )
    made = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y], constants), opset_imports=[helper.make_opsetid("", 17)]
    )
    made.ir_version = 9
    onnx.save(made, tmp_path / "m.onnx")
    found = outputs(sources.convert(tmp_path / "m.onnx", "", {}, tmp_path), tmp_path)
    expected = runners.run_all(runners.open_model(tmp_path / "m.onnx"), INPUTS.transpose(0, 2, 1))[0]
    assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("variant", "most", "ratio"),
    [("float16", 2e-3, 0.7), ("dynamic", 0.03, 0.5), ("int8", 0.06, 0.5), ("int16x8", 0.02, 0.5)],
)
def test_every_variant_is_smaller_and_near(
    model: bytes, tmp_path: Path, variant: Any, most: float, ratio: float
) -> None:
    made = quantize(model, variant, observers.ranges(model, INPUTS))
    assert len(made) < ratio * len(model)
    assert layers.distance(outputs(model, tmp_path), outputs(made, tmp_path)) < most
    assert (left_in_float(made) == []) == (variant in {"int8", "int16x8"})


def test_the_same_inputs_give_the_same_bytes(model: bytes) -> None:
    ranges = observers.ranges(model, INPUTS)
    assert quantize(model, "int8", ranges) == quantize(model, "int8", observers.ranges(model, INPUTS))


def test_the_quantizers_own_moving_average_would_clip(network: Any) -> None:
    """A few loud windows among quiet ones: an average over the windows forgets them, true extremes do not."""
    model = tensorflow.lite.TFLiteConverter.from_keras_model(network).convert()  # it calibrates by signature
    inputs = INPUTS * np.where(np.arange(len(INPUTS)) < 3, 8.0, 1.0).astype(np.float32)[:, None, None]
    made = litert.Quantizer(model)
    made.add_static_config(".*", "*", 8, 8)
    (name,) = [d["name"] for d in Tracer(model).inputs]
    key, argument = _signature(model)
    averaged = made.calibrate({key: [{argument: one[None]} for one in inputs]})
    ours = observers.ranges(model, inputs)
    assert float(np.ravel(averaged[name]["max"])[0]) < 0.8 * ours[name].high
    theirs = bytes(made.quantize(averaged, enable_progress_report=False).quantized_model)
    loud = inputs[:3]
    errors = []
    for quantized in (theirs, quantize(model, "int8", ours)):
        exact, other = Tracer(model), Tracer(quantized)
        pairs = [(exact(one[None])[0], other(one[None])[0]) for one in loud]
        errors.append(layers.distance(*(np.stack(side) for side in zip(*pairs, strict=True))))
    assert errors[1] < 0.1
    assert errors[0] > 3 * errors[1]


def _signature(model: bytes) -> tuple[str, str]:
    from ai_edge_litert.interpreter import Interpreter

    ((key, names),) = Interpreter(model_content=model).get_signature_list().items()
    return key, names["inputs"][0]


def test_a_mixture_keeps_the_named_layer_in_float(model: bytes) -> None:
    graph = Graph(model)
    op = next(op for op in graph.ops if graph.layer(op) == "second" and op.kind == "CONV_2D")
    ranges = observers.ranges(model, INPUTS)
    made = quantize(model, "mixed", ranges, {graph.names[op.outputs[0]]: "float"})
    assert left_in_float(made) == ["second (CONV_2D)"]


TOML = """
[model]
path = "m.keras"
[data]
calibration = "seen.npy"
test = "seen.npy"
targets = "targets.npy"
groups = "groups.npy"
[bundle]
name = "motion"
version = 3
task = "classify"
labels = ["a", "b", "c", "d"]
window = { size = 20 }
decoder = { kind = "classify" }
variant = "VARIANT"
[quantize]
variants = ["dynamic", "int8"]
[verify]
min_agreement = AGREEMENT
max_metric_loss = 10
[sign]
key = "maker"
"""


def written(network: Any, folder: Path, variant: str = "int8", agreement: float = 0.85) -> Path:
    network.save(folder / "m.keras")
    np.save(folder / "seen.npy", INPUTS.reshape(-1, 6))
    np.save(folder / "targets.npy", np.asarray(network(INPUTS)).argmax(axis=1))
    np.save(folder / "groups.npy", np.array(["left", "right"] * 30))
    path = folder / "convert.toml"
    path.write_text(TOML.replace("VARIANT", variant).replace("AGREEMENT", str(agreement)))
    return path


def test_the_whole_way_twice_gives_the_same_signed_bundle(
    network: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(network, tmp_path)
    sign.keygen(tmp_path / "maker")
    for folder in ("one", "two"):
        assert cli.main(["run", str(path), "--output", str(tmp_path / folder)]) == 0
    bundle = tmp_path / "one" / "motion-3.limpet"
    assert bundle.read_bytes() == (tmp_path / "two" / "motion-3.limpet").read_bytes()
    with zipfile.ZipFile(bundle) as archive:
        manifest = manifests.parse(archive.read("manifest.json"))
        card = archive.read(manifest.card).decode()
        assert "signature" in archive.namelist()
        assert named(archive.read("signature")) == [sign.key_id(sign.signer(tmp_path / "maker").public)]
    assert set(manifest.metrics["groups"]) == {"left", "right"}
    assert str(tmp_path) not in manifests.dump(manifest).decode() + card
    assert "By group" in card
    report = json.loads((tmp_path / "one" / "report.json").read_bytes())
    assert report["passed"]
    assert [layer["name"] for layer in report["layers"]][:2] == ["input", "first"]
    assert (tmp_path / "one" / "report.png").read_bytes().startswith(b"\x89PNG")
    assert "Layer by layer" in (tmp_path / "one" / "report.md").read_text()
    assert cli.main(["inspect", str(bundle)]) == 0
    assert "says that" in capsys.readouterr().out
    key, root = str(tmp_path / "maker"), str(tmp_path / "root.json")
    assert cli.main(["root", "new", root, "--root", key, "--models", key]) == 0
    assert cli.main(["inspect", str(bundle), "--root", root]) == 0
    assert "signed by" in capsys.readouterr().out


def test_a_missed_threshold_is_the_exit_status_and_leaves_no_bundle(
    network: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(network, tmp_path, "dynamic", 1.0)
    sign.keygen(tmp_path / "maker")
    targets = np.load(tmp_path / "targets.npy")
    np.save(tmp_path / "targets.npy", (targets + 1) % 4)
    path.write_text(path.read_text().replace("min_agreement = 1.0", "max_size_ratio = 0.01"))
    assert cli.main(["run", str(path), "--output", str(tmp_path / "out")]) == 1
    assert "misses: size" in capsys.readouterr().out
    assert not list((tmp_path / "out").glob("*.limpet"))


def test_each_step_alone_and_the_comparison_of_two_files(
    network: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(written(network, tmp_path))
    sign.keygen(tmp_path / "maker")
    for command in ("convert", "quantize", "verify", "package"):
        assert cli.main([command, path]) == 0
    made = tmp_path / "build"
    models = [str(made / name) for name in ("float.tflite", "int8.tflite")]
    assert cli.main(["verify", path, "--models", *models]) == 0
    capsys.readouterr()
    assert cli.main(["diff", *models]) == 0
    printed = capsys.readouterr().out
    assert "dtypes: float32 5 -> int8 5" in printed
    assert "of their spread" in printed
    assert cli.main(["inspect", models[1]]) == 0
    assert "CONV_2D 2" in capsys.readouterr().out


def test_tune_finds_what_meets_a_target_and_says_when_nothing_does(
    network: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(written(network, tmp_path))
    assert cli.main(["tune", path, "--size", "20000", "--loss", "5"]) == 0
    printed = capsys.readouterr().out
    assert "*+ " in printed
    assert "int16x8 percentile" in printed
    assert (tmp_path / "build" / "tune.png").exists()
    assert cli.main(["tune", path, "--size", "10"]) == 1


def test_metrics_of_a_runner_are_those_of_the_network(network: Any, model: bytes, tmp_path: Path) -> None:
    truth = np.asarray(network(INPUTS)).argmax(axis=1)
    found = metrics.classification(outputs(model, tmp_path), truth, ["a", "b", "c", "d"])
    assert found["accuracy"] == 1


def test_converting_a_live_model_leaves_it_as_it_was(network: Any) -> None:
    before = [(w.name, w.trainable) for w in network.weights]
    values = [np.array(w) for w in network.weights]
    to_tflite(network)
    assert [(w.name, w.trainable) for w in network.weights] == before
    assert all(np.array_equal(w, v) for w, v in zip(network.weights, values, strict=True))


def test_the_whole_way_searches_a_mixture_for_a_spoiled_model(network: Any, tmp_path: Path) -> None:
    spoiled = keras.models.clone_model(network)
    spoiled.set_weights(network.get_weights())
    kernel, bias = spoiled.get_layer("second").get_weights()
    kernel[..., 3] *= 3000
    bias[3] *= 3000
    spoiled.get_layer("second").set_weights([kernel, bias])
    kernel, bias = spoiled.get_layer("head").get_weights()
    kernel[3::24] /= 3000
    spoiled.get_layer("head").set_weights([kernel, bias])
    path = written(spoiled, tmp_path, "mixed")
    sign.keygen(tmp_path / "maker")
    assert cli.main(["run", str(path)]) == 0
    report = json.loads((tmp_path / "build" / "report.json").read_bytes())
    assert report["variants"]["int8"]["agreement"] < 0.85 <= report["variants"]["mixed"]["agreement"]
    assert list(report["variants"]["mixed"]["kept"]) == ["second"]
    assert "stays in" in (tmp_path / "build" / "report.md").read_text()
