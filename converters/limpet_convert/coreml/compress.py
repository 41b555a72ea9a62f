"""Smaller weights and integer activations, by coremltools' own passes.

coremltools (9.0) measures the ranges of activations with Core ML, on macOS only, and keeps those of the last
sample alone. Here the numpy executor measures them, over all samples.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from limpet_convert import mil
from limpet_convert.coreml import package
from limpet_convert.errors import ConvertError
from limpet_convert.libraries import need

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from limpet.contracts.data import Array

Ranges: TypeAlias = "dict[str, dict[str, float]]"
"""Least and largest value, ``rmin`` and ``rmax``, of each variable of a program."""

_LEAST = 256
"""Elements from which a weight is worth compressing."""


def int8_weights(model: Any) -> Any:
    """Return the model with int8 weights, a symmetric scale a channel."""
    optimize = need("coremltools", "coreml").optimize.coreml
    config = optimize.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=_LEAST)
    return optimize.linear_quantize_weights(model, optimize.OptimizationConfig(global_config=config))


def palettized_weights(model: Any, bits: int) -> Any:
    """Return the model with weights that are indices of ``bits`` bits into a table found by k-means."""
    need("sklearn")
    optimize = need("coremltools", "coreml").optimize.coreml
    config = optimize.OpPalettizerConfig(mode="kmeans", nbits=bits, weight_threshold=_LEAST)
    return optimize.palettize_weights(model, optimize.OptimizationConfig(global_config=config))


def int8_activations(model: Any, samples: Sequence[Sequence[Array]]) -> Any:
    """Return the model with int8 between its layers, calibrated by the extremes over all ``samples``."""
    if not samples:
        raise ConvertError("w8a8 needs calibration samples; give [data] calibration in convert.toml")
    coremltools = need("coremltools", "coreml")
    from coremltools.converters.mil.mil.passes.graph_pass import PassOption
    from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY
    from coremltools.models.utils import _apply_graph_pass

    optimize = coremltools.optimize.coreml
    config = optimize.OptimizationConfig(global_config=optimize.OpLinearQuantizerConfig(mode="linear_symmetric"))
    found = ranges(model, samples)
    passes = []
    for name in ("insert_prefix_quantize_dequantize_pair", "insert_suffix_quantize_dequantize_pair"):
        one = PASS_REGISTRY[f"compression::{name}"]
        one.set_options([PassOption("config", config), PassOption("activation_stats", found)])
        passes.append(one)
    passes.append(PASS_REGISTRY["common::dequantize_quantize_pair_elimination"])
    version = coremltools.target.iOS17.value
    return _apply_graph_pass(model, passes, spec_version=version, skip_model_load=True)


def ranges(model: Any, samples: Sequence[Sequence[Array]]) -> Ranges:
    """Return the range of every variable over the samples, what is concatenated having one range together.

    ``ConvertError`` where a sample makes something that is not finite.
    """
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "float.mlpackage"
        package.save(model, path)
        program = mil.Program(path)
        found: Ranges = {}
        for number, sample in enumerate(samples):
            for spec, values in zip(program.inputs, sample, strict=True):
                _widen(found, spec.name, values, number)
            for step in program.trace(sample):
                _widen(found, step.name, step.output, number)
        _unite(found, program.concatenations())
    return found


def _widen(found: Ranges, name: str, values: Array, number: int) -> None:
    if values.dtype.kind not in "fiu" or not values.size:
        return
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise ConvertError(f"calibration sample {number}: {name!r} becomes {low} to {high}; correct the sample")
    known = found.setdefault(name, {"rmin": low, "rmax": high})
    known["rmin"], known["rmax"] = min(known["rmin"], low), max(known["rmax"], high)


def _unite(found: Ranges, groups: Iterable[Sequence[str]]) -> None:
    """Give what goes into one concatenation, and what comes out, one scale: hardware need not rescale then."""
    for names in groups:
        members = [found[name] for name in names if name in found]
        low, high = min(m["rmin"] for m in members), max(m["rmax"] for m in members)
        for member in members:
            member["rmin"], member["rmax"] = low, high
