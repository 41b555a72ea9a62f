"""Three models that every workstation makes alike. Their speed predicts that of other models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from limpet_convert import flatpack

if TYPE_CHECKING:
    from limpet.contracts.data import Array, FloatArray

SIZE, CHANNELS, LAYERS = 16, 32, 4
"""An image of that many pixels a side, and that many convolutions of 3 x 3: 9 million multiply-adds."""
FLOAT, INT8, INT16 = "conv-float", "conv-int8", "conv-int16x8"
NAMES = (FLOAT, INT8, INT16)


class _Numbers(NamedTuple):
    """Types of activations, weights and biases; one step of an activation, and the version of the op."""

    values: str
    weights: str
    bias: str
    step: float
    version: int


_NUMBERS = {
    FLOAT: _Numbers("float32", "float32", "float32", 0.0, 1),
    INT8: _Numbers("int8", "int8", "int32", 1 / 16, 3),
    INT16: _Numbers("int16", "int8", "int64", 1 / 4096, 4),
}
_WEIGHT_STEP = 1 / 256


def image() -> FloatArray:
    """Return what to run them on, ``(1, SIZE, SIZE, CHANNELS)``: one window."""
    noise: FloatArray = np.random.default_rng(0).normal(size=(1, SIZE, SIZE, CHANNELS)).astype(np.float32)
    return noise


def model(name: str) -> bytes:
    """Return one of ``NAMES`` as a ``.tflite`` file."""
    from ai_edge_litert import schema_py_generated as schema

    return _Builder(schema, _NUMBERS[name]).build()


class _Builder:
    def __init__(self, schema: Any, numbers: _Numbers) -> None:
        self._schema = schema
        self._numbers = numbers
        self._noise = np.random.default_rng(1)
        self._graph = schema.SubGraphT()
        self._graph.tensors, self._graph.operators = [], []
        self._buffers = [schema.BufferT()]

    def build(self) -> bytes:
        schema, graph, made, numbers = self._schema, self._graph, self._schema.ModelT(), self._numbers
        shape = (1, SIZE, SIZE, CHANNELS)
        last = self._tensor("image", shape, numbers.values, numbers.step)
        graph.inputs = [last]
        for layer in range(LAYERS):
            weights = self._noise.normal(size=(CHANNELS, 3, 3, CHANNELS)) / np.sqrt(9 * CHANNELS)
            zeros = np.zeros(CHANNELS)
            filters = self._tensor(f"filter{layer}", weights.shape, numbers.weights, _WEIGHT_STEP, weights)
            bias = self._tensor(f"bias{layer}", zeros.shape, numbers.bias, numbers.step * _WEIGHT_STEP, zeros)
            output = self._tensor(f"relu{layer}", shape, numbers.values, numbers.step)
            graph.operators.append(self._conv([last, filters, bias], output))
            last = output
        graph.outputs = [last]
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CONV_2D
        code.version = numbers.version
        made.version, made.operatorCodes, made.subgraphs, made.buffers = 3, [code], [graph], self._buffers
        return flatpack.pack(made, 1 << 18)

    def _conv(self, inputs: list[int], output: int) -> Any:
        schema = self._schema
        options, op = schema.Conv2DOptionsT(), schema.OperatorT()
        options.strideH = options.strideW = options.dilationHFactor = options.dilationWFactor = 1
        options.padding = schema.Padding.SAME
        options.fusedActivationFunction = schema.ActivationFunctionType.RELU
        op.inputs, op.outputs, op.builtinOptions = inputs, [output], options
        op.builtinOptionsType = schema.BuiltinOptions.Conv2DOptions
        return op

    def _tensor(
        self, name: str, shape: tuple[int, ...], dtype: str, step: float, values: Array | None = None
    ) -> int:
        """Add a tensor and return its index. ``step`` 0 is a float's."""
        schema, tensor = self._schema, self._schema.TensorT()
        tensor.name, tensor.shape = name, list(shape)
        tensor.type = getattr(schema.TensorType, dtype.upper())
        if self._numbers.step:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = [step], [0]
        if values is not None:
            stored = np.rint(values / step).clip(-127, 127) if self._numbers.step else values
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(stored.astype(dtype).tobytes(), np.uint8)
            tensor.buffer = len(self._buffers)
            self._buffers.append(buffer)
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1
