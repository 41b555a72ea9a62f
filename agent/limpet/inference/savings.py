"""Runs of a model that are saved: by a gate, a cache or a cascade. What stands behind the model runs as always.

The order is: gate, cache, light model, the pipeline's own model. An answer that is held or kept is decoded as if
the model had run. So a tracker or a filter behind it sees each window.
"""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING, NamedTuple

from limpet.contracts.savings import SavingCounts
from limpet.inference.gate import Gate
from limpet.inference.result_cache import ResultCache
from limpet.inference.savings_plan import own_stages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.data import Array, Window
    from limpet.contracts.runtime import Model
    from limpet.contracts.savings import Saver
    from limpet.inference.cascade import LightAnswer, LightModel
    from limpet.inference.output_stages import OutputStages
    from limpet.inference.plan import PipelinePlan, SavingsPlan


class Answer(NamedTuple):
    """Outputs of the pipeline's model, or what its light model made of a window."""

    outputs: tuple[Array, ...]
    light: LightAnswer | None = None

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        light = self.light
        scores = 0 if light is None or light.scores is None else light.scores.nbytes
        return sum(output.nbytes for output in self.outputs) + scores


class _Mean:
    """A running mean of durations in ns, 0 before the first."""

    def __init__(self) -> None:
        self.ns = 0.0

    def add(self, ns: int) -> None:
        self.ns += (ns - self.ns) / 16 if self.ns else ns


class SparedModel:
    """Runs a pipeline's model where nothing else knows the answer."""

    def __init__(
        self, plan: PipelinePlan, wanted: SavingsPlan, model: Model, stages: OutputStages, light: LightModel | None
    ) -> None:
        self._model = model
        self._stages = stages
        self._light = light
        self._own = len(own_stages(plan.postprocess))
        self._gate = Gate(wanted.gate) if wanted.gate else None
        # Variations of a window are made of its real values, so numbers that are stored alike may differ in them.
        tensors = [] if plan.test_time else model.inputs
        self._cache: ResultCache[Answer] | None = ResultCache(wanted.cache, tensors) if wanted.cache else None
        self._keeps = self._gate is not None or self._cache is not None
        self._last: Answer | None = None
        self._now = Answer(())
        self._delegate = model.delegate
        self._runs, self._answers = _Mean(), _Mean()
        used: list[tuple[Saver, object]] = [
            ("gate", self._gate), ("cache", self._cache), ("cascade", self._light),
        ]  # fmt: skip
        self.counts = {name: SavingCounts() for name, there in used if there is not None}

    def run(self, window: Window) -> Sequence[Array]:
        """Return the outputs for a window whose ``inputs`` are set. ``ModelError`` as the model."""
        if self._model.delegate != self._delegate:  # Another one gives slightly other numbers.
            self._delegate = self._model.delegate
            self._drop()
        self._now = self._held(window) or self._cached(window)
        return self._now.outputs

    def decode(self, window: Window) -> Window:
        """Take the window through the stages behind the model that gave the answer."""
        light = self._now.light
        if light is None:
            return self._stages.call(window)
        window.result, window.scores, window.light = light.result, light.scores, True
        return self._stages.finish(window, self._own)

    def forget(self) -> None:
        """Be as if newly opened, counts included."""
        self._drop()
        self.take()

    def take(self) -> dict[Saver, SavingCounts]:
        """Return what was counted since the last call."""
        taken = self.counts
        self.counts = {name: SavingCounts() for name in taken}
        return taken

    def _drop(self) -> None:
        """Keep no answer."""
        self._last = None
        if self._gate is not None:
            self._gate.forget()
        if self._cache is not None:
            self._cache.forget()

    def _held(self, window: Window) -> Answer | None:
        """Return the last answer if the input is as it was then."""
        if self._gate is None:
            return None
        began = monotonic_ns()
        held = self._last if self._last is not None and self._gate.holds(window.inputs) else None
        if held is None:
            self._gate.ran(window.inputs)
        else:
            self._leave_out()
        self._count("gate", began, spared=held is not None)
        return held

    def _cached(self, window: Window) -> Answer:
        """Return the answer of the cache, or a new one."""
        if self._cache is None:
            return self._answered(window, None)
        began = monotonic_ns()
        key = self._cache.key(window.inputs)
        found = self._cache.find(key)
        self._count("cache", began, spared=found is not None)
        if found is None:
            return self._answered(window, key)
        self._last = found
        self._leave_out()
        return found

    def _answered(self, window: Window, key: bytes | None) -> Answer:
        """Have a model run, and keep what it gives."""
        self._last = None
        began = monotonic_ns()
        answer = self._computed(window)
        self._answers.add(monotonic_ns() - began)
        if not self._keeps:
            return answer
        began = monotonic_ns()
        self._last = answer = _copied(answer)
        if self._cache is not None and key is not None:
            self._cache.keep(key, answer, answer.nbytes)
        self.counts["cache" if self._gate is None else "gate"].cost_ns += monotonic_ns() - began
        return answer

    def _computed(self, window: Window) -> Answer:
        if self._light is not None:
            began = monotonic_ns()
            light = self._light.answer(window)
            counts = self.counts["cascade"]
            counts.windows += 1
            counts.cost_ns += monotonic_ns() - began
            if light is not None:
                counts.spared += 1
                counts.saved_ns += round(self._runs.ns)
                return Answer(light.outputs, light)
        began = monotonic_ns()
        outputs = self._model.run(window.inputs)
        self._runs.add(monotonic_ns() - began)
        return Answer(tuple(outputs))

    def _count(self, saver: Saver, began: int, *, spared: bool) -> None:
        counts = self.counts[saver]
        counts.windows += 1
        counts.cost_ns += monotonic_ns() - began
        if spared:
            counts.spared += 1
            counts.saved_ns += round(self._answers.ns)

    def _leave_out(self) -> None:
        if self._light is not None:
            self._light.leave_out()


def _copied(answer: Answer) -> Answer:
    """Return an answer that stays, whatever the model does next. Stages cannot write to it."""
    outputs = tuple(output.copy() for output in answer.outputs)
    for output in outputs:
        output.flags.writeable = False
    light = answer.light
    if light is None:
        return Answer(outputs)
    scores = None if light.scores is None else light.scores.copy()
    return Answer(outputs, light._replace(outputs=outputs, scores=scores))
