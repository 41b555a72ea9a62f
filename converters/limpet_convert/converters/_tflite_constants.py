"""Constants of a ``.tflite`` model that are stored as float16 or sparse, as the float32 that they stand for.

A converter stores weights as float16 or sparse, and an op that expands them when the model is loaded. No quantizer
takes a weight that an op computes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from limpet_convert.graph import Graph, Tracer

if TYPE_CHECKING:
    from limpet.contracts.data import Array
    from limpet_convert.graph import Op

_EXPANDING = {"DEQUANTIZE", "DENSIFY"}


def folded(model: bytes) -> bytes:
    """Return a model with float32 constants in place of ops that only expand constants.

    A model without such ops comes back as it is. ``ConvertError`` if the runtime cannot compute them.
    """
    graph = Graph(model)
    ops = _expanding(graph)
    results = {op.outputs[0] for op in ops}
    read = {tensor for op in graph.ops if op not in ops for tensor in op.inputs} | {*graph.outputs}
    wanted = sorted(results & read)
    if not ops:
        return model
    values = _computed(model, ops, wanted)
    for tensor in wanted:
        _store(graph, tensor, values[tensor])
    operators = graph.subgraph.operators
    removed = {op.index for op in ops}
    graph.subgraph.operators = [one for index, one in enumerate(operators) if index not in removed]
    _clear(graph, {tensor for op in ops for tensor in op.inputs} - read)
    return graph.pack()


def _expanding(graph: Graph) -> list[Op]:
    """Return the ops that compute float32 constants of nothing but constants, in their order."""
    floats = {graph.schema.TensorType.FLOAT32, graph.schema.TensorType.FLOAT16}
    constant = {i for i in range(len(graph.subgraph.tensors)) if graph.is_constant(i)}
    found = []
    for op in graph.ops:
        tensors = [graph.subgraph.tensors[i] for i in (*op.inputs, *op.outputs)]
        if op.kind in _EXPANDING and constant >= {*op.inputs} and floats >= {tensor.type for tensor in tensors}:
            constant |= {*op.outputs}
            found.append(op)
    return found


def _computed(model: bytes, ops: list[Op], wanted: list[int]) -> dict[int, Array]:
    """Return what the ops compute, from a model that has these ops alone."""
    graph = Graph(model)
    operators = graph.subgraph.operators
    graph.subgraph.operators = [operators[op.index] for op in ops]
    graph.subgraph.inputs, graph.subgraph.outputs = np.zeros(0, np.int32), np.array(wanted, np.int32)
    graph.model.subgraphs, graph.model.signatureDefs = [graph.subgraph], None
    used = {tensor for op in ops for tensor in op.inputs}
    _clear(graph, {*range(len(graph.subgraph.tensors))} - used)
    tracer = Tracer(graph.pack())
    tracer.invoke([])
    return {detail["index"]: tracer.real(detail).copy() for detail in tracer.outputs}


def _store(graph: Graph, tensor: int, values: Array) -> None:
    buffer = graph.schema.BufferT()
    buffer.data = np.frombuffer(np.ascontiguousarray(values, np.float32).tobytes(), np.uint8)
    graph.model.buffers.append(buffer)
    found = graph.subgraph.tensors[tensor]
    found.buffer, found.shape = len(graph.model.buffers) - 1, np.array(values.shape, np.int32)
    found.shapeSignature = None


def _clear(graph: Graph, tensors: set[int]) -> None:
    """Drop the values of tensors that no op reads. The tensors stay, as their numbers are used everywhere."""
    kept = {
        tensor.buffer
        for number, subgraph in enumerate(graph.model.subgraphs)
        for index, tensor in enumerate(subgraph.tensors)
        if number or index not in tensors
    }
    kept |= {entry.buffer for entry in graph.model.metadata or []}
    for index in tensors:
        found = graph.subgraph.tensors[index]
        if found.buffer not in kept:
            graph.model.buffers[found.buffer].data = None
        found.buffer, found.sparsity = 0, None
