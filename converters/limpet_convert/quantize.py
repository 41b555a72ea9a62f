"""Float ``.tflite`` to float16, dynamic range, int8, int16 activations or a mixture, without TensorFlow.

Weights are quantized per channel. Ranges of activations come from ``limpet_convert.observers``, never from the
quantizer's own calibration.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from limpet_convert import quantizable
from limpet_convert.graph import Graph, layers_of
from limpet_convert.libraries import called, need

if TYPE_CHECKING:
    from collections.abc import Mapping

    from limpet_convert.observers import Range
    from limpet_convert.project import Variant

Precision: TypeAlias = Literal["int16", "float"]
STATIC: dict[Variant, int] = {"int8": 8, "int16x8": 16, "mixed": 8}
"""Bits of the activations of the variants that need calibration."""


def quantize(
    model: bytes,
    variant: Variant,
    ranges: Mapping[str, Range] | None = None,
    kept: Mapping[str, Precision] | None = None,
) -> bytes:
    """Return the float model in another variant.

    ``kept`` names ops by their first output tensor that stay at a higher precision in ``mixed``. ``ConvertError``
    where the quantizer refuses, with what it says.
    """
    if variant == "float":
        return model
    if variant in STATIC:
        model, ranges = quantizable.finite(quantizable.prepared(model, variant), ranges or {})
    quantizer = need("litert_quantizer.quantizer")
    with called("litert-quantizer", f"{variant}: quantizing the model", layers_of(model)):
        made = quantizer.Quantizer(model)
        if variant == "float16":
            _float16(made)
        elif variant == "dynamic":
            made.add_dynamic_config(".*", "*", 8)
        else:
            _static(made, STATIC[variant], kept or {})
        calibration = _statistics(ranges or {}) if variant in STATIC else None
        result = made.quantize(calibration, enable_progress_bar=False, enable_progress_report=False)
    return quantizable.completed(bytes(result.quantized_model))


def _float16(made: Any) -> None:
    types = need("litert_quantizer.qtyping")
    weights = types.TensorQuantizationConfig(num_bits=16, dtype=types.TensorDataType.FLOAT)
    config = types.OpQuantizationConfig(
        weight_tensor_config=weights, compute_precision=types.ComputePrecision.FLOAT
    )
    algorithm = need("litert_quantizer.quantizer").AlgorithmName.FLOAT_CASTING
    made.update_quantization_recipe(".*", "*", config, algorithm_key=algorithm)


def _static(made: Any, bits: int, kept: Mapping[str, Precision]) -> None:
    _statically(made, ".*", bits)
    nothing = need("litert_quantizer.quantizer").AlgorithmName.NO_QUANTIZE
    for name, precision in kept.items():
        exactly = f"^{re.escape(name)};$"
        if precision == "float":
            made.update_quantization_recipe(exactly, "*", algorithm_key=nothing)
        else:
            _statically(made, exactly, 16)


def _statically(made: Any, layers: str, bits: int) -> None:
    """Quantize layers, with a scale for each channel of their weights: a product of matrices reads one alone."""
    types = need("litert_quantizer.qtyping")
    product = types.TFLOperationName.BATCH_MATMUL
    made.add_static_config(layers, "*", bits, 8)
    made.add_static_config(layers, product, bits, 8, types.QuantGranularity.TENSORWISE)


def _statistics(ranges: Mapping[str, Range]) -> dict[str, dict[str, Any]]:
    return {name: {"min": np.array([r.low]), "max": np.array([r.high])} for name, r in ranges.items()}


def left_in_float(model: bytes) -> list[str]:
    """Return the layers of a model that compute in float, with their op, as ``head (SOFTMAX)``."""
    graph = Graph(model)
    float32 = graph.schema.TensorType.FLOAT32
    found = [
        f"{graph.layer(op)} ({op.kind})"
        for op in graph.ops
        if op.kind not in {"QUANTIZE", "DEQUANTIZE"}
        and any(graph.subgraph.tensors[i].type == float32 for i in op.outputs)
    ]
    return list(dict.fromkeys(found))
