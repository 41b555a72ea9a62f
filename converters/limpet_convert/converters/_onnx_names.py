"""Names of ONNX nodes in the TFLite model that onnx2tf made, which names tensors after TensorFlow's calls.

Both models run on the same random inputs. If a tensor of each holds the same numbers, in any order, the same node
made them. This also shows whether the model from onnx2tf still gives the outputs of the ONNX one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from limpet_convert import pairing
from limpet_convert.errors import ConvertError
from limpet_convert.graph import Graph, Tracer
from limpet_convert.layers import distance
from limpet_convert.libraries import called, need

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from limpet.contracts.data import Array, FloatArray

SEED = 1
SAME = 1e-3
"""Of a tensor's spread: so near two tensors must be to be the same."""
WRONG = 0.01
"""Of the outputs' spread: farther off the conversion is wrong."""


@dataclass(frozen=True)
class _Made:
    """What a node of the ONNX model made: its values sorted, and which tensor it made them of."""

    node: str
    source: str
    values: FloatArray


def named(tflite: bytes, onnx_model: Any, *, channels_last: bool) -> bytes:
    """Return the TFLite model with each op under its node's name. ``ConvertError`` where it answers otherwise.

    A node that was fused into an op lends it its name if it has weights: a convolution, not its activation.
    """
    graph, tracer = Graph(tflite), Tracer(tflite)
    inputs = _inputs(tracer.inputs, channels_last=channels_last)
    made = _run(onnx_model, inputs)
    if made is None:
        return tflite
    tracer.invoke([values for values, _ in inputs.values()])
    _refuse_other_answers(tracer, made, [one.name for one in onnx_model.graph.output])
    found = {d["index"]: _match(np.sort(np.ravel(tracer.real(d))), made) for d in tracer.tensors}
    taken = {name for name in found.values() if name}
    for op in graph.ops:
        name = found.get(op.outputs[0]) if op.outputs else None
        if name:
            _rename(graph, op.outputs[0], op.inputs, f"{_maker(name, made, taken)};{op.index}")
    return graph.pack()


def _inputs(details: Iterable[dict[str, Any]], *, channels_last: bool) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Return random values for each input by its ONNX name: as TFLite takes them, and as ONNX does."""
    random = np.random.default_rng(SEED)
    found = {}
    for detail in details:
        values = random.standard_normal(detail["shape"]).astype(np.float32)
        moved = np.moveaxis(values, -1, 1) if channels_last and values.ndim > 2 else values
        found[pairing.plain(detail["name"])] = values, moved
    return found


def _run(onnx_model: Any, inputs: Mapping[str, tuple[FloatArray, FloatArray]]) -> dict[str, _Made] | None:
    """Return what every node makes, ``None`` where the inputs are not of the kind or the shape that was drawn."""
    nodes = [(node, out) for node in onnx_model.graph.node for out in node.output if out]
    session = _session(onnx_model, [out for _, out in nodes])
    wanted = {one.name: one for one in session.get_inputs()}
    if set(wanted) != set(inputs) or not all(_fits(one, inputs[name][1]) for name, one in wanted.items()):
        return None
    values = session.run([out for _, out in nodes], {name: pair[1] for name, pair in inputs.items()})
    constants = {one.name for one in onnx_model.graph.initializer}
    made, first = dict[str, _Made](), dict[str, str]()
    for (node, out), value in zip(nodes, values, strict=True):
        source = next((i for i in node.input if i not in constants), "")
        one = _Made(node.name or out, first.get(source, source), _sorted(value))
        moved = one.source in made and _same(made[one.source].values, one.values)
        first[out] = one.source if moved else out  # A node that only moves values names no tensor.
        made[out] = made[one.source] if moved else one
    return made


def _session(onnx_model: Any, outputs: list[str]) -> Any:
    """Open the model so that it gives every node's output."""
    onnx, runtime = need("onnx", "convert-onnx"), need("onnxruntime", "convert-onnx")
    laid_open = onnx.ModelProto.FromString(onnx_model.SerializeToString())
    requested = {one.name for one in laid_open.graph.output}
    laid_open.graph.output.extend(onnx.ValueInfoProto(name=out) for out in outputs if out not in requested)
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    with called("onnxruntime", "opening the model"):
        return runtime.InferenceSession(laid_open.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _fits(wanted: Any, values: FloatArray) -> bool:
    pairs = zip(wanted.shape, values.shape, strict=False)
    same = len(wanted.shape) == values.ndim and all(a == b or not isinstance(a, int) for a, b in pairs)
    return wanted.type == "tensor(float)" and same


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


def _refuse_other_answers(tracer: Tracer, made: Mapping[str, _Made], outputs: list[str]) -> None:
    for detail in tracer.outputs:
        values = np.sort(np.ravel(tracer.real(detail)))
        offs = [distance(made[o].values, values) for o in outputs if made[o].values.size == values.size]
        if offs and np.isfinite(values).all() and min(offs) > WRONG:
            raise ConvertError(
                f"onnx2tf made another model of it: output {detail['name']} differs from onnxruntime's by "
                f"{min(offs):.2g} of its spread. Export it with a lower opset, or convert it from its framework"
            )
