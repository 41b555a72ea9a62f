"""Names of ONNX nodes in the TFLite model that onnx2tf made, which names tensors after TensorFlow's calls.

Both models run on the same random inputs. If a tensor of each holds the same numbers, in any order, the same node
made them. This also shows whether the model from onnx2tf still gives the outputs of the ONNX one.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from limpet_convert import pairing
from limpet_convert.converters import _tflite_axes
from limpet_convert.errors import ConvertError
from limpet_convert.graph import Graph, Tracer
from limpet_convert.layers import distance
from limpet_convert.libraries import called, need

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from limpet.contracts.data import Array, FloatArray

SEED = 1
SAME = 1e-3
"""Of a tensor's spread: so near two tensors must be to be the same."""
MOST_ORDERS = 5_040
"""Orders of an output's axes that are compared: all of seven axes."""
MOST_PAIRS = 1_000_000
"""Pairs of tensors of one size that are compared. A model with more keeps the names that onnx2tf gave it."""
SURE = 1e-5
"""Of an output's spread: so near, no other order of its axes is looked at."""
WRONG = 1e-4
"""Of an output's spread: farther off, as the root of the mean square, the conversion is wrong."""
MOST_ROUNDING = 0.02
"""Of an output's spread: the most that rounding may excuse."""
LEAST_SPREAD = 1e-3
"""Of an output's largest value: its spread if it is nearly constant."""
_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}
"""NumPy's names of onnxruntime's kinds of inputs."""


@dataclass(frozen=True)
class _Made:
    """What a node of the ONNX model made: its values sorted, and which tensor it made them of."""

    node: str
    source: str
    values: FloatArray


def named(tflite: bytes, onnx_model: Any, names: Mapping[str, str], *, channels_last: bool) -> bytes:
    """Return the TFLite model with each op under its node's name. ``ConvertError`` where it answers otherwise.

    ``names``: what each node is called. A node that was fused into an op lends it its name if it has weights: a
    convolution, not its activation.
    """
    session = _session(onnx_model)
    tflite = _inputs_in_order(tflite, session.get_inputs(), channels_last=channels_last)
    tracer = Tracer(tflite)
    outputs = [one.name for one in onnx_model.graph.output]
    inputs, values = _tried(
        session, outputs, _inputs(tracer.inputs, session.get_inputs(), channels_last=channels_last)
    )
    made = _nodes(onnx_model, names, values)
    tracer.invoke([inputs[name][0] for name in inputs])
    plain = _run(_session(onnx_model, optimised=False), {name: pair[1] for name, pair in inputs.items()})
    orders = _orders(tracer, {name: (values[name], plain[name]) for name in outputs})
    graph = Graph(tflite)
    by_size: dict[int, dict[str, _Made]] = {}
    for name, one in made.items():
        by_size.setdefault(one.values.size, {})[name] = one
    pairs = sum(len(by_size.get(math.prod(d["shape"]), {})) for d in tracer.tensors)
    matched = tracer.tensors if pairs <= MOST_PAIRS else []
    found = {
        d["index"]: _match(np.sort(np.ravel(tracer.real(d))), by_size.get(math.prod(d["shape"]), {}))
        for d in matched
    }
    taken = {name for name in found.values() if name}
    for op in graph.ops:
        maker = found.get(op.outputs[0]) if op.outputs else None
        if maker:
            _rename(graph, op.outputs[0], op.inputs, f"{_maker(maker, made, taken)};{op.index}")
    for tensor, order in orders.items():
        _tflite_axes.give(graph, tensor, order)
    return graph.pack()


def _inputs_in_order(tflite: bytes, wanted: Sequence[Any], *, channels_last: bool) -> bytes:
    """Return the model with the axes of its inputs where they are to be. onnx2tf leaves some as ONNX has them."""
    graph, by_name = Graph(tflite), {one.name: one for one in wanted}
    for tensor, other in zip(graph.inputs, wanted, strict=False):
        shape = list(by_name.get(pairing.plain(graph.names[tensor]), other).shape)
        made = np.asarray(graph.subgraph.tensors[tensor].shape).tolist()
        if channels_last and len(shape) > 2 and made == shape != [shape[0], *shape[2:], shape[1]]:
            _tflite_axes.take(graph, tensor, [0, len(shape) - 1, *range(1, len(shape) - 1)])
    return graph.pack()


