"""Two models that every workstation makes alike, to tell by how fast they run how fast another model will be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from limpet_convert import flatpack

if TYPE_CHECKING:
    from limpet.types import Array, FloatArray

SIZE, CHANNELS, LAYERS = 32, 32, 4
"""An image of that many pixels a side, and that many convolutions of 3 x 3: 38 million multiply-adds."""
FLOAT, INT8 = "conv-float", "conv-int8"
NAMES = (FLOAT, INT8)


def image() -> FloatArray:
    """Return what to run them on, ``(1, SIZE, SIZE, CHANNELS)``: one window."""
    noise: FloatArray = np.random.default_rng(0).normal(size=(1, SIZE, SIZE, CHANNELS)).astype(np.float32)
    return noise


def model(name: str) -> bytes:
    """Return one of ``NAMES`` as a ``.tflite`` file."""
    from ai_edge_litert import schema_py_generated as schema

    return _Builder(schema, int8=name == INT8).build()


class _Builder:
    def __init__(self, schema: Any, *, int8: bool) -> None:
        self._schema = schema
        self._int8 = int8
        self._noise = np.random.default_rng(1)
        self._graph = schema.SubGraphT()
        self._graph.tensors, self._graph.operators = [], []
        self._buffers = [schema.BufferT()]

    def build(self) -> bytes:
        schema, graph, made = self._schema, self._graph, self._schema.ModelT()
        shape = [1, SIZE, SIZE, CHANNELS]
        last = self._tensor("image", shape, 1 / 16)
        graph.inputs = [last]
        for number in range(LAYERS):
            weights = self._noise.normal(size=(CHANNELS, 3, 3, CHANNELS)) / np.sqrt(9 * CHANNELS)
            filters = self._tensor(f"filter{number}", weights.shape, 1 / 256, weights)
            bias = self._tensor(f"bias{number}", (CHANNELS,), 1 / 4096, np.zeros(CHANNELS), wide=True)
            output = self._tensor(f"relu{number}", shape, 1 / 16)
            graph.operators.append(self._conv([last, filters, bias], output))
            last = output
        graph.outputs = [last]
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CONV_2D
        code.version = 3 if self._int8 else 1
        made.version, made.operatorCodes, made.subgraphs, made.buffers = 3, [code], [graph], self._buffers
        return flatpack.pack(made, 1 << 20)

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
        self, name: str, shape: Any, scale: float, values: Array | None = None, *, wide: bool = False
    ) -> int:
        """Add a tensor and return its index; ``wide``: of 32 bits where others have 8."""
        schema, tensor = self._schema, self._schema.TensorT()
        dtype = np.dtype(("int32" if wide else "int8") if self._int8 else "float32")
        tensor.name, tensor.shape = name, list(shape)
        tensor.type = getattr(schema.TensorType, dtype.name.upper())
        if self._int8:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [0]
        if values is not None:
            stored = np.rint(values / scale).clip(-127, 127) if self._int8 else values
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(stored.astype(dtype).tobytes(), np.uint8)
            tensor.buffer = len(self._buffers)
            self._buffers.append(buffer)
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1
