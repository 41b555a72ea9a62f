"""Whether a decoder can read what a model gives, as far as its manifest says what that is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from limpet.contracts.data import TensorSpec, Window
from limpet.inference.input_fit import TENSOR_TYPES, narrowed, windowed_columns
from limpet.inference.output_stages import OutputStages
from limpet.inference.stages import after_model, decode_once

if TYPE_CHECKING:
    from limpet.contracts.data import Array
    from limpet.contracts.fields import TensorInfo
    from limpet.inference.plan import PipelinePlan

_LARGEST = 1 << 24
"""Numbers in a tensor with which a decoder is tried at most."""


def check_decoder(plan: PipelinePlan) -> None:
    """Refuse outputs that the decoder cannot read with ``ModelError``, as far as the manifest has their shapes.

    The decoder is tried on zeros: what it refuses then it would refuse of every window.
    """
    handed_back = {one.state for one in plan.inputs}
    there = [tensor for tensor in plan.bundle.manifest.outputs if tensor.name not in handed_back]
    described = [_tensor_spec(tensor) for tensor in there]
    specs = [spec for spec in described if spec is not None and _is_closed(spec.shape)]
    if not specs or len(specs) < len(described):
        return
    features = plan.transforms.spec
    channels = plan.spec.channels, tuple(plan.beside)
    stages = OutputStages(plan, after_model(features, specs, plan.bundle.labels, None, channels))
    if _is_closed((1, *features.shape)):
        shapes = [narrowed(features.shape, chosen) for _, chosen in windowed_columns(plan)] or [features.shape]
        inputs = [np.zeros(shape, np.float32) for shape in shapes]
        outputs = [_zeros(spec) for spec in specs]
        decode_once(plan.decoder, stages.decoder, Window(outputs[0], 0, 0, 0, inputs=inputs, outputs=outputs))


def _tensor_spec(tensor: TensorInfo) -> TensorSpec | None:
    """Return a manifest's description of a tensor, ``None`` where its type is not known."""
    if tensor.dtype not in TENSOR_TYPES:
        return None
    dtype = np.dtype("S" if tensor.dtype == "string" else tensor.dtype)
    return TensorSpec(tensor.name, tuple(tensor.shape), dtype, tuple(tensor.scale), tuple(tensor.zero_point))


def _is_closed(shape: tuple[int, ...]) -> bool:
    """Whether all but the first size are known. A manifest may say anything."""
    return bool(shape) and shape[0] >= -1 and min(shape[1:], default=1) >= 1 and math.prod(shape[1:]) <= _LARGEST


def _zeros(spec: TensorSpec) -> Array:
    """Return an output as a runtime gives it: real values where it is quantized."""
    dtype = np.dtype(np.float32) if spec.quantized else spec.dtype
    return np.zeros([1 if size == -1 else size for size in spec.shape], dtype)
