"""The light model of a cascade: it answers the windows of which it is sure."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

from limpet.contracts.data import Window
from limpet.contracts.outputs import Classification
from limpet.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable

    from limpet.contracts.data import Array, FloatArray
    from limpet.contracts.savings import CascadeOptions
    from limpet.inference.plan import LightPlan
    from limpet.wire.records import Result


class LightAnswer(NamedTuple):
    """What a light model made of a window: its outputs, its result, and the probability of each class."""

    outputs: tuple[Array, ...]
    result: Any
    scores: FloatArray | None


class LightModel:
    """Runs the light model with its own stages. ``infer`` takes a window through them."""

    def __init__(self, plan: LightPlan, infer: Callable[[Window], tuple[Result[Any], Window]]) -> None:
        self._plan = plan
        self._infer = infer
        self._left_out = False
        self.failures = 0
        """Windows on which it failed. The pipeline's own model ran on them."""

    def answer(self, window: Window) -> LightAnswer | None:
        """Return its answer for a window whose transforms have run. ``None`` if it is unsure, or if it failed."""
        own = Window(
            self._values(window), window.monotonic_ns, window.wall_ns, window.ordinal, window.gap or self._left_out
        )
        own.recorded_ns = window.recorded_ns
        self._left_out = False
        try:
            _, done = self._infer(own)
        except ModelError:
            self.failures += 1
            return None
        if not is_sure(done.result, done.scores, self._plan.options):
            return None
        return LightAnswer(tuple(done.outputs), done.result, done.scores)

    def leave_out(self) -> None:
        """Take note that it does not get a window. To it, that is a gap."""
        self._left_out = True

    def _values(self, window: Window) -> Array:
        if self._plan.shared or window.samples is None:
            return window.values
        values, columns = window.samples, self._plan.columns
        return values if columns is None else values.take(columns, axis=-1)


def is_sure(result: Any, scores: FloatArray | None, options: CascadeOptions) -> bool:
    """Whether the answer of a light model can stand. One that abstained is never sure."""
    if not isinstance(result, Classification) or result.abstained:
        return False
    if options.margin is None:
        return result.set is not None and 1 <= len(result.set) <= options.largest_set
    if scores is None or len(scores) < 2:
        return False
    values = scores.tolist()
    *_, second, best = sorted(values)  # Up to a thousand classes, this is faster than numpy.
    return isfinite(sum(values)) and best - second >= options.margin
