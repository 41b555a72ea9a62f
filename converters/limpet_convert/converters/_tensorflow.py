"""What the converters for TensorFlow share: a function to a frozen graph to float TFLite."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from limpet_convert.converters import _unroll
from limpet_convert.libraries import called, need

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

INSTEAD = {
    "FFT": "compute the spectrum outside, with the transform 'spectrum' or 'mel'",
    "RFFT": "compute the spectrum outside, with the transform 'spectrum' or 'mel'",
    "Erf": "use the tanh approximation of GELU",
    "CumSum": "a fixed matrix product with a triangle of ones",
    "Unique": "do it behind the model, in a decoder",
    "Where": "tf.where with three arguments",
    "RandomStandardNormal": "take the noise out; it is for training only",
    "RandomUniform": "take the noise out; it is for training only",
}


def freeze(
    function: Callable[..., Any], shapes: Mapping[str, Sequence[int | None]], *, unroll: bool = True
) -> bytes:
    """Return a function of float32 tensors of these names and shapes as float TFLite; ``None`` stays open.

    ``unroll``: write out loops of a known number of steps, see ``_unroll``.

    Frozen first, as the converter of TensorFlow 2.21 leaves READ_VARIABLE otherwise, which no quantizer takes.
    ``ConvertError`` names ops that TFLite lacks, the layers that made them and what to write instead.
    """
    tf = need("tensorflow", "convert-tensorflow")
    constants = need("tensorflow.python.framework.convert_to_constants", "convert-tensorflow")
    specs = [tf.TensorSpec(tuple(shape), tf.float32, name) for name, shape in shapes.items()]
    with called("TensorFlow", "tracing the model"):
        concrete = tf.function(function).get_concrete_function(*specs)
        frozen = constants.convert_variables_to_constants_v2(concrete)
        if unroll:
            frozen = _without_loops(constants, concrete) or frozen
        converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
    with called(
        "TensorFlow", "converting to TFLite", explain=lambda error, _: explain(str(error), _makers(frozen))
    ):
        return bytes(converter.convert())


def _without_loops(constants: Any, concrete: Any) -> Any:
    """Return a function frozen and without its loops; ``None`` if it has none, or if one has to stay."""
    looped = constants.convert_variables_to_constants_v2(concrete, lower_control_flow=False)
    if not _unroll.loops(looped.graph.as_graph_def()):
        return None
    try:
        return _unroll.unrolled(looped)
    except _unroll.UnknownStepsError:
        return None  # Float runs as a loop. For int8 the quantizer's step says what is in its way.


def _makers(frozen: Any) -> dict[str, list[str]]:
    """Return the names of the nodes of each kind of op."""
    makers: dict[str, list[str]] = {}
    for node in frozen.graph.as_graph_def().node:
        makers.setdefault(node.op, []).append(node.name)
    return makers


def explain(text: str, makers: dict[str, list[str]]) -> str:
    """Turn the converter's text into what a person can act on, empty where it names no op of the model."""
    ops = list(dict.fromkeys(re.findall(r"tf\.([A-Z]\w+)", text)))
    found = [op for op in ops if op in makers]
    if not found:
        return ""
    parts = []
    for op in found:
        layers = ", ".join(dict.fromkeys(_layer(name) for name in makers[op]))
        parts.append(f"{op} in {layers}" + (f" ({INSTEAD[op]})" if op in INSTEAD else ""))
    return f"TFLite has no op for {'; '.join(parts)}"


def _layer(node: str) -> str:
    parts = node.split("/")
    return parts[-2] if len(parts) > 1 else node
