"""An ONNX model made ready for conversion: fixed sizes, float32, fewer nodes, and names that all converters take.

ONNX allows much that converters do not take. A batch is stored as -1 or by name, and shapes are computed in the
graph. Constants are in half precision, and nodes have names such as ``Softmax@0``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from limpet_convert.errors import ConvertError
from limpet_convert.libraries import called, need

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

QUANTIZED = frozenset({"QuantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"})
"""Ops of a model that has whole numbers already. Each ``QLinear...`` is one, too."""
_UNSAFE = re.compile(r"[^A-Za-z0-9_./-]|^[^A-Za-z0-9]")


def prepare(model: Any, sizes: Mapping[str, Sequence[int]]) -> tuple[Any, dict[str, str]]:
    """Return an ``onnx.ModelProto`` that converts well, and what each of its nodes was: ``NAME (OP)``.

    ``sizes``: of each input its shape with the batch. Nodes and tensors get new names. Inputs and outputs keep
    theirs as far as TensorFlow takes them. ``ConvertError`` if it is quantized.
    """
    _refuse_quantized(model)
    _close(model, sizes)
    _widen(model)
    model = _simplified(model)
    return model, _rename(model)


def _refuse_quantized(model: Any) -> None:
    for node in model.graph.node:
        if node.op_type in QUANTIZED or node.op_type.startswith("QLinear"):
            raise ConvertError(
                f"quantized already, from node {title(node)} on; give the float model that it was made of"
            )


def title(node: Any) -> str:
    """Return how a node is named in messages: ``NAME (OP)``. A node without a name has its first output's."""
    return f"{node.name or next(iter(node.output), '')} ({node.op_type})"


def _close(model: Any, sizes: Mapping[str, Sequence[int]]) -> None:
    """Give the inputs their sizes, and forget the shapes of what is made of them."""
    onnx = need("onnx", "convert-onnx")
    for one in model.graph.input:
        if one.name in sizes:
            one.type.tensor_type.shape.CopyFrom(_shape(onnx, sizes[one.name]))
    for one in model.graph.output:
        one.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]


def _shape(onnx: Any, sizes: Sequence[int]) -> Any:
    return onnx.TensorShapeProto(dim=[onnx.TensorShapeProto.Dimension(dim_value=size) for size in sizes])


def _widen(model: Any) -> None:
    """Turn half precision into float32: inputs, constants, and casts to it."""
    onnx = need("onnx", "convert-onnx")
    half, full = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    for graph in graphs(model.graph):
        for value in (*graph.input, *graph.output, *graph.value_info):
            if value.type.tensor_type.elem_type == half:
                value.type.tensor_type.elem_type = full
        for tensor in _constants(graph):
            if tensor.data_type == half:
                values = onnx.numpy_helper.to_array(tensor).astype("float32")
                tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
        for node in graph.node:
            for attribute in node.attribute:
                if node.op_type == "Cast" and attribute.name == "to" and attribute.i == half:
                    attribute.i = full


def graphs(graph: Any) -> Iterator[Any]:
    """Yield a graph and those nested in it, such as the branches of an If."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for nested in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from graphs(nested)


def _constants(graph: Any) -> Iterable[Any]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t


def _simplified(model: Any) -> Any:
    """Return the model with computed shapes and constants folded. If onnxslim fails, the model stays as it is."""
    onnx, onnxslim = need("onnx", "convert-onnx"), need("onnxslim", "convert-onnx")
    kept = model.SerializeToString()
    try:
        with called("onnxslim", "simplifying the model"):
            slim = onnxslim.slim(model, skip_optimizations=["graph_fusion"])  # It drops reshapes that matter.
            onnx.checker.check_model(slim)
            return onnx.shape_inference.infer_shapes(slim, data_prop=True)
    except ConvertError:
        return onnx.ModelProto.FromString(kept)


def _rename(model: Any) -> dict[str, str]:
    """Name nodes and tensors so that TensorFlow takes them. Return what each node was called."""
    graph = model.graph
    nested = {name for one in graphs(graph) if one is not graph for node in one.node for name in node.input}
    used: set[str] = set()
    names = {one.name: _safe(one.name, used) for one in (*graph.input, *graph.output)}
    for name in (*(one.name for one in graph.initializer), *(made for node in graph.node for made in node.output)):
        if name and name not in nested:
            names.setdefault(name, f"tensor_{len(names)}")
    for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        value.name = names.get(value.name, value.name)
    titles = {}
    for number, node in enumerate(graph.node):
        before = title(node)
        node.name = f"node_{number}_{node.op_type}"
        titles[node.name] = before
        for of in (node.input, node.output):
            of[:] = [names.get(name, name) for name in of]
    return titles


def _safe(name: str, used: set[str]) -> str:
    """Return a name without what TensorFlow refuses in one, unlike those that are used."""
    plain = _UNSAFE.sub("_", name).lstrip("_") or "tensor"
    found = next(one for one in (plain, *(f"{plain}_{n}" for n in range(1 << 16))) if one not in used)
    used.add(found)
    return found
