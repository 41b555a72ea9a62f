"""Golden vectors: inputs with the outputs that the model's maker saw, to be seen again on this device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from limpet.errors import DeployError, UnreadableError
from limpet.untrusted import reading

if TYPE_CHECKING:
    from collections.abc import Mapping

    from limpet.contracts.data import Array
    from limpet.contracts.runtime import Model
    from limpet.models.bundle import Bundle


def check_golden(bundle: Bundle, model: Model, *, alone: bool = False) -> float:
    """Run the bundle's golden vectors and return the largest absolute difference of real values.

    It is infinite if the model gives NaN that is not expected. The model is reset before and after. ``alone``: it
    is reset before every vector, like a model whose state is cleared before each window. ``DeployError`` if the
    bundle has no vectors or they do not fit this model, ``ModelError`` if the model fails.
    """
    inputs, expected = _vectors(bundle, model)
    model.reset()
    worst = 0.0
    for i in range(len(inputs[0])):
        if alone and i:
            model.reset()
        outputs = model.run([vectors[i] for vectors in inputs])
        worst = max(worst, *(_difference(*pair) for pair in zip(outputs, (e[i] for e in expected), strict=True)))
    model.reset()
    return worst


def _vectors(bundle: Bundle, model: Model) -> tuple[list[Array], list[Array]]:
    """Return the inputs and the outputs in order, each with a leading axis that counts the vectors."""
    name = bundle.manifest.name
    if bundle.golden is None:
        raise DeployError(f"{name} has no golden vectors")
    try:
        with reading("the file"), bundle.golden.open("rb") as opened, np.load(opened) as file:
            inputs = _arrays(file, "input", len(model.inputs))
            outputs = _arrays(file, "output", len(model.outputs))
    except UnreadableError as error:
        raise DeployError(f"{name}: its golden vectors cannot be used: {error}") from error
    if len({len(array) for array in (*inputs, *outputs)}) != 1 or not len(inputs[0]):
        raise DeployError(f"{name}: its golden vectors are none, or not as many for each tensor")
    return inputs, outputs


def _arrays(file: Mapping[str, Array], kind: str, count: int) -> list[Array]:
    return [file[f"{kind}_{i}"] for i in range(count)]


def _difference(output: Array, expected: Array) -> float:
    if output.size != expected.size:
        raise DeployError(f"golden output has shape {list(expected.shape)}, the model's {list(output.shape)}")
    difference = np.abs(output.reshape(expected.shape).astype(np.float64) - expected)
    return float(np.nan_to_num(difference, nan=np.inf).max(initial=0.0))
