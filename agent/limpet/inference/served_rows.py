"""Several windows of clients in one run, for a small model whose file leaves the batch open.

One run of many windows saves the calls around it. It does not save computing: of a network of convolutions, each
window of a batch takes as long as one alone. So a batch is used only where it was measured to be faster.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from limpet.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from limpet.contracts.data import Array
    from limpet.contracts.runtime import Storing

SIZE = 8
"""Windows in a run. Those that are missing are computed all the same."""
SMALL = 1 << 18
"""Bytes of a model file beyond which a second copy of its weights costs more than it saves."""
_TRIES = 3


class Rows:
    """A copy of a model that takes ``SIZE`` windows. ``open_model`` makes it when it may first be used."""

    def __init__(self, open_model: Callable[[int], Storing]) -> None:
        self._open_model = open_model
        self._model: Storing | None = None
        self._refused = False
        self._seconds = 0.0
        self._inputs: dict[tuple[np.dtype[Any], ...], list[Array]] = {}

    def pays(self, rows: int, one: float) -> bool:
        """Whether a run of so many windows takes less time than one after the other, ``one`` seconds each."""
        if rows < 2 or self._refused:
            return False
        if self._model is None:
            try:
                self._model = self._opened()
            except ModelError:
                self._refused = True
                return False
        return rows * one > self._seconds

    def run(self, rows: Sequence[Sequence[Array]], *, real: bool) -> Sequence[Array]:
        """Run windows, at most ``SIZE``, each given by its inputs with a batch of one. Return outputs of ``SIZE``.

        The inputs of all windows have the same dtypes. ``ModelError``.
        """
        assert self._model is not None
        staged = self._staged(tuple(values.dtype for values in rows[0]))
        for n, row in enumerate(rows):
            for target, values in zip(staged, row, strict=True):
                target[n : n + 1] = values
        return self._model.run_stored(staged, real=real)

    def _staged(self, dtypes: tuple[np.dtype[Any], ...]) -> list[Array]:
        assert self._model is not None
        if dtypes not in self._inputs:
            pairs = zip(dtypes, self._model.inputs, strict=True)
            self._inputs[dtypes] = [np.zeros(spec.shape, dtype) for dtype, spec in pairs]
        return self._inputs[dtypes]

    def _opened(self) -> Storing:
        model = self._open_model(SIZE)
        if any(spec.shape[:1] != (SIZE,) for spec in (*model.inputs, *model.outputs)):
            raise ModelError("its inputs and outputs do not have the batch first")
        zeros = [np.zeros(spec.shape, spec.dtype) for spec in model.inputs]
        took = []
        for _ in range(_TRIES):
            begin = perf_counter()
            model.run_stored(zeros, real=False)
            took.append(perf_counter() - begin)
        self._seconds = min(took)
        return model