def _tried(
    session: Any, outputs: Sequence[str], inputs: dict[str, tuple[Array, Array]]
) -> tuple[dict[str, tuple[Array, Array]], dict[str, Array]]:
    """Return inputs for which the model's outputs are numbers, and what every node makes of them.

    A model that begins with a logarithm or a root takes no negative ones: it gets their absolute values.
    """
    values = _run(session, {name: pair[1] for name, pair in inputs.items()})
    if all(_finite(values[name]) for name in outputs):
        return inputs, values
    positive = {name: (np.abs(given), np.abs(taken)) for name, (given, taken) in inputs.items()}
    others = _run(session, {name: pair[1] for name, pair in positive.items()})
    return (positive, others) if all(_finite(others[name]) for name in outputs) else (inputs, values)


def _finite(values: Array) -> bool:
    return values.dtype.kind != "f" or bool(np.isfinite(values).all())


def _inputs(
    details: Sequence[dict[str, Any]], wanted: Sequence[Any], *, channels_last: bool
) -> dict[str, tuple[Array, Array]]:
    """Return random values for each input by its ONNX name, in the order of the TFLite model's inputs.

    The first are as TFLite takes them, the second as ONNX does. ``ConvertError`` if the shapes cannot be the same.
    """
    by_name = {one.name: one for one in wanted}
    random = np.random.default_rng(SEED)
    found = {}
    for detail, other in zip(details, wanted, strict=False):
        one = by_name.get(pairing.plain(detail["name"]), other)
        if np.dtype(detail["dtype"]).kind == "f":
            values = random.standard_normal(detail["shape"]).astype(np.float32)
        else:
            values = random.integers(0, 2, detail["shape"]).astype(detail["dtype"])
        moved = channels_last and values.ndim > 2
        found[one.name] = values, (np.moveaxis(values, -1, 1) if moved else values).astype(_DTYPES[one.type])
    sizes = {one.name: list(one.shape) for one in wanted}
    shapes = {name: list(values.shape) for name, (_, values) in found.items()}
    if shapes != sizes:
        raise ConvertError(f"onnx2tf made another model of it: its inputs are {shapes}, and not {sizes}")
    return found


