"""How often a pipeline's results abstain, and how large their sets are: counts for health."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from limpet.contracts.outputs import Classification, Labels, Regression
from limpet.contracts.uncertainty import MOST_SIZES, Uncertainties

if TYPE_CHECKING:
    from collections.abc import Callable

    from limpet.contracts.data import Window
    from limpet.inference.variations import VariedModel
    from limpet.wire.records import Result

    MakeResult: TypeAlias = Callable[[Window, int], Result[Any]]

ABSTAINERS = (Classification, Regression, Labels)
"""Results that say whether the model decided."""


class Certainty:
    """Counts the results of one pipeline since they were taken last."""

    def __init__(self, variations: VariedModel | None = None) -> None:
        """``variations``: what runs the model several times for each window, if anything does."""
        self._variations = variations
        self._windows = self._abstained = 0
        self._sets: dict[int, int] = {}

    def counting(self, output: type | None, make: MakeResult) -> MakeResult:
        """Return what makes results and counts them, if results of this type say whether the model decided."""
        if output is None or not issubclass(output, ABSTAINERS):
            return make

        def counted(window: Window, decoded: int) -> Result[Any]:
            result = window.result
            if isinstance(result, ABSTAINERS):  # A stage of another package may have made anything.
                self._windows += 1
                self._abstained += result.abstained
            if isinstance(result, Classification) and result.set is not None:
                size = min(len(result.set), MOST_SIZES)
                self._sets[size] = self._sets.get(size, 0) + 1
            return make(window, decoded)

        return counted

    def take(self) -> Uncertainties | None:
        """Return the counts since the last call, ``None`` if nothing was counted."""
        if not self._windows:
            return None
        runs = 0 if self._variations is None else self._variations.take()
        taken = Uncertainties(self._windows, self._abstained, self._sets, runs)
        self._windows = self._abstained = 0
        self._sets = {}
        return taken
