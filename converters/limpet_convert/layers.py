"""Which layer of a quantized model causes its error, and why.

Three figures a layer. ``error``: how far its output is from the float model's, with all that went wrong before
it. ``effect``: how far the *model's* output moves when this layer's output alone is quantized and everything else
stays float; ``weight_effect`` the same for its weights. Error adds up along the model, so the last layer always
looks bad. Its effect on the output shows which one causes the error.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from limpet_convert.graph import Graph, Tracer, real, store
from limpet_convert.quantizable import ENDLESS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from limpet.contracts.data import Array, FloatArray
    from limpet_convert.graph import Op

FAULTY = 0.05
"""Relative movement of the output from which a layer counts as faulty. Below it, the error is rounding."""
SAMPLES, FEWER_SAMPLES = 24, 8
"""Inputs to measure with. The fewer where a model is so large that few layers could be measured with more."""
SECONDS = 15.0
"""What measuring effects may take, by an estimate: the same model has the same layers measured on any machine."""
ENOUGH, LEAST = 40, 8
"""Measurements to aim at by taking fewer inputs, and those that are made whatever they take."""
PER_OP_MADE, PER_OP_RUN, PER_PRODUCT = 2.5e-4, 2e-6, 5e-10
"""Seconds: to make a changed model, for each of its ops; to run an op; for a product in it."""
MOST_VALUES = 8192
"""Values of a tensor that are kept of each input."""
FEW_STEPS = 4.0
FEW_OF_A_PART = 16.0
"""Steps under which what is joined with larger values is called badly off."""
OUTLIER = 30.0


@dataclass
class Layer:
    """One layer's figures. ``tensor`` is its first output; ``scale`` 0 where it stays in float."""

    name: str
    kind: str
    tensor: str
    error: float = 0.0
    effect: float = 0.0
    weight_effect: float = 0.0
    scale: float = 0.0
    low: float = 0.0
    high: float = 0.0
    seen: tuple[float, float] = (0.0, 0.0)
    cause: str = ""
    why: str = ""
    measured: bool = True
    """Whether all its effects were measured. What was not measured is 0, as nothing is known of it."""

    @property
    def largest_effect(self) -> float:
        """The larger of its two effects."""
        return max(self.effect, self.weight_effect)


@dataclass
class Diagnosis:
    """``layers`` in the order in which they run. ``faulty_tensor``: of the layer that causes the error."""

    layers: list[Layer] = field(default_factory=list)
    faulty_tensor: str = ""

    @property
    def unmeasured(self) -> int:
        """How many layers' effects were not measured."""
        return sum(not layer.measured for layer in self.layers)

    @property
    def faulty_layer(self) -> Layer | None:
        """The layer that causes the error."""
        return next((layer for layer in self.layers if layer.tensor == self.faulty_tensor), None)


def distance(exact: FloatArray, other: FloatArray) -> float:
    """Return the root mean square difference relative to how far ``exact`` spreads around its mean."""
    spread = float(np.sqrt(np.mean((exact - exact.mean()) ** 2)))
    error = float(np.sqrt(np.mean((exact - other) ** 2)))
    return error / spread if spread > 0 else float(error > 0)


