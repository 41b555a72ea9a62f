"""To Core ML and back to numbers: each kind of weights, images, labels, the same bytes twice, what is refused."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from limpet.errors import LimpetError
from limpet.models.coreml import specification
from limpet_convert import mil
from limpet_convert.converters.coreml import Config, Image, convert
from limpet_convert.coreml import package
from limpet_convert.errors import ConvertError

if TYPE_CHECKING:
    from pathlib import Path

    from limpet.contracts.data import Array

keras: Any = pytest.importorskip("keras", reason="needs the environment of `make parity`")
tf: Any = pytest.importorskip("tensorflow", reason="needs the environment of `make parity`")
torch: Any = pytest.importorskip("torch", reason="needs the environment of `make parity`")
layers = keras.layers

pytestmark = pytest.mark.filterwarnings(
    "ignore"
)  # TensorFlow, torch and coremltools warn of each other's versions

RNG = np.random.default_rng(8)
# Photos of different colours, so that the model has something to tell apart.
PHOTOS = (RNG.uniform(0, 0.7, (12, 1, 1, 3)) + RNG.uniform(0, 0.3, (12, 32, 32, 3))).astype(np.float32)
SHAPE = (1, 32, 32, 3)
LABELS = ["gull", "heron", "tern", "ruff", "other"]
TOLERANCE = {"float32": 1e-5, "float16": 2e-3, "int8": 1e-2, "palettized": 5e-2, "w8a8": 5e-2}


def classifier() -> Any:
    keras.utils.set_random_seed(1)
    x = start = keras.Input(SHAPE[1:], name="photo")
    x = layers.Conv2D(24, 3, strides=2, padding="same")(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = layers.ReLU()(layers.DepthwiseConv2D(3, padding="same")(x))
    x = layers.Conv2D(48, 1)(x)
    x = layers.Activation("gelu")(layers.Concatenate()([x, layers.ReLU()(x)]))
    x = layers.GlobalAveragePooling2D()(layers.MaxPooling2D(3, 2, padding="same")(x))
    wide = keras.initializers.VarianceScaling(2e4)
    return keras.Model(start, layers.Dense(5, "softmax", name="bird", kernel_initializer=wide)(x))


@pytest.fixture(scope="module")
def network() -> Any:
    return classifier()


@pytest.fixture(scope="module")
def wanted(network: Any) -> Array:
    return np.asarray(network(PHOTOS))


def regressor() -> Any:
    torch.manual_seed(2)
    nn = torch.nn
    head = [nn.Flatten(), nn.Linear(32 * 8, 32), nn.Tanh(), nn.Linear(32, 2)]
    return nn.Sequential(nn.Conv1d(6, 32, 5), nn.GELU(), nn.AvgPool1d(2), *head)


def results(path: Path, inputs: Array) -> Array:
    program = mil.Program(path)
    return np.concatenate([program.run([one[None]])[0] for one in inputs])


def calibration(inputs: Array) -> list[list[Array]]:
    return [[one[None]] for one in inputs]


@pytest.mark.parametrize("weights", TOLERANCE)
def test_a_keras_model_with_each_kind_of_weights(
    tmp_path: Path, network: Any, wanted: Array, weights: Any
) -> None:
    path = tmp_path / "bird.mlpackage"
    convert(network, path, Config(weights=weights, labels=LABELS), [SHAPE], calibration(PHOTOS))
    found = results(path, PHOTOS)
    np.testing.assert_allclose(found, wanted, atol=TOLERANCE[weights])
    assert wanted.std(0).max() > 0.02  # the inputs do differ in what they give
    description = specification.read(path)
    assert description.kind == "mlProgram"
    assert description.labels == tuple(LABELS)
    assert description.macos == ("14" if weights == "w8a8" else "13")
    (output,) = description.outputs
    assert (output.spec.name, output.spec.shape, output.spec.dtype) == ("bird", (1, 5), np.float32)


@pytest.mark.parametrize("weights", TOLERANCE)
def test_a_torch_model_with_each_kind_of_weights(tmp_path: Path, weights: Any) -> None:
    module, path = regressor().eval(), tmp_path / "motion.mlpackage"
    values = RNG.normal(0, 1, (16, 6, 20)).astype(np.float32)
    convert(module, path, Config(weights=weights, outputs=["speed"]), [(1, 6, 20)], calibration(values))
    with torch.no_grad():
        reference = module(torch.from_numpy(values)).numpy()
    np.testing.assert_allclose(results(path, values), reference, atol=TOLERANCE[weights])
    assert mil.Program(path).outputs[0].name == "speed"


def test_a_keras_model_that_normalises_its_own_input(tmp_path: Path) -> None:
    parts = [layers.Normalization(mean=[0.5, 0.4], variance=[0.1, 0.2]), layers.Dense(3)]
    network = keras.Sequential([keras.Input((8, 2)), *parts])
    convert(network, tmp_path / "m.mlpackage", Config(weights="float32"), [(1, 8, 2)])
    window = np.random.default_rng(0).random((1, 8, 2)).astype(np.float32)
    (found,) = mil.Program(tmp_path / "m.mlpackage").run([window])
    assert found == pytest.approx(np.asarray(network(window)), abs=1e-5)


def test_weights_get_smaller(tmp_path: Path) -> None:
    """A dense layer of 512 x 256 values, so that the rest of the package does not count."""
    sizes = {}
    module = torch.nn.Sequential(torch.nn.Linear(512, 256), torch.nn.ReLU(), torch.nn.Linear(256, 4))
    for weights in ("float32", "float16", "int8", "palettized"):
        path = tmp_path / f"{weights}.mlpackage"
        convert(module, path, Config(weights=weights, bits=4), [(1, 512)])
        sizes[weights] = package.size(path)
    ratios = {weights: size / sizes["float32"] for weights, size in sizes.items()}
    assert ratios["float16"] < 0.55
    assert ratios["int8"] < 0.3
    assert ratios["palettized"] < 0.17


def test_w8a8_computes_in_int8(tmp_path: Path, network: Any) -> None:
    path = tmp_path / "bird.mlpackage"
    convert(network, path, Config(weights="w8a8"), [SHAPE], calibration(PHOTOS))
    steps = list(mil.Program(path).trace([PHOTOS[:1]]))
    kinds = Counter(step.kind for step in steps)
    assert kinds["quantize"] >= kinds["conv"] >= 3
    assert all(step.output.dtype == np.int8 for step in steps if step.kind == "quantize")


def test_calibration_looks_at_all_samples(tmp_path: Path, network: Any) -> None:
    """coremltools keeps the range of the last sample: here the loud one comes first."""
    path, loud = tmp_path / "bird.mlpackage", PHOTOS[:1] * 4
    samples = calibration(np.concatenate([loud, PHOTOS[:3]]))
    convert(network, path, Config(weights="w8a8"), [SHAPE], samples)
    np.testing.assert_allclose(results(path, loud), np.asarray(network(loud)), atol=0.1)


@pytest.mark.parametrize("weights", ["float16", "int8", "palettized", "w8a8"])
def test_the_same_bytes_twice(tmp_path: Path, weights: Any) -> None:
    written = []
    for number in range(2):
        path = tmp_path / f"{number}.mlpackage"
        config = Config(weights=weights, labels=LABELS, licence="Apache-2.0")
        keras.backend.clear_session()
        convert(classifier(), path, config, [SHAPE], calibration(PHOTOS[:2]))
        written.append(package.members(path))
    assert written[0] == written[1]


def test_metadata_and_names(tmp_path: Path, network: Any) -> None:
    path = tmp_path / "bird.mlpackage"
    config = Config(
        inputs=["photo"], outputs=["which"], author="A. B.", licence="CC0-1.0", description="Birds", version="3"
    )
    convert(network, path, config, [SHAPE])
    metadata = specification.load_spec(path).description.metadata
    assert (metadata.author, metadata.license) == ("A. B.", "CC0-1.0")
    assert (metadata.shortDescription, metadata.versionString) == ("Birds", "3")
    assert "com.github.apple.coremltools.conversion_date" not in metadata.userDefined
    program = mil.Program(path)
    assert (program.inputs[0].name, program.outputs[0].name) == ("photo", "which")
    manifest = json.loads((path / package.MANIFEST).read_text())
    assert manifest["rootModelIdentifier"] in manifest["itemInfoEntries"]


@pytest.mark.parametrize("layout", ["RGB", "BGR"])
def test_an_image_and_a_classifier(tmp_path: Path, network: Any, layout: Any) -> None:
    path = tmp_path / "bird.mlpackage"
    image = Image(layout=layout, scale=1 / 255)
    convert(network, path, Config(weights="float32", image=image, labels=LABELS, classifier=True), [SHAPE])
    program, photo = mil.Program(path), RNG.integers(0, 256, SHAPE[1:], dtype=np.uint8)
    assert (program.inputs[0].shape, program.inputs[0].dtype) == ((32, 32, 3), np.uint8)
    assert program.outputs[0].shape == (5,)
    assert program.labels == tuple(LABELS)
    seen = photo if layout == "RGB" else photo[..., ::-1]
    np.testing.assert_allclose(
        program.run([photo])[0], np.asarray(network(seen[None] / np.float32(255)))[0], atol=1e-5
    )


def test_a_grey_image(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 3), torch.nn.Flatten(), torch.nn.Linear(3 * 36, 2)).eval()
    path, photo = tmp_path / "grey.mlpackage", RNG.integers(0, 256, (8, 8), dtype=np.uint8)
    image = Image(layout="GRAYSCALE", scale=1 / 127.5, bias=[-1.0])
    convert(module, path, Config(weights="float32", image=image), [(1, 1, 8, 8)])
    with torch.no_grad():
        reference = module(torch.from_numpy(photo[None, None] / np.float32(127.5) - 1)).numpy()
    np.testing.assert_allclose(mil.Program(path).run([photo])[0], reference, atol=1e-5)


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    motion, heat = keras.Input((16,), name="motion"), keras.Input((4,), name="heat")
    both = layers.Concatenate()([layers.Dense(8)(motion), heat])
    model = keras.Model([motion, heat], [layers.Dense(2, name="phase")(both), layers.Dense(3, name="wear")(both)])
    path = tmp_path / "two.mlpackage"
    convert(model, path, Config(weights="float32", inputs=["motion", "heat"]), [(1, 16), (1, 4)])
    given = [RNG.normal(0, 1, (1, 16)).astype(np.float32), RNG.normal(0, 1, (1, 4)).astype(np.float32)]
    program = mil.Program(path)
    assert [spec.name for spec in program.outputs] == ["phase", "wear"]
    for found, reference in zip(program.run(given), model(given), strict=True):
        np.testing.assert_allclose(found, np.asarray(reference), atol=1e-5)


@pytest.mark.parametrize("layer", [layers.LSTM, layers.GRU, layers.SimpleRNN])
def test_a_keras_recurrent_model(tmp_path: Path, layer: Any) -> None:
    path, values = tmp_path / "steps.mlpackage", RNG.normal(0, 1, (1, 9, 3)).astype(np.float32)
    model = keras.Sequential([keras.Input((9, 3)), layer(6, unroll=True), layers.Dense(2)])
    convert(model, path, Config(weights="float32"), [(1, 9, 3)])
    np.testing.assert_allclose(mil.Program(path).run([values])[0], np.asarray(model(values)), atol=1e-5)


def test_a_loop_is_to_be_unrolled(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((9, 3)), layers.LSTM(6, name="memory"), layers.Dense(2)])
    with pytest.raises(ConvertError, match="'memory'; build it with unroll=True"):
        convert(model, tmp_path / "x.mlpackage", Config(), [(1, 9, 3)])


class Singular(layers.Layer):  # type: ignore[misc,name-defined]
    def call(self, x: Any) -> Any:
        return tf.linalg.svd(tf.expand_dims(x, 1), compute_uv=False)


class Bessel(torch.nn.Module):  # type: ignore[misc,name-defined]
    def forward(self, x: Any) -> Any:
        return torch.special.bessel_j0(x)


class Headed(torch.nn.Module):  # type: ignore[misc,name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = torch.nn.Linear(16, 4), Bessel()

    def forward(self, x: Any) -> Any:
        return self.head(self.body(x))


def singular() -> Any:
    x = start = keras.Input((16,))
    return keras.Model(start, layers.Dense(2)(Singular(name="whiten")(layers.Dense(8)(x))))


def exported() -> Any:
    return torch.export.export(Headed(), (torch.zeros(1, 16),))


@pytest.mark.parametrize(
    ("make", "op", "layer", "instead"),
    [
        (singular, "Svd", "whiten", "transform"),
        (Headed, "special_bessel_j0", "head", "polynomial"),
        (exported, "special_bessel_j0", "head", "polynomial"),
    ],
)
def test_an_op_that_core_ml_lacks_is_named_with_its_layer(
    tmp_path: Path, make: Any, op: str, layer: str, instead: str
) -> None:
    with pytest.raises(ConvertError, match=f"no op '{op}' of layer '{layer}'; .*{instead}"):
        convert(make(), tmp_path / "x.mlpackage", Config(), [(1, 16)])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("config", "shape", "samples", "message"),
    [
        (Config(labels=LABELS[:3]), SHAPE, [], "3 labels for 5 outputs"),
        (Config(inputs=["a", "b"]), SHAPE, [], "2 names for 1 inputs"),
        (Config(outputs=["a", "b"]), SHAPE, [], "2 names for 1 outputs"),
        (Config(outputs=["state"]), SHAPE, [], "cannot call an output 'state'"),
        (Config(), (-1, 32, 32, 3), [], "every size known"),
        (Config(weights="w8a8"), SHAPE, [], "needs calibration samples"),
        (Config(weights="w8a8"), SHAPE, [[PHOTOS[:1] * np.nan]], "sample 0: 'input' becomes nan"),
    ],
)
def test_what_cannot_be_is_refused(  # noqa: PLR0917
    tmp_path: Path, network: Any, config: Config, shape: tuple[int, ...], samples: Any, message: str
) -> None:
    with pytest.raises(LimpetError, match=message):
        convert(network, tmp_path / "x.mlpackage", config, [shape], samples)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match=r"builtins\.dict cannot be converted"):
        convert({}, tmp_path / "x.mlpackage", Config(), [(1, 4)])
    with pytest.raises(ConvertError, match=r"ends in \.mlpackage"):
        convert(torch.nn.Linear(4, 2), tmp_path / "x.mlmodel", Config(), [(1, 4)])
