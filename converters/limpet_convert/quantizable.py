"""What the quantizer needs of a float ``.tflite`` model, and leaves undone in the quantized one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from limpet_convert.errors import ConvertError
from limpet_convert.graph import Graph

if TYPE_CHECKING:
    from limpet_convert.graph import Op

_LOOPS = {"WHILE", "IF", "CALL_ONCE"}


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
    return graph.pack() if reversals else model


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
    schema, model, part = graph.schema, graph.model, graph.subgraph
    axis = _axis(graph, op)
    size = int(part.tensors[op.inputs[0]].shape[axis])
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(np.arange(size, dtype=np.int32)[::-1].tobytes(), np.uint8)
    model.buffers.append(buffer)
    places = schema.TensorT()
    places.name, places.shape = f"reversed_{op.index}".encode(), np.array([size], np.int32)
    places.type, places.buffer = schema.TensorType.INT32, len(model.buffers) - 1
    part.tensors.append(places)
    options = schema.GatherOptionsT()
    options.axis, options.batchDims = axis, 0
    made: Any = part.operators[op.index]
    made.opcodeIndex = _code(graph, "GATHER")
    made.inputs = np.array([op.inputs[0], len(part.tensors) - 1], np.int32)
    made.builtinOptionsType, made.builtinOptions = schema.BuiltinOptions.GatherOptions, options


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