def _session(onnx_model: Any, *, optimised: bool = True) -> Any:
    """Open the model so that it gives every node's output, or with nothing optimised its own outputs alone."""
    onnx, runtime = need("onnx", "convert-onnx"), need("onnxruntime", "convert-onnx")
    laid_open = onnx.ModelProto.FromString(onnx_model.SerializeToString())
    requested = {one.name for one in laid_open.graph.output}
    made = [out for node in laid_open.graph.node for out in node.output if out and out not in requested]
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    if optimised:
        laid_open.graph.output.extend(onnx.ValueInfoProto(name=out) for out in made)
    else:
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    with called("onnxruntime", "opening the model"):
        return runtime.InferenceSession(laid_open.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _run(session: Any, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Return what every node makes, by the name of the tensor."""
    names = [one.name for one in session.get_outputs()]
    with called("onnxruntime", "running the model"):
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def _nodes(onnx_model: Any, names: Mapping[str, str], values: Mapping[str, Array]) -> dict[str, _Made]:
    """Return which node made each tensor. A node that only moves values made none."""
    constants = {one.name for one in onnx_model.graph.initializer}
    made, first = dict[str, _Made](), dict[str, str]()
    for node, out in ((one, out) for one in onnx_model.graph.node for out in one.output if out):
        source = next((i for i in node.input if i not in constants), "")
        one = _Made(names.get(node.name) or out, first.get(source, source), _sorted(values[out]))
        moved = one.source in made and _same(made[one.source].values, one.values)
        first[out] = one.source if moved else out
        made[out] = made[one.source] if moved else one
    return made


def _sorted(value: Any) -> FloatArray:
    values = np.asarray(value)
    return np.sort(np.ravel(values).astype(np.float32)) if values.dtype.kind == "f" else np.empty(0, np.float32)


def _match(values: Array, made: Mapping[str, _Made]) -> str:
    """Return the first tensor of the ONNX model that holds these sorted values, or an empty text."""
    return next((name for name, one in made.items() if _same(one.values, values)), "")


def _same(one: Array, other: Array) -> bool:
    return one.size == other.size > 1 and distance(one, other) < SAME


def _maker(name: str, made: Mapping[str, _Made], taken: set[str]) -> str:
    """Return the node that an op is called after: of a chain that became one op the first."""
    while made[name].source in made and made[name].source not in taken:
        name = made[name].source
    return made[name].node


def _rename(graph: Graph, output: int, inputs: tuple[int, ...], name: str) -> None:
    """Name an op's output; where that is the model's own output, which has its own name, its weights."""
    weights = [i for i in inputs if graph.constant(i) is not None]
    if output in graph.outputs and not weights:
        return
    graph.subgraph.tensors[weights[0] if output in graph.outputs else output].name = name.encode()


def _orders(tracer: Tracer, wanted: Mapping[str, tuple[Array, Array]]) -> dict[int, tuple[int, ...]]:
    """Return for outputs whose axes onnx2tf moved how they are moved back.

    ``wanted``: of each output what onnxruntime makes of it, with its optimisations and without. If those differ by
    rounding, so may the output, by twice as much. ``ConvertError`` if one is far from all that have its size.
    """
    found = {}
    for detail in tracer.outputs:
        values = tracer.real(detail)
        offs = [
            (*min((*_off(one, values), name) for one in pair), 2 * _off(*pair)[0])
            for name, pair in wanted.items()
            if pair[0].size == values.size
        ]
        off, order, name, rounding = min(offs, default=(math.inf, (), "", 0.0))
        if not off <= max(WRONG, min(rounding, MOST_ROUNDING)):
            how = f"differs from onnxruntime's by {off:.2g} of its spread" if name else "has no counterpart"
            raise ConvertError(
                f"onnx2tf made another model of it: output {name or detail['name']} {how}. Export it with a lower "
                "opset, or convert it from its framework"
            )
        if order != tuple(range(values.ndim)):
            found[int(detail["index"])] = order
    return found


def _off(exact: Array, other: Array) -> tuple[float, tuple[int, ...]]:
    """Return how far two outputs are apart, and the order of the other's axes that was compared.

    That is the root of the mean square, by how far ``exact`` spreads. Both have the same numbers of values.
    """
    exact = np.asarray(exact, np.float32)
    finite = exact[np.isfinite(exact)]
    best = math.inf, tuple(range(other.ndim))
    if not finite.size:
        return best
    scale = max(float(finite.std()), LEAST_SPREAD * float(np.abs(finite).max()), 1e-9)
    for order in itertools.islice(itertools.permutations(range(other.ndim)), MOST_ORDERS):
        moved = np.transpose(other, order)
        if _sides(moved) == _sides(exact):
            best = min(best, (_root(exact, moved.reshape(exact.shape)) / scale, order))
            if best[0] <= SURE:
                break
    return best


def _sides(values: Array) -> list[int]:
    """Return the sizes that are not 1: where the others stand changes no order of values."""
    return [size for size in values.shape if size != 1]


def _root(one: FloatArray, other: FloatArray) -> float:
    """Return the root of the mean square. The two must be infinite, or no numbers, at the same places."""
    finite = np.isfinite(one)
    if not np.array_equal(one[~finite], other[~finite], equal_nan=True):
        return math.inf
    return float(np.sqrt(np.mean((one[finite] - other[finite]) ** 2)))
