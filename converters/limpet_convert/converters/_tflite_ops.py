"""Ops of a ``.tflite`` model as the quantizer knows them: those of an old file, and custom ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from limpet_convert.graph import Graph

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet_convert.graph import Op

_TRANSPOSED, _SAME = "Convolution2DTransposeBias", 1
"""MediaPipe's transposed convolution, and its number for the padding."""
KNOWN = {_TRANSPOSED}


def replaced(model: bytes) -> bytes:
    """Return the model with built-in ops in place of ``KNOWN`` ones. The results are the same to the last bit.

    Files of converters before 2020 have an op's number only in a field of 8 bits, which the quantizer does not
    read. It would take each op for number 0. A model without such ops comes back as it is. Not every runtime has
    MediaPipe's ops.
    """
    graph = Graph(model)
    codes = graph.model.operatorCodes
    old = [code for code in codes if code.deprecatedBuiltinCode > code.builtinCode]
    known = [op for op in graph.ops if op.kind in KNOWN]
    for code in old:
        code.builtinCode = code.deprecatedBuiltinCode
    if known:
        _replace_transposed(graph, known)
    return graph.pack() if old or known else model


def _replace_transposed(graph: Graph, ops: Sequence[Op]) -> None:
    schema = graph.schema
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.TRANSPOSE_CONV
    code.version = 3
    graph.model.operatorCodes.append(code)
    for op in ops:
        _replace(graph, op, len(graph.model.operatorCodes) - 1)


def _replace(graph: Graph, op: Op, code: int) -> None:
    schema, found = graph.schema, graph.subgraph.operators[op.index]
    padding, across, down = np.frombuffer(bytes(found.customOptions), np.int32)[:3].tolist()
    options = schema.TransposeConvOptionsT()
    options.padding = schema.Padding.SAME if padding == _SAME else schema.Padding.VALID
    options.strideW, options.strideH = across, down
    source, weights, bias = op.inputs
    shape = np.asarray(graph.subgraph.tensors[op.outputs[0]].shape, np.int32)
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(shape.tobytes(), np.uint8)
    graph.model.buffers.append(buffer)
    tensor = schema.TensorT()
    tensor.shape, tensor.type = np.array([4], np.int32), schema.TensorType.INT32
    tensor.buffer, tensor.name = len(graph.model.buffers) - 1, f"shape_{op.index}".encode()
    graph.subgraph.tensors.append(tensor)
    found.opcodeIndex, found.customOptions = code, None
    found.inputs = np.array([len(graph.subgraph.tensors) - 1, weights, source, bias], np.int32)
    found.builtinOptionsType = schema.BuiltinOptions.TransposeConvOptions
    found.builtinOptions = options
