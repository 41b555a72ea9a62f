"""Silero VAD: whether someone speaks, in each 32 ms of sound at 16 kHz. Needs TensorFlow and onnx."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from limpet.contracts.fields import UnwindowedInput, WindowSpec
from limpet_convert.libraries import need
from limpet_convert.recipes import Origin, Recipe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from limpet.contracts.data import Array

_FILE = "silero_vad/data/silero_vad_16k_op15.onnx"
CONTEXT, STEP = 64, 512
"""Samples that a window has from the one before, and new ones."""
_REFLECTED, _FRAME_STEP, _BINS, _CELLS = 64, 128, 129, 128

RECIPE = Recipe(
    title="Whether someone speaks (Silero VAD)",
    task="classify",
    input="sound, 16 kHz",
    licence="MIT",
    author="Silero Team",
    origin=Origin(
        registry="pypi",
        package="silero-vad",
        version="6.2.3",
        archive="7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8",
        members={_FILE: "7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49"},
        url="https://github.com/snakers4/silero-vad",
    ),
    labels=("silence", "speech"),
    rate=16000.0,
    window=WindowSpec(size=CONTEXT + STEP, hop=STEP),
    inputs={
        "sound": ["sound"],
        "hidden": UnwindowedInput(state="hidden_next"),
        "cell": UnwindowedInput(state="cell_next"),
    },
    decoder={"kind": "classify", "top_k": 2},
    purpose="Separates speech from silence, noise and music, to record or to listen only while someone speaks.",
    limits="It finds that someone speaks, not who, and not which words.",
    ships=True,
)


def model(files: Mapping[str, bytes]) -> bytes:
    """Return the network for TFLite, with the maker's weights: (1, 576, 1) samples, and two states of (1, 128).

    The maker's ONNX file has control flow for other sizes, which TFLite does not need.
    """
    tf = need("tensorflow", "convert-tensorflow")
    weights = _weights(files[_FILE])

    shapes = {"sound": (1, CONTEXT + STEP, 1), "hidden": (1, _CELLS), "cell": (1, _CELLS)}
    run = tf.function(
        lambda sound, hidden, cell: _network(tf, weights, sound, hidden, cell),
        input_signature=[tf.TensorSpec(shape, tf.float32, name=name) for name, shape in shapes.items()],
    )
    network = tf.Module()
    network.run = run  # The names of inputs and outputs are kept for the functions of a module.
    converter = tf.lite.TFLiteConverter.from_concrete_functions([run.get_concrete_function()], network)
    made: bytes = converter.convert()
    return made


def _weights(file: bytes) -> dict[str, Array]:
    """Return the weights by what they belong to."""
    onnx = need("onnx", "convert-onnx")
    graph = onnx.load_model_from_string(file).graph
    return {one.name.removeprefix("model."): onnx.numpy_helper.to_array(one) for one in graph.initializer}


def _network(tf: Any, weights: Mapping[str, Array], sound: Any, hidden: Any, cell: Any) -> dict[str, Any]:
    def convolved(values: Any, name: str, stride: int) -> Any:
        kernel = weights[f"{name}.weight"].transpose(2, 1, 0)
        padded = tf.pad(values, [[0, 0], [1, 1], [0, 0]])
        return tf.nn.relu(tf.nn.conv1d(padded, kernel, stride, "VALID") + weights[f"{name}.bias"])

    padded = tf.pad(tf.reshape(sound, (1, -1)), [[0, 0], [0, _REFLECTED]], mode="REFLECT")
    basis = weights["stft.forward_basis_buffer"].transpose(2, 1, 0)
    spectrum = tf.nn.conv1d(padded[..., None], basis, _FRAME_STEP, "VALID")
    found = tf.sqrt(spectrum[..., :_BINS] ** 2 + spectrum[..., _BINS:] ** 2)
    for number, stride in enumerate((1, 2, 2, 1)):
        found = convolved(found, f"encoder.{number}.reparam_conv", stride)
    inner = "decoder.rnn."
    gates = tf.matmul(tf.reshape(found, (1, _CELLS)), weights[f"{inner}weight_ih"].T)
    gates += tf.matmul(hidden, weights[f"{inner}weight_hh"].T)
    gates += weights[f"{inner}bias_ih"] + weights[f"{inner}bias_hh"]
    write, keep, new, show = tf.split(gates, 4, axis=1)
    cell = tf.sigmoid(keep) * cell + tf.sigmoid(write) * tf.tanh(new)
    hidden = tf.sigmoid(show) * tf.tanh(cell)
    score = tf.matmul(tf.nn.relu(hidden), weights["decoder.decoder.2.weight"][:, :, 0].T)
    score = tf.sigmoid(score + weights["decoder.decoder.2.bias"])
    return {"speech": score, "hidden_next": hidden, "cell_next": cell}
