"""Whether a model's input has changed since the model ran last."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.data import Array
    from limpet.contracts.savings import GateOptions


class Gate:
    """Compares inputs with those of the model's last run, so that slow changes add up until they count."""

    def __init__(self, options: GateOptions) -> None:
        self._options = options
        self._inputs: list[Array] = []
        self._held = 0

    def holds(self, inputs: Sequence[Array]) -> bool:
        """Whether the outputs of the last run stand for these inputs. NaN is a change."""
        if self._held >= self._options.longest or len(inputs) != len(self._inputs):
            return False
        options = self._options
        for values, before in zip(inputs, self._inputs, strict=True):
            if values.shape != before.shape or values.dtype != before.dtype:
                return False
            alike = int(np.count_nonzero(difference(values, before) <= options.tolerance))
            if values.size - alike > options.share * values.size:
                return False
        self._held += 1
        return True

    def ran(self, inputs: Sequence[Array]) -> None:
        """Take note of the inputs of a run."""
        self._held = 0
        if [values.shape for values in inputs] != [values.shape for values in self._inputs]:
            self._inputs = [values.copy() for values in inputs]
            return
        for n, values in enumerate(inputs):
            if values.dtype != self._inputs[n].dtype:
                self._inputs[n] = values.copy()
            else:
                self._inputs[n][...] = values

    def forget(self) -> None:
        """Let the model run on the next window."""
        self._inputs = []
        self._held = 0


def difference(values: Array, before: Array) -> Array:
    """Return by how much values differ, never below 0. Integers do not wrap around."""
    apart: Array
    if values.dtype.kind == "b":
        apart = values ^ before
    elif values.dtype.kind in "ui":
        apart = np.maximum(values, before) - np.minimum(values, before)
        apart = apart.view(f"u{values.dtype.itemsize}")
    else:
        apart = np.abs(values - before)
    return apart
