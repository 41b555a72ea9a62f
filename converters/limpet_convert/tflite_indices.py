"""Whether the numbers in a ``.tflite`` model that stand for tensors, buffers and ops stand for something.

A damaged file passes the reader of flatbuffers, which looks at no number. Code that walks through the model later
would end in an ``IndexError``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from limpet_convert.errors import ConvertError

if TYPE_CHECKING:
    from collections.abc import Iterator


def refuse(model: Any, types: set[int]) -> None:
    """Raise ``ConvertError`` where a number in a model's object tree is that of nothing. ``types``: of tensors.

    Lists that the file leaves out become empty ones.
    """
    model.operatorCodes, model.buffers = model.operatorCodes or [], model.buffers or []
    if not model.subgraphs:
        raise ConvertError("the .tflite model is damaged: it has no graph")
    for graph in model.subgraphs:
        graph.tensors, graph.operators = graph.tensors or [], graph.operators or []
        for what, numbers, least, end in _numbers(model, graph):
            if numbers.size and not least <= numbers.min() <= numbers.max() < end:
                wrong = next(int(one) for one in numbers if not least <= one < end)
                raise ConvertError(f"the .tflite model is damaged: there is no {what} {wrong}")
        if not {tensor.type for tensor in graph.tensors} <= types:
            raise ConvertError("the .tflite model is damaged, or too new: a tensor has an unknown type")


def _numbers(model: Any, graph: Any) -> Iterator[tuple[str, Any, int, int]]:
    """Yield what numbers stand for, the numbers, the least that is allowed, and the first that is too large.

    An op has -1 in place of an input that it may do without.
    """
    ops, tensors = graph.operators, len(graph.tensors)
    yield "tensor", _joined(graph.inputs, graph.outputs), 0, tensors
    yield "tensor", _joined(*(op.inputs for op in ops)), -1, tensors
    yield "tensor", _joined(*(op.outputs for op in ops)), -1, tensors
    yield "op code", np.array([op.opcodeIndex for op in ops], np.int64), 0, len(model.operatorCodes)
    yield "buffer", np.array([one.buffer for one in graph.tensors], np.int64), 0, len(model.buffers)


def _joined(*parts: Any) -> Any:
    found = [np.asarray(part, np.int64).ravel() for part in parts if part is not None]
    return np.concatenate(found) if found else np.empty(0, np.int64)
