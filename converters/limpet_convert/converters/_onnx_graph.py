"""An ONNX model made ready for conversion: fixed sizes, float32, fewer nodes, and names that all converters take.

ONNX allows much that converters do not take. A batch is stored as -1 or by name, and shapes are computed in the
graph. Constants are in half precision, and nodes have names such as ``Softmax@0``.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import ChainMap
from typing import TYPE_CHECKING, Any

import numpy as np

from limpet_convert.errors import ConvertError
from limpet_convert.libraries import called, need

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence

FLATTENING = frozenset({"Softmax", "LogSoftmax", "Hardmax"})
"""Ops that work on all axes from one on in old opsets, and on one axis since."""
ONE_AXIS = 13
"""The first opset in which they work on one axis."""
QUANTIZED = frozenset({"QuantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"})
"""Ops of a model that has whole numbers already. Each ``QLinear...`` is one, too."""
KINDS = frozenset({"FLOAT", "FLOAT16", "DOUBLE", "INT64", "INT32", "INT8", "UINT8", "BOOL"})
"""What an input may take."""
MOST_NODES = 10_000
"""Nodes of a model, nested ones too. To simplify more takes minutes."""
MOST_VALUES = 1 << 28
"""Values of an input. In float32 these are 1 GiB."""
_UNSAFE = re.compile(r"[^A-Za-z0-9_./-]|^[^A-Za-z0-9]")
_LONGEST_NAME = 200
"""Characters of a name that are kept: onnx2tf makes names of its own from it, some of them names of files."""


def prepare(model: Any, sizes: Mapping[str, Sequence[int]]) -> tuple[Any, dict[str, str]]:
    """Return an ``onnx.ModelProto`` that converts well, and what each of its nodes was: ``NAME (OP)``.

    ``sizes``: of each input its shape with the batch. Nodes and tensors get new names. Inputs and outputs keep
    theirs as far as TensorFlow takes them. ``ConvertError`` if it is quantized.
    """
    _refuse_quantized(model)
    _refuse_inputs(model, sizes)
    model = _inlined(model)
    _refuse_many(model)
    _close(model, sizes)
    _widen(model)
    _refuse_not_running(model)
    _write_out_hard_sigmoids(model)
    model = _simplified(_raised(model))
    return model, _rename(model)


def _refuse_quantized(model: Any) -> None:
    for node in model.graph.node:
        if node.op_type in QUANTIZED or node.op_type.startswith("QLinear"):
            raise ConvertError(
                f"quantized already, from node {title(node)} on; give the float model that it was made of"
            )


def _refuse_inputs(model: Any, sizes: Mapping[str, Sequence[int]]) -> None:
    """Raise ``ConvertError`` where an input is of a kind that no window is, or too large for any device."""
    kinds = need("onnx", "convert-onnx").TensorProto.DataType
    for one in (one for one in model.graph.input if one.name in sizes):
        kind = kinds.Name(one.type.tensor_type.elem_type)
        if kind not in KINDS:
            raise ConvertError(
                f"the input {one.name[:_LONGEST_NAME]!r} takes {kind}; export it for float32 or int32"
            )
        if math.prod(sizes[one.name]) > MOST_VALUES:
            raise ConvertError(
                f"the input {one.name[:_LONGEST_NAME]!r} has shape {list(sizes[one.name])}, more than "
                f"{MOST_VALUES:,} values; export it for smaller windows"
            )


def _refuse_many(model: Any) -> None:
    count = sum(len(one.node) for one in graphs(model.graph))
    if count > MOST_NODES:
        raise ConvertError(f"it has {count:,} nodes, and at most {MOST_NODES:,} convert; give a smaller model")


def _inlined(model: Any) -> Any:
    """Return the model with the functions that it defines itself written out, as converters do not read them."""
    if not model.functions:
        return model
    inliner = need("onnx.inliner", "convert-onnx")
    with called("onnx", "writing out the model's own functions"):
        return inliner.inline_local_functions(model)


def title(node: Any) -> str:
    """Return how a node is named in messages: ``NAME (OP)``. A node without a name has its first output's."""
    return f"{(node.name or next(iter(node.output), ''))[:_LONGEST_NAME]} ({node.op_type[:_LONGEST_NAME]})"


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


def _raised(model: Any) -> Any:
    """Return the model in an opset whose softmax works on one axis: converters take an old one for that."""
    onnx = need("onnx", "convert-onnx")
    opset = next((one.version for one in model.opset_import if not one.domain), ONE_AXIS)
    kinds = {node.op_type for one in graphs(model.graph) for node in one.node}
    if opset >= ONE_AXIS or not FLATTENING & kinds:
        return model
    try:
        with called("onnx", "raising the opset"):
            shapes = onnx.shape_inference.infer_shapes(model)
            return onnx.version_converter.convert_version(shapes, ONE_AXIS)
    except ConvertError:
        return model


