"""``.tflite`` files to Core ML: each op that is translated gives TFLite's numbers, and others are named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from limpet_convert import mil, runners, sources
from limpet_convert.converters import coreml
from limpet_convert.errors import ConvertError
from support import models

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

keras: Any = pytest.importorskip("keras", reason="needs the environment of `make parity`")
tf: Any = pytest.importorskip("tensorflow", reason="needs the environment of `make parity`")
layers = keras.layers

pytestmark = pytest.mark.filterwarnings("ignore")  # TensorFlow and coremltools warn of each other's versions
PICTURE = (1, 16, 20, 3)


def convolutions(x: Any) -> Any:
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu6")(x)
    x = layers.Activation("hard_silu")(layers.DepthwiseConv2D(3, depth_multiplier=2)(x))
    x = layers.PReLU(shared_axes=[1, 2], alpha_initializer="uniform")(layers.Conv2D(6, 1, dilation_rate=2)(x))
    return layers.Conv2DTranspose(4, 3, strides=2, padding="same")(x)


def pools_and_sizes(x: Any) -> Any:
    x = layers.MaxPooling2D(3, 2, padding="same")(layers.ZeroPadding2D(1)(x))
    wide = layers.UpSampling2D(2, interpolation="bilinear")(layers.AveragePooling2D(2, padding="same")(x))
    x = layers.Concatenate()([wide, layers.UpSampling2D(2)(layers.AveragePooling2D(2, padding="same")(x))])
    return layers.Dense(5, activation="softmax")(layers.GlobalAveragePooling2D()(x))


def arithmetic(x: Any) -> Any:
    x = layers.Conv2D(4, 1)(x)
    y = layers.Subtract()([layers.Activation("sigmoid")(x), layers.Activation("tanh")(x)])
    y = layers.Maximum()([layers.Multiply()([x, y]), layers.Minimum()([x, y])])
    y = layers.Permute((2, 1, 3))(layers.LeakyReLU(negative_slope=0.1)(y))
    return layers.Reshape((40, -1))(layers.Activation("exponential")(layers.Add()([y, y[:, :, ::1]])))


@pytest.mark.parametrize("make", [convolutions, pools_and_sizes, arithmetic])
def test_a_float_model_gives_the_same(make: Callable[[Any], Any], tmp_path: Path) -> None:
    keras.utils.set_random_seed(3)
    start = keras.Input(PICTURE[1:], batch_size=1)
    model = keras.Model(start, make(start))
    path = tmp_path / "model.tflite"
    path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    values = np.random.default_rng(5).normal(0, 1, PICTURE).astype(np.float32)
    (wanted,) = runners.open_model(path).run([values])
    live, shape = sources.live_here(path, "", {}, tmp_path)
    coreml.convert(live, tmp_path / "model.mlpackage", coreml.Config(weights="float32"), [shape])
    (found,) = mil.Program(tmp_path / "model.mlpackage").run([values])
    np.testing.assert_allclose(found.reshape(wanted.shape), wanted, atol=1e-5)
    assert wanted.std() > 1e-3


def test_an_int8_model_differs_by_what_int8_rounds_and_saturates_as_it_does(tmp_path: Path) -> None:
    path = models.conv(tmp_path / "conv.tflite", layers=2)
    values = np.random.default_rng(5).uniform(-4, 4, (1, 8, 8, 3)).astype(np.float32)
    (wanted,) = runners.open_model(path).run([values])
    (found,) = mil.Program(package(path, tmp_path)).run([values])
    np.testing.assert_allclose(found.reshape(wanted.shape), wanted, atol=6 * models.SCALE)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (models.accumulator, "keeps state in variables between runs"),
        (lambda path: models.unknown(path, "strange-op"), "'strange-op' of layer .*give the model that"),
        (models.pair, "models with one input; this one has 2"),
    ],
    ids=["state", "op", "inputs"],
)
def test_what_cannot_be_is_named(make: Callable[[Path], Path], reason: str, tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match=reason):
        package(make(tmp_path / "model.tflite"), tmp_path)


def package(model: Path, folder: Path) -> Path:
    """Make a package in the sandboxed child, as the commands do."""
    return sources.coreml_of(model, "tflite", {}, folder, {"weights": "float32"}, [], folder)
