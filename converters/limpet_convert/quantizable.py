"""What the quantizer needs of a float ``.tflite`` model, and leaves undone in the quantized one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from limpet_convert.errors import ConvertError
from limpet_convert.graph import Graph

if TYPE_CHECKING:
    from collections.abc import Mapping

    from limpet.contracts.data import Array
    from limpet_convert.graph import Op
    from limpet_convert.observers import Range

_LOOPS = {"WHILE", "IF", "CALL_ONCE"}
ENDLESS = 1e30
"""Numbers beyond it stand for the lowest or the highest there is."""


def prepared(model: bytes, variant: str) -> bytes:
    """Return a model that computes the same, without ops that the quantizer leaves in float.

    ``ConvertError`` where the model has a loop, which has no quantized form.
    """
    graph = Graph(model)
    loops = [op for op in graph.ops if op.kind in _LOOPS]
    if loops:
        layers = ", ".join(dict.fromkeys(f"{graph.layer(op)} ({op.kind})" for op in loops))
        raise ConvertError(
            f"{variant}: a loop has no quantized form, and this model has one in {layers}. Limpet writes out "
            "loops of at most 256 steps that are the same for each input, of Keras and SavedModels. Shorten the "
            'window, or set bundle.variant and quantize.variants to "dynamic"'
        )
    reversals = [op for op in graph.ops if op.kind == "REVERSE_V2" and _axis(graph, op) is not None]
    for op in reversals:
        _gather(graph, op)
    products = [op for op in graph.ops if op.kind == "BATCH_MATMUL" and _weights(graph, op) is not None]
    shared: dict[tuple[int, bool], int] = {}
    for op in products:
        _connect(graph, op, shared)
    _drop_unread(graph, {op.inputs[1] for op in products})
    return graph.pack() if reversals or products else model


def finite(model: bytes, ranges: Mapping[str, Range]) -> tuple[bytes, Mapping[str, Range]]:
    """Return a model that pads with the lowest number of the input's range, and its ranges.

    Converters pad with the lowest of all before a maximum is taken. The range down to -3e38 leaves one step for
    all other numbers.
    """
    graph, closed = Graph(model), dict(ranges)
    for op in graph.ops:
        value = graph.constant(op.inputs[2]) if op.kind == "PADV2" else None
        name = graph.names[op.inputs[0]]
        if value is None or value.dtype != np.float32 or not (np.abs(value) > ENDLESS).all() or name not in ranges:
            continue
        lowest = np.full(value.shape, ranges[name].low, np.float32)
        made: Any = graph.subgraph.operators[op.index]
        made.inputs = np.array([*op.inputs[:2], _constant(graph, f"lowest_{op.index}", lowest)], np.int32)
        closed[graph.names[op.outputs[0]]] = ranges[name]
    return (graph.pack(), closed) if closed != dict(ranges) else (model, ranges)


def completed(quantized: bytes) -> bytes:
    """Return a quantized model where an output that nothing reads has the type of the op's other outputs.

    The quantizer leaves it in float: the first step of an LSTM, for one, has no use for its forget gate.
    """
    graph = Graph(quantized)
    tensors = graph.subgraph.tensors
    read = {i for op in graph.ops for i in op.inputs} | set(graph.outputs)
    for op in graph.ops:
        like = next((tensors[i] for i in op.outputs if i in read), None)
        for unread in (tensors[i] for i in op.outputs if i not in read):
            if like is not None:
                unread.type, unread.quantization = like.type, like.quantization
    return graph.pack()


def _axis(graph: Graph, op: Op) -> int | None:
    """Return the one axis that an op reverses, ``None`` if there are several or its size is open."""
    axes = graph.constant(op.inputs[1])
    shape = graph.subgraph.tensors[op.inputs[0]].shape
    if axes is None or axes.size != 1:
        return None
    axis = int(axes.ravel()[0]) % len(shape)
    return axis if shape[axis] > 0 else None


def _gather(graph: Graph, op: Op) -> None:
    """Take the places of an axis from last to first, which has an int8 form, instead of reversing it."""
    axis = _axis(graph, op)
    size = int(graph.subgraph.tensors[op.inputs[0]].shape[axis])
    options = graph.schema.GatherOptionsT()
    options.axis, options.batchDims = axis, 0
    _replace(graph, op, "GATHER", _constant(graph, f"reversed_{op.index}", np.arange(size, dtype=np.int32)[::-1]))
    _set_options(graph, op, "GatherOptions", options)


def _weights(graph: Graph, op: Op) -> Array | None:
    """Return the constant matrix ``(outputs, inputs)`` that a product is with, ``None`` if there is none."""
    options: Any = graph.subgraph.operators[op.index].builtinOptions
    second = graph.constant(op.inputs[1])
    if second is None or second.dtype != np.float32 or second.ndim < 2 or (options and options.adjX):
        return None
    if second.size != second.shape[-1] * second.shape[-2]:
        return None  # Each part of the batch has a separate matrix.
    matrix = second.reshape(second.shape[-2:])
    return matrix if options and options.adjY else matrix.T


def _connect(graph: Graph, op: Op, shared: dict[tuple[int, bool], int]) -> None:
    """Make a product with constants a fully connected layer.

    ``shared``: constants that were made. The steps of a recurrent layer have the same weights.

    The quantizer gives constants a scale for each channel. The int8 kernel of BATCH_MATMUL has one scale, and
    answers with zeros.
    """
    weights = _weights(graph, op)
    assert weights is not None
    before: Any = graph.subgraph.operators[op.index].builtinOptions
    key = op.inputs[1], bool(before and before.adjY)
    if key not in shared:
        shared[key] = _constant(graph, f"{graph.names[op.inputs[1]]}_{op.index}", weights)
    options = graph.schema.FullyConnectedOptionsT()
    options.keepNumDims = True
    _replace(graph, op, "FULLY_CONNECTED", shared[key])
    _set_options(graph, op, "FullyConnectedOptions", options)


def _drop_unread(graph: Graph, constants: set[int]) -> None:
    """Drop the values of constants that no op reads any more."""
    tensors = graph.subgraph.tensors
    read = {int(i) for op in graph.subgraph.operators for i in op.inputs} | set(graph.outputs)
    unread = constants - read
    kept = {tensor.buffer for index, tensor in enumerate(tensors) if index not in unread}
    for index in unread:
        if tensors[index].buffer not in kept:
            graph.model.buffers[tensors[index].buffer].data = None
        tensors[index].buffer = 0


def _constant(graph: Graph, name: str, values: Array) -> int:
    """Add a constant, float32 or int32, and return its index."""
    schema, part = graph.schema, graph.subgraph
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
    graph.model.buffers.append(buffer)
    tensor = schema.TensorT()
    tensor.name, tensor.shape = name.encode(), np.array(values.shape, np.int32)
    tensor.type = getattr(schema.TensorType, values.dtype.name.upper())
    tensor.buffer = len(graph.model.buffers) - 1
    part.tensors.append(tensor)
    return len(part.tensors) - 1


def _replace(graph: Graph, op: Op, kind: str, second: int) -> None:
    """Make an op another one, of its first input and a constant."""
    made: Any = graph.subgraph.operators[op.index]
    made.opcodeIndex = _code(graph, kind)
    made.inputs = np.array([op.inputs[0], second], np.int32)


def _set_options(graph: Graph, op: Op, kind: str, options: Any) -> None:
    made: Any = graph.subgraph.operators[op.index]
    made.builtinOptionsType, made.builtinOptions = getattr(graph.schema.BuiltinOptions, kind), options


def _code(graph: Graph, kind: str) -> int:
    """Return the place of an op's code in the model, which may be new."""
    wanted = getattr(graph.schema.BuiltinOperator, kind)
    codes = graph.model.operatorCodes
    for number, code in enumerate(codes):
        if code.builtinCode == wanted:
            return number
    code = graph.schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = wanted
    code.version = 2
    codes.append(code)
    return len(codes) - 1