def _write_out_hard_sigmoids(model: Any) -> None:
    """Write HardSigmoid as a sixth of a Clip to 6, which has an int8 form in TFLite. A Clip to 1 has none."""
    onnx = need("onnx", "convert-onnx")
    version = next((one.version for one in model.opset_import if one.domain in {"", "ai.onnx"}), 1)
    nodes = []
    for node in model.graph.node:
        if node.op_type == "HardSigmoid":
            nodes += _hard_sigmoid(onnx, model.graph, node, attributes_only=version < 11)
        else:
            nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _hard_sigmoid(onnx: Any, graph: Any, node: Any, *, attributes_only: bool) -> list[Any]:
    """Return ``clip(6 * (alpha * x + beta), 0, 6) / 6`` in the place of ``clip(alpha * x + beta, 0, 1)``."""
    options = {"alpha": 0.2, "beta": 0.5} | {one.name: one.f for one in node.attribute}
    made, source = node.output[0], node.input[0]
    numbers = {
        "slope": 6 * options["alpha"],
        "offset": 6 * options["beta"],
        "low": 0.0,
        "high": 6.0,
        "sixth": 1 / 6,
    }
    for name, value in numbers.items():
        graph.initializer.append(
            onnx.helper.make_tensor(f"{made}/hard_sigmoid/{name}", onnx.TensorProto.FLOAT, [], [value])
        )
    limits = {"min": 0.0, "max": 6.0} if attributes_only else {}
    bounds = [] if attributes_only else [f"{made}/hard_sigmoid/low", f"{made}/hard_sigmoid/high"]
    make, name = onnx.helper.make_node, node.name or made
    return [
        make("Mul", [source, f"{made}/hard_sigmoid/slope"], [f"{made}/hard_sigmoid/sloped"], name),
        make(
            "Add",
            [f"{made}/hard_sigmoid/sloped", f"{made}/hard_sigmoid/offset"],
            [f"{made}/hard_sigmoid/moved"],
            name,
        ),
        make("Clip", [f"{made}/hard_sigmoid/moved", *bounds], [f"{made}/hard_sigmoid/clipped"], name, **limits),
        make("Mul", [f"{made}/hard_sigmoid/clipped", f"{made}/hard_sigmoid/sixth"], [made], name),
    ]


def graphs(graph: Any) -> Iterator[Any]:
    """Yield a graph and those nested in it, such as the branches of an If."""
    yield graph
    for node in graph.node:
        for nested in _nested(node):
            yield from graphs(nested)


def _nested(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        yield from ([attribute.g] if attribute.HasField("g") else [])
        yield from attribute.graphs


def _constants(graph: Any) -> Iterable[Any]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t


def _refuse_not_running(model: Any) -> None:
    """Raise ``ConvertError`` where onnxruntime cannot run the model at these sizes: then no converter is at fault.

    Such a model computes with a batch of several, for example.
    """
    onnx, runtime = need("onnx", "convert-onnx"), need("onnxruntime", "convert-onnx")
    constants = {one.name for one in model.graph.initializer}
    inputs = {one.name: one.type.tensor_type for one in model.graph.input if one.name not in constants}
    shapes = {name: [dim.dim_value for dim in kind.shape.dim] for name, kind in inputs.items()}
    dtypes = {name: onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type) for name, kind in inputs.items()}
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL  # It keeps nodes' names.
    given = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    with called("onnxruntime", f"the model itself does not run with the inputs {given}"):
        other = onnx.ModelProto.FromString(model.SerializeToString())
        used: set[str] = set()
        for node in other.graph.node:  # onnxruntime refuses two nodes of the same name.
            node.name = node.name if node.name not in used else ""
            used.add(node.name)
        data = other.SerializeToString()
        session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        session.run(None, {name: np.zeros(shapes[name], dtypes[name]) for name in shapes})


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
    """Name nodes and tensors so that TensorFlow takes them. Return what each node was called.

    No two tensors have the same name afterwards, in nested graphs neither.
    """
    used: set[str] = set()
    names = {one.name: "" for one in (*model.graph.input, *model.graph.output)}
    names = {name: _safe(name, used) for name in names}
    free = (name for name in map("tensor_{}".format, itertools.count()) if name not in used)
    titles: dict[str, str] = {}
    _rename_graph(model.graph, ChainMap(names), free, titles)
    return titles


def _rename_graph(
    graph: Any, names: ChainMap[str, str], free: Iterator[str], titles: MutableMapping[str, str]
) -> None:
    """Rename what a graph holds. ``names``: the new ones that it sees, to which those of its tensors are added."""
    constants = [*graph.initializer, *(one.values for one in graph.sparse_initializer)]
    tensors = [one.name for one in (*graph.input, *constants)]
    for name in (*tensors, *(made for node in graph.node for made in node.output)):
        if name and name not in names.maps[0]:
            names[name] = next(free)
    described = [one for one in graph.value_info if one.name in names.maps[0]]
    del graph.value_info[:], graph.quantization_annotation[:]
    graph.value_info.extend(described)
    for value in (*graph.input, *graph.output, *constants, *graph.value_info):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        before = title(node)
        node.name = f"node_{len(titles)}_{re.sub(r'[^A-Za-z0-9]', '_', node.op_type)}"
        titles[node.name] = before
        for of in (node.input, node.output):
            of[:] = [names.get(name, name) for name in of]
        for nested in _nested(node):
            _rename_graph(nested, names.new_child(), free, titles)


def _safe(name: str, used: set[str]) -> str:
    """Return a name without what TensorFlow refuses in one, unlike those that are used."""
    plain = (_UNSAFE.sub("_", name).lstrip("_") or "tensor")[:_LONGEST_NAME]
    others = (f"{plain}_{number}" for number in itertools.count(len(used)))
    found = next(one for one in itertools.chain([plain], others) if one not in used)
    used.add(found)
    return found
