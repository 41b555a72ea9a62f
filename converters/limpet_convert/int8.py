"""To int8 TFLite from Keras, and the int8 model run on many rows at once.

TensorFlow and the runtime are imported where they are used: the rest needs numpy only.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from limpet.contracts.fields import TensorInfo
from limpet_convert.graph import RUNTIME, layers_of
from limpet_convert.libraries import called, need

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from limpet.contracts.data import FloatArray


def repeatable() -> None:
    """Make TensorFlow compute the same each time: one thread, no kernels chosen by the machine's load."""
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": "0", "CUDA_VISIBLE_DEVICES": ""}
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.experimental.enable_op_determinism()


def quantize(network: Any, inputs: FloatArray, batch: int | None) -> bytes:
    """Return the network as a TFLite model, int8 throughout, calibrated by the extremes over all ``inputs``.

    ``inputs`` has shape ``(n, *shape of one input)``. With ``batch`` None the model's first dimension stays
    open, so that one invocation may take many inputs.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    spec = tf.TensorSpec((batch, *inputs.shape[1:]), tf.float32, "input")
    # Unfrozen, the quantizer of this version stumbles over READ_VARIABLE.
    frozen = convert_variables_to_constants_v2(tf.function(network).get_concrete_function(spec))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([one[None]] for one in inputs)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    with called("TensorFlow", "quantizing the model"):
        return bytes(converter.convert())


class Int8:
    """A quantized model of one input and one output, on the CPU. ``ValueError`` if it is not int8 throughout."""

    def __init__(self, model: bytes) -> None:
        self._layers = layers_of(model)
        runtime = need("ai_edge_litert.interpreter")
        with called(RUNTIME, "loading the int8 model", self._layers):
            self._interpreter = runtime.Interpreter(model_content=model, num_threads=1)
        self.input = self._interpreter.get_input_details()[0]
        self.output = self._interpreter.get_output_details()[0]
        if others := not_int8(self._interpreter.get_tensor_details()):
            raise ValueError(f"not int8 throughout: {', '.join(others)}")

    def __call__(self, inputs: FloatArray) -> FloatArray:
        """Return what the model makes of real ``inputs``, as real values; the first axis counts them in both."""
        scale, zero = self.input["quantization"]
        stored = np.clip(np.rint(inputs / np.float32(scale)) + zero, -128, 127).astype(np.int8)
        with called(RUNTIME, "running the int8 model", self._layers):
            self._interpreter.resize_tensor_input(self.input["index"], inputs.shape)
            self._interpreter.allocate_tensors()
            self._interpreter.set_tensor(self.input["index"], stored)
            self._interpreter.invoke()
        scale, zero = self.output["quantization"]
        found = self._interpreter.get_tensor(self.output["index"]).astype(np.float32)
        return np.asarray((found - zero) * np.float32(scale), np.float32)


def not_int8(tensors: Iterable[dict[str, Any]]) -> list[str]:
    """Return the names of the tensors, as an interpreter lists them, that are neither int8 nor int32 biases."""
    return [t["name"] for t in tensors if t["dtype"] not in (np.int8, np.int32)]


def describe(detail: dict[str, Any], name: str, unit: str = "", channels: Sequence[str] = ()) -> TensorInfo:
    """Return a tensor for the manifest from an interpreter's description of it and what its maker knows."""
    scale, zero = detail["quantization"]
    return TensorInfo(
        name=name,
        shape=detail["shape_signature"].tolist(),
        dtype=np.dtype(detail["dtype"]).name,
        scale=[float(scale)],
        zero_point=[int(zero)],
        channels=list(channels),
        unit=unit,
    )
