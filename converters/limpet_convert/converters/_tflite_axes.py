"""Other orders of axes for inputs and outputs of a ``.tflite`` model, by a TRANSPOSE op at its edge."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet_convert.graph import Graph


def give(graph: Graph, tensor: int, order: Sequence[int]) -> None:
    """Make the model give an output with its axes in this order, as ``np.transpose`` has it."""
    moved = _moved(graph, tensor, order)
    graph.subgraph.operators.append(_transpose(graph, tensor, moved, order))
    _replace(graph, "outputs", tensor, moved)


def take(graph: Graph, tensor: int, order: Sequence[int]) -> None:
    """Make the model take an input whose axes the model itself then puts into this order."""
    back = np.argsort(np.asarray(order)).tolist()
    moved = _moved(graph, tensor, back)
    graph.subgraph.operators.insert(0, _transpose(graph, moved, tensor, order))
    _replace(graph, "inputs", tensor, moved)


def _moved(graph: Graph, tensor: int, order: Sequence[int]) -> int:
    """Add a tensor like this one, with the axes in another order. It gets the name."""
    tensors = graph.subgraph.tensors
    added = copy.copy(tensors[tensor])
    added.shape = np.asarray(added.shape, np.int32)[list(order)]
    added.shapeSignature, added.buffer = None, _buffer(graph, b"")
    tensors[tensor].name = tensors[tensor].name + b"/moved"
    tensors.append(added)
    return len(tensors) - 1


def _transpose(graph: Graph, source: int, target: int, order: Sequence[int]) -> Any:
    schema = graph.schema
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.TRANSPOSE
    code.version = 1
    graph.model.operatorCodes.append(code)
    axes = schema.TensorT()
    axes.shape, axes.type = np.array([len(order)], np.int32), schema.TensorType.INT32
    axes.buffer, axes.name = _buffer(graph, np.asarray(order, np.int32).tobytes()), f"axes_{target}".encode()
    graph.subgraph.tensors.append(axes)
    op = schema.OperatorT()
    op.opcodeIndex = len(graph.model.operatorCodes) - 1
    op.inputs = np.array([source, len(graph.subgraph.tensors) - 1], np.int32)
    op.outputs = np.array([target], np.int32)
    op.builtinOptionsType, op.builtinOptions = schema.BuiltinOptions.TransposeOptions, schema.TransposeOptionsT()
    return op


def _buffer(graph: Graph, data: bytes) -> int:
    buffer = graph.schema.BufferT()
    buffer.data = np.frombuffer(data, np.uint8) if data else None
    graph.model.buffers.append(buffer)
    return len(graph.model.buffers) - 1


def _replace(graph: Graph, edge: str, before: int, after: int) -> None:
    """Put another tensor in place of one among the graph's inputs or outputs, and in the signatures."""
    indices = [after if int(index) == before else int(index) for index in getattr(graph.subgraph, edge)]
    setattr(graph.subgraph, edge, np.array(indices, np.int32))
    for signature in graph.model.signatureDefs or []:
        for entry in getattr(signature, edge) or []:
            if entry.tensorIndex == before:
                entry.tensorIndex = after
