"""ML programs made by hand, and a gate for what only the extra ``coreml`` brings."""

from __future__ import annotations

import copy
import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from limpet.contracts.data import Array

logging.getLogger("coremltools").setLevel(logging.ERROR)  # on Linux it warns of each part that it lacks
coremltools = pytest.importorskip("coremltools", reason="needs the environment of `make parity`")

TARGETS = {"13": "iOS16", "14": "iOS17", "15": "iOS18"}


def builder() -> Any:
    from coremltools.converters.mil import Builder

    return Builder


def package(path: Path, build: Callable[..., Any], inputs: dict[str, Array], macos: str = "13") -> Path:
    """Write the ML program that ``build`` makes of its inputs, unoptimized and in float32."""
    target = getattr(coremltools.target, TARGETS[macos])
    specs = [builder().TensorSpec(shape=values.shape) for values in inputs.values()]
    program = builder().program(input_specs=specs, opset_version=target)(_named(build, list(inputs)))
    model = coremltools.convert(
        program,
        convert_to="mlprogram",
        minimum_deployment_target=target,
        compute_precision=coremltools.precision.FLOAT32,
        pass_pipeline=coremltools.PassPipeline.EMPTY,
        skip_model_load=True,
    )
    model.save(str(path))
    return path


def inferred(op: str, macos: str = "13", **given: Any) -> list[Array]:
    """Return what coremltools itself computes for an op whose inputs are all constants."""
    found: list[Array] = []

    def build(_: Any) -> Any:
        results = getattr(builder(), op)(**copy.deepcopy(given))  # some change their inputs
        for result in results if isinstance(results, (tuple, list)) else [results]:
            assert result.val is not None, f"coremltools does not compute {op}"
            found.append(np.asarray(result.val))
        return builder().identity(x=0.0)

    target = getattr(coremltools.target, TARGETS[macos])
    builder().program(input_specs=[builder().TensorSpec(shape=(1,))], opset_version=target)(build)
    return found


def _named(build: Callable[..., Any], names: list[str]) -> Any:
    """Return ``build`` with as many parameters, by these names, as the program has inputs."""
    return eval(f"lambda {', '.join(names)}: build({', '.join(names)})", {"build": build})  # noqa: S307