def diagnose(  # noqa: PLR0913, PLR0917 - two models, data, and how much to do
    model: bytes,
    quantized: bytes,
    inputs: FloatArray,
    progress: Callable[[float], object] = lambda _: None,
    parts: Sequence[Array] = (),
    seconds: float = SECONDS,
) -> Diagnosis:
    """Compare a float model with its quantized form over ``inputs`` ``(n, *shape)``, layer by layer.

    At most ``SAMPLES`` of the inputs are taken, evenly spread. Tensors are matched by name, which the quantizer
    keeps. ``parts``: which numbers of all outputs, flat and one after the other, form a part with its own scale.
    The change of each part is measured by itself, and the largest counts. The effects of a large model's layers
    are measured for some only, see ``suspects``.
    """
    graph = Graph(model)
    ops = [op for op in graph.ops if op.outputs]
    samples, most = effort(graph, seconds)
    chosen = inputs[np.unique(np.linspace(0, len(inputs) - 1, samples).round().astype(int))]
    exact, traced = Tracer(model), Tracer(quantized)
    seen, other = _all_tensors(exact, chosen), _all_tensors(traced, chosen)
    details = {d["name"]: d for d in traced._interpreter.get_tensor_details()}  # noqa: SLF001
    truth = _Truth(chosen, _outputs(exact, chosen), parts or [slice(None)])
    lossy = {op.index: weights for op in ops if (weights := _lossy_weights(graph, op, traced, details))}
    chosen_ops = suspects(_doubts(graph, ops, seen, details, lossy), most)
    layers = []
    for done, op in enumerate(ops, 1):
        layer = _layer(graph, op, seen, other, details)
        layer.measured = not ({(op.index, "tensor"), (op.index, "weights")} & chosen_ops.left)
        if (op.index, "tensor") in chosen_ops.taken:
            detail = details[layer.tensor]
            layer.effect = truth.moved(_with_tensor(graph, op.outputs[0], detail))
            if op.kind != "CONCATENATION" or not _explain_joined(graph, op, layer, seen):
                _explain(layer, seen[layer.tensor], detail)
        if (op.index, "weights") in chosen_ops.taken:
            index, values, why = lossy[op.index]
            layer.weight_effect = truth.moved(_with_weights(graph, index, values))
            if layer.weight_effect > layer.effect:
                layer.cause, layer.why = "weights", why
        layers.append(layer)
        progress(done / len(ops))
    layers = _with_inputs(graph, details, seen, truth) + layers
    outputs = {graph.names[index] for index in graph.outputs}
    return Diagnosis(layers, _faulty([a for a in layers if a.cause != "rounding" or a.tensor not in outputs]))


def effort(graph: Graph, seconds: float = SECONDS) -> tuple[int, int]:
    """Return with how many inputs, and how many times at most, effects on the output of a model are measured."""
    products = sum(_products(graph, op) for op in graph.ops)
    made, run = PER_OP_MADE * len(graph.ops), PER_OP_RUN * len(graph.ops) + PER_PRODUCT * products
    for samples in (SAMPLES, FEWER_SAMPLES):
        most = int(seconds / (made + samples * run))
        if most >= ENOUGH:
            return samples, most
    return FEWER_SAMPLES, max(most, LEAST)


