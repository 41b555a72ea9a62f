"""A model that also runs on variations of each window, and gives the mean of its outputs.

One answer to a window depends on chance: on noise, and on when the window began. The mean of several does less so,
and it is less sure where they differ. Variations are made without chance: the same window has the same answer.
"""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING

import numpy as np

from limpet.contracts.outputs import Regression
from limpet.errors import ModelError
from limpet.inference.window import windows_a_second

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.data import Array, FloatArray
    from limpet.contracts.runtime import Model
    from limpet.contracts.uncertainty import VariationOptions
    from limpet.inference.plan import PipelinePlan


def varied(plan: PipelinePlan, model: Model) -> VariedModel | None:
    """Return a model that runs on variations, ``None`` if none are wanted. ``ModelError`` if it does not suit."""
    wanted = plan.test_time
    if wanted is None:
        return None
    refuse_unsuited(plan)
    whole = [one.name for one in model.outputs if not one.quantized and one.dtype.kind != "f"]
    if whole:
        raise ModelError(f"test_time: output {whole[0]!r} has whole numbers, which have no mean; remove test_time")
    rate = windows_a_second(plan.window, plan.spec)
    period = plan.every / rate if rate and plan.spec.live else None
    return VariedModel(model, wanted, None if period is None else wanted.share * period)


def refuse_unsuited(plan: PipelinePlan) -> None:
    """Raise ``ModelError`` if the mean of a model's outputs has no meaning."""
    if plan.test_time is None:
        return
    able = plan.decoder.abilities
    if not able.scores and able.output is not Regression:
        raise ModelError(
            f"test_time: the decoder {plan.decoder.kind!r} gives neither scores of labels nor quantities, so its "
            "outputs have no mean; remove test_time"
        )
    if plan.state or plan.runtime.abilities.learns:
        raise ModelError("test_time: the model remembers earlier windows; remove test_time")
    shape = plan.transforms.spec.shape
    if plan.test_time.flip and len(shape) < 3:
        raise ModelError(f"test_time: flip is for pictures, and windows have shape {list(shape)}; remove flip")


class VariedModel:
    """A ``Model`` around another. Its outputs are means, float32. ``budget``: seconds for the runs of a window."""

    def __init__(self, model: Model, wanted: VariationOptions, budget: float | None) -> None:
        self.inputs, self.outputs = model.inputs, model.outputs
        self._model = model
        self._wanted = wanted
        self._budget_ns = None if budget is None else budget * 1e9
        self._run_ns = 0.0
        self._noise: dict[tuple[int, ...], FloatArray] = {}
        self._runs = 0

    @property
    def delegate(self) -> str:
        """The delegate in use."""
        return self._model.delegate

    @property
    def delegate_share(self) -> float:
        """Share of the ops that are on it."""
        return self._model.delegate_share

    def run(self, inputs: Sequence[Array]) -> Sequence[Array]:
        """Run on the window and on as many variations as the budget allows. ``ModelError`` as the model."""
        began = monotonic_ns()
        sums = [np.array(output, np.float32) for output in self._model.run(inputs)]
        count = self._count()
        for number in range(1, count):
            outputs = self._model.run([self._vary(values, number) for values in inputs])
            for total, output in zip(sums, outputs, strict=True):
                np.add(total, output, total)
        spent = (monotonic_ns() - began) / count
        self._run_ns += (spent - self._run_ns) / 16 if self._run_ns else spent
        self._runs += count
        return [total / np.float32(count) for total in sums]

    def reset(self) -> None:
        """Do nothing: such a model has no state."""

    def absorb(self, byte_values: FloatArray) -> bool:
        """Let the model take bytes."""
        return self._model.absorb(byte_values)

    def take(self) -> int:
        """Return how many runs there were since the last call."""
        taken, self._runs = self._runs, 0
        return taken

    def _count(self) -> int:
        """Return how many runs a window gets. The first windows show how long one takes."""
        if self._budget_ns is None:
            return self._wanted.runs
        if not self._run_ns:
            return 1
        return max(1, min(self._wanted.runs, int(self._budget_ns / self._run_ns)))

    def _vary(self, values: Array, number: int) -> Array:
        """Return a variation of a window. ``number`` counts from 1; every second one is the other way round."""
        wanted, sign = self._wanted, 1 if number % 2 else -1
        size = (number + 1) // 2 / (wanted.runs // 2)  # Of the largest change, 0 to 1.
        varied = values
        if wanted.flip and number % 2:
            varied = np.flip(varied, -2 if varied.shape[-1] in _COLOURS else -1)
        if wanted.shift:
            varied = np.roll(varied, sign * max(1, round(size * wanted.shift)), axis=_time(varied))
        if not (wanted.gain or wanted.noise):
            return np.ascontiguousarray(varied)
        changed = varied.astype(np.float32) * np.float32(1 + sign * size * wanted.gain)
        if wanted.noise:
            changed += np.float32(wanted.noise * float(varied.std())) * self._drawn(varied.shape, number)
        if values.dtype.kind in "iu":
            limits = np.iinfo(values.dtype)
            return changed.round().clip(limits.min, limits.max).astype(values.dtype)
        return changed.astype(values.dtype, copy=False)

    def _drawn(self, shape: tuple[int, ...], number: int) -> FloatArray:
        """Return noise of a standard deviation of 1, the same for each window."""
        found = self._noise.get((number, *shape))
        if found is None:
            drawn = np.random.default_rng(number).standard_normal(shape, np.float32)
            found = self._noise.setdefault((number, *shape), drawn)
        return found


_COLOURS = {1, 3, 4}


def _time(values: Array) -> int:
    """Return the axis of the rows: the first one that is not a batch of one window."""
    return 1 if values.ndim > 2 and values.shape[0] == 1 else 0
