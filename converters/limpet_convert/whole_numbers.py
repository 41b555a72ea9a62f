"""Models that take whole numbers, such as tokens for an embedding.

Frameworks with float inputs cast them to integers in the model. Quantized to int8, such an input would keep
only some of the tokens. So it becomes an input of integers, which no quantizer touches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from limpet_convert.graph import Graph

if TYPE_CHECKING:
    from limpet_convert.graph import Op


def kept(model: bytes) -> bytes:
    """Return a float ``.tflite`` model that takes integers where it only casts an input to them.

    A lookup in a table becomes the op for which there is an int8 form. A model without either comes back as it is.
    """
    graph = Graph(model)
    casts = [cast for tensor in graph.inputs for cast in _casts(graph, tensor)]
    lookups = [op for op in graph.ops if op.kind == "EMBEDDING_LOOKUP"]
    for op in lookups:
        _gather(graph, op)
    _without(graph, casts)
    return graph.pack() if casts or lookups else model


def _casts(graph: Graph, tensor: int) -> list[Op]:
    """Return the ops that cast a float input to integers of one type, empty if anything else reads it."""
    types, tensors = graph.schema.TensorType, graph.subgraph.tensors
    readers = [op for op in graph.ops if tensor in op.inputs]
    made = {tensors[op.outputs[0]].type for op in readers if op.kind == "CAST"}
    whole = len(made) == 1 and made <= {types.INT32, types.INT64}
    read_otherwise = tensor in graph.outputs or any(
        op.kind != "CAST" or op.outputs[0] in graph.outputs for op in readers
    )
    return readers if tensors[tensor].type == types.FLOAT32 and whole and not read_otherwise else []


def _without(graph: Graph, casts: list[Op]) -> None:
    """Take casts out. What they read gets their type, and is read in place of what they made."""
    tensors, operators = graph.subgraph.tensors, graph.subgraph.operators
    source = {op.outputs[0]: op.inputs[0] for op in casts}
    for made, read in source.items():
        tensors[read].type = tensors[made].type
    removed = {op.index for op in casts}
    graph.subgraph.operators = [op for index, op in enumerate(operators) if index not in removed]
    for op in graph.subgraph.operators:
        if op.inputs is not None:
            op.inputs = np.array([source.get(int(i), int(i)) for i in op.inputs], np.int32)


def _gather(graph: Graph, op: Op) -> None:
    """Make a lookup in a table the op that gathers rows."""
    schema, found = graph.schema, graph.subgraph.operators[op.index]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.GATHER
    code.version = 2
    graph.model.operatorCodes.append(code)
    found.opcodeIndex = len(graph.model.operatorCodes) - 1
    found.inputs = np.array(op.inputs[::-1], np.int32)
    found.builtinOptionsType = schema.BuiltinOptions.GatherOptions
    found.builtinOptions = schema.GatherOptionsT()