def _products(graph: Graph, op: Op) -> int:
    """Return how many products of an input and a weight an op computes."""
    weights = graph.subgraph.tensors[op.inputs[1]].shape if len(op.inputs) > 1 else None
    made = graph.subgraph.tensors[op.outputs[0]].shape if op.outputs else None
    if op.kind not in _WEIGHTED or weights is None or made is None or not len(weights):
        return 0
    channels = weights[-1] if op.kind == "DEPTHWISE_CONV_2D" else weights[0]
    return int(np.prod(np.abs(made), dtype=np.int64) * np.prod(weights, dtype=np.int64) // max(channels, 1))


_WEIGHTED = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"}


@dataclass(frozen=True)
class Suspects:
    """Ops, by index, and what of them: ``taken`` to be measured, ``left`` unmeasured."""

    taken: frozenset[tuple[int, str]]
    left: frozenset[tuple[int, str]]


def suspects(doubts: dict[tuple[int, str], float], most: int) -> Suspects:
    """Choose what to measure: the largest doubts for three quarters of ``most``, and the rest evenly spread."""
    worst_first = sorted(doubts, key=lambda key: (-doubts[key], key))
    if len(doubts) <= most:
        return Suspects(frozenset(doubts), frozenset())
    first = worst_first[: most - most // 4]
    others = sorted(set(doubts) - set(first))
    spread = [others[at] for at in np.linspace(0, len(others) - 1, most // 4).round().astype(int)]
    taken = frozenset([*first, *spread])
    return Suspects(taken, frozenset(doubts) - taken)


def _doubts(
    graph: Graph,
    ops: Sequence[Op],
    seen: dict[str, FloatArray],
    details: dict[str, dict[str, Any]],
    lossy: dict[int, tuple[int, FloatArray, str]],
) -> dict[tuple[int, str], float]:
    """Return how far quantizing moves each op's output, and its weights, themselves. That takes no run."""
    found: dict[tuple[int, str], float] = {}
    for op in ops:
        name = graph.names[op.outputs[0]]
        detail = details.get(name)
        if detail is not None and detail["quantization"][0] and not op.moves and name in seen:
            found[op.index, "tensor"] = distance(seen[name], real(store(seen[name], detail), detail))
        if op.index in lossy:
            index, values, _ = lossy[op.index]
            weights = graph.constant(index)
            assert weights is not None  # As there are lossy ones.
            found[op.index, "weights"] = distance(np.asarray(weights, np.float32), values)
    return found


def _faulty(layers: Sequence[Layer]) -> str:
    """Return the first layer with at least half the largest effect: a bad range affects all layers after it."""
    worst = max((layer.largest_effect for layer in layers), default=0.0)
    if worst < FAULTY:
        return ""
    return next(layer.tensor for layer in layers if layer.largest_effect >= worst / 2)


def _all_tensors(tracer: Tracer, inputs: FloatArray) -> dict[str, FloatArray]:
    """Return every tensor's real values over the inputs, ``(n, *shape)``; large ones are thinned out."""
    found: dict[str, list[FloatArray]] = {}
    for one in inputs:
        tracer.invoke([one])
        for detail in tracer.tensors:
            found.setdefault(detail["name"], []).append(thinned(tracer.real(detail)).copy())
    return {
        name: _without_endless(np.stack(values)) for name, values in found.items() if len(values) == len(inputs)
    }


def _without_endless(values: FloatArray) -> FloatArray:
    """Return values with the lowest of the others in place of -3e38, with which a model pads before a maximum."""
    endless = np.abs(values) > ENDLESS
    return np.where(endless, values[~endless].min(), values) if endless.any() and not endless.all() else values


def thinned(values: FloatArray) -> FloatArray:
    """Return at most ``MOST_VALUES`` values, of all channels at evenly spread places; all if there are few."""
    if values.size <= MOST_VALUES:
        return values
    rows = values.reshape(-1, values.shape[-1])
    return rows[:: -(-values.size // MOST_VALUES)]


def _layer(
    graph: Graph,
    op: Op,
    seen: dict[str, FloatArray],
    other: dict[str, FloatArray],
    details: dict[str, dict[str, Any]],
) -> Layer:
    tensor = graph.names[op.outputs[0]]
    layer = Layer(graph.layer(op), op.kind, tensor)
    if tensor in seen and tensor in other and seen[tensor].shape == other[tensor].shape:
        layer.error = distance(seen[tensor], other[tensor])
        layer.seen = float(seen[tensor].min()), float(seen[tensor].max())
    _represent(layer, details.get(tensor))
    return layer


def _represent(layer: Layer, detail: dict[str, Any] | None) -> None:
    if detail is None or not detail["quantization"][0]:
        return
    limits = np.iinfo(detail["dtype"])
    ends = real(np.array([limits.min, limits.max]), detail)
    layer.scale, layer.low, layer.high = float(detail["quantization"][0]), float(ends[0]), float(ends[1])


def _with_inputs(
    graph: Graph,
    details: dict[str, dict[str, Any]],
    seen: dict[str, FloatArray],
    truth: _Truth,
) -> list[Layer]:
    """Return a layer for each input: the scale of the input itself may be what is wrong."""
    layers = []
    for index in graph.inputs:
        name = graph.names[index]
        layer = Layer("input", "INPUT", name)
        _represent(layer, details.get(name))
        if layer.scale:
            layer.effect = truth.moved(_with_tensor(graph, index, details[name]))
            layer.seen = float(seen[name].min()), float(seen[name].max())
            _explain(layer, seen[name], details[name])
        layers.append(layer)
    return layers


@dataclass(frozen=True)
class _Truth:
    """What the float model makes of ``inputs``: ``outputs`` ``(n, numbers)``, and ``parts`` of the numbers."""

    inputs: FloatArray
    outputs: FloatArray
    parts: Sequence[Array | slice]

    def moved(self, model: bytes) -> float:
        """Return how far a model's outputs are from these: the part that moved most."""
        found = _outputs(Tracer(model), self.inputs)
        return max(distance(self.outputs[:, part], found[:, part]) for part in self.parts)


def _outputs(tracer: Tracer, inputs: FloatArray) -> FloatArray:
    return np.stack([np.concatenate([np.ravel(output) for output in tracer(one)]) for one in inputs])


def _with_tensor(graph: Graph, tensor: int, detail: dict[str, Any]) -> bytes:
    """Return the float model with one tensor quantized and dequantized where it is made."""
    changed = copy.copy(graph)
    schema = graph.schema
    kept = graph.model
    changed.model = copy.copy(kept)
    changed.model.subgraphs = [copy.copy(kept.subgraphs[0]), *kept.subgraphs[1:]]
    changed.model.signatureDefs = None
    changed.model.operatorCodes = list(kept.operatorCodes)
    part = changed.subgraph
    part.tensors, part.operators = list(part.tensors), [copy.copy(op) for op in part.operators]
    stored, again = len(part.tensors), len(part.tensors) + 1
    original = part.tensors[tensor]
    part.tensors += [_tensor(schema, original, detail), _tensor(schema, original, None)]
    for op in part.operators:
        op.inputs = np.array([again if i == tensor else i for i in _list(op.inputs)], np.int32)
    part.outputs = np.array([again if i == tensor else i for i in _list(part.outputs)], np.int32)
    made_by = [i for i, op in enumerate(part.operators) if tensor in _list(op.outputs)]
    at = made_by[0] + 1 if made_by else 0
    part.operators[at:at] = [
        _operator(changed.model, schema, "QUANTIZE", tensor, stored),
        _operator(changed.model, schema, "DEQUANTIZE", stored, again),
    ]
    return changed.pack()


def _list(values: Any) -> list[int]:
    return [] if values is None else [int(v) for v in values]


def _tensor(schema: Any, like: Any, detail: dict[str, Any] | None) -> Any:
    made = copy.copy(like)
    made.name = (like.name or b"") + (b"_stored" if detail else b"_again")
    made.quantization = None
    made.buffer = 0
    if detail:
        made.type = getattr(schema.TensorType, np.dtype(detail["dtype"]).name.upper())
        made.quantization = schema.QuantizationParametersT()
        scale, zero = detail["quantization"]
        made.quantization.scale = np.array([scale], np.float32)
        made.quantization.zeroPoint = np.array([zero], np.int64)
    return made


def _operator(model: Any, schema: Any, kind: str, taken: int, made: int) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, kind)
    code.version = 2
    model.operatorCodes.append(code)
    op = schema.OperatorT()
    op.opcodeIndex = len(model.operatorCodes) - 1
    op.inputs, op.outputs = np.array([taken], np.int32), np.array([made], np.int32)
    return op


def _lossy_weights(
    graph: Graph, op: Op, traced: Tracer, details: dict[str, dict[str, Any]]
) -> tuple[int, FloatArray, str] | None:
    """Return an op's weights as quantization leaves them, which tensor they are, and what is lost in them."""
    index = op.inputs[1] if len(op.inputs) > 1 else -1
    weights, detail = (graph.constant(index), details.get(graph.names[index])) if index >= 0 else (None, None)
    if weights is None or detail is None or weights.dtype != np.float32 or detail["dtype"] is not np.int8:
        return None
    lossy = _dequantized(traced._interpreter.get_tensor(detail["index"]), detail)  # noqa: SLF001
    if lossy.shape != weights.shape:
        return None
    lost = float(np.mean((lossy == 0) & (weights != 0)))
    return index, lossy, f"weights: {lost:.1%} become 0, far smaller than others of the same output channel"


def _dequantized(stored: Array, detail: dict[str, Any]) -> FloatArray:
    parameters = detail["quantization_parameters"]
    along = [1] * stored.ndim
    if len(parameters["scales"]) > 1:
        along[parameters["quantized_dimension"]] = -1
    scales, zeros = parameters["scales"].reshape(along), parameters["zero_points"].reshape(along)
    return np.asarray((stored.astype(np.float32) - zeros) * scales, np.float32)


def _with_weights(graph: Graph, tensor: int, values: FloatArray) -> bytes:
    changed = copy.copy(graph)
    changed.model = copy.copy(graph.model)
    changed.model.buffers = list(graph.model.buffers)
    place = graph.subgraph.tensors[tensor].buffer
    buffer = copy.copy(graph.model.buffers[place])
    buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
    changed.model.buffers[place] = buffer
    return changed.pack()


def _explain_joined(graph: Graph, op: Op, layer: Layer, seen: dict[str, FloatArray]) -> bool:
    """Say so, and return true, where a concatenation puts what is small and what is large on one scale."""
    reach = {name: float(np.abs(seen[name]).max()) for name in (graph.names[i] for i in op.inputs) if name in seen}
    if not reach or min(reach.values()) > FEW_OF_A_PART * layer.scale:
        return False
    by_reach = sorted(reach, key=lambda name: reach[name])
    made_by = {graph.names[made.outputs[0]]: graph.layer(made) for made in graph.ops if made.outputs}
    large, small = (
        f"`{made_by.get(name, name)}` ({seen[name].min():.4g} to {seen[name].max():.4g})"
        for name in (by_reach[-1], by_reach[0])
    )
    layer.cause = "shared"
    layer.why = (
        f"shared scale: {large} and {small} are joined in one tensor and share its scale. Its step of "
        f"{layer.scale:.4g} leaves {reach[by_reach[0]] / layer.scale:.1f} steps for the second. Bring both to one "
        "range (boxes of a detector to fractions of the picture), or give each its own output. Or keep this "
        'layer in int16 or float (variant = "mixed")'
    )
    return True


def _explain(layer: Layer, values: FloatArray, detail: dict[str, Any]) -> None:
    """Say why a layer's output is badly represented: clipped, channel, outlier or mere rounding."""
    step = layer.scale
    outside = (values < layer.low - step) | (values > layer.high + step)
    clipped = float(np.mean((np.clip(values, layer.low, layer.high) - values) ** 2))
    if outside.any() and clipped > step**2 / 12:
        layer.cause = "clipped"
        layer.why = (
            f"clipped range: {outside.mean():.2%} of its values are outside {layer.low:.4g} to {layer.high:.4g}; "
            f"seen {layer.seen[0]:.4g} to {layer.seen[1]:.4g}: calibrate with data that reach there"
        )
        return
    reach = np.abs(values).reshape(-1, values.shape[-1]).max(axis=0)
    top, half = float(reach.max()), float(np.median(reach))
    if len(reach) > 1 and top > OUTLIER * half and half < FEW_STEPS * step:
        layer.cause = "channel"
        layer.why = (
            f"rare channel: channel {int(reach.argmax())} reaches {top:.4g} while half of the {len(reach)} "
            f"channels stay below {half:.4g}, which is {half / step:.1f} steps of {step:.4g}. Rescale it, "
            "or keep the layer in int16 or float"
        )
        return
    usual = float(np.quantile(np.abs(values), 0.99))
    if layer.high - layer.low > OUTLIER * usual:
        layer.cause = "outlier"
        layer.why = (
            f"saturated scale: 99 % of its values stay below {usual:.4g}, but the range goes from {layer.low:.4g} "
            f"to {layer.high:.4g}. {usual / step:.1f} steps are left for them. Use the percentile or mse observer"
        )
        return
    bits = 8 * np.dtype(detail["dtype"]).itemsize
    layer.cause, layer.why = "rounding", f"nothing but the rounding of {bits} bits, step {step:.4g}"
