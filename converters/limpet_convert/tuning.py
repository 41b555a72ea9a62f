"""Which variant suits a target: all are measured, and those kept that none beats in size, time and loss."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from limpet_convert import runners
from limpet_convert.errors import need

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from limpet.types import FloatArray

INVOCATIONS = 200
SHORTEST = 0.5


@dataclass(frozen=True)
class Candidate:
    """A variant: bytes, points of the metric lost, median microseconds of one invocation here."""

    name: str
    size: int
    loss: float
    microseconds: float

    def beats(self, other: Candidate) -> bool:
        """Whether it is nowhere worse and somewhere better."""
        mine, theirs = self._figures(), other._figures()
        return mine != theirs and all(a <= b for a, b in zip(mine, theirs, strict=True))

    def _figures(self) -> tuple[float, float, float]:
        return self.size, max(self.loss, 0.0), self.microseconds


@dataclass(frozen=True)
class Target:
    """What is asked for; ``None`` for anything."""

    size: int | None = None
    loss: float | None = None
    microseconds: float | None = None

    def met(self, one: Candidate) -> bool:
        """Whether a candidate keeps all of it."""
        pairs = ((one.size, self.size), (one.loss, self.loss), (one.microseconds, self.microseconds))
        return all(limit is None or value <= limit for value, limit in pairs)


def front(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the Pareto front, smallest first."""
    best = [one for one in candidates if not any(other.beats(one) for other in candidates)]
    return sorted(best, key=lambda one: one.size)


def median_microseconds(path: Path, inputs: FloatArray) -> float:
    """Return the median time of one run over ``inputs`` in turn, of this machine."""
    runner = runners.open_model(path)
    runner.run([inputs[0]])
    taken: list[float] = []
    until = time.perf_counter() + SHORTEST
    while len(taken) < INVOCATIONS or time.perf_counter() < until:
        one = [inputs[len(taken) % len(inputs)]]
        begin = time.perf_counter()
        runner.run(one)
        taken.append(time.perf_counter() - begin)
    return float(np.median(taken)) * 1e6


def plot(path: Path, candidates: Sequence[Candidate], best: Sequence[Candidate], metric: str) -> None:
    """Draw size against loss, time as the colour, the front as a line."""
    figure = need("matplotlib.figure").Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    dots = axes.scatter(
        [c.size / 1000 for c in candidates],
        [c.loss for c in candidates],
        c=[c.microseconds for c in candidates],
        s=80,
    )
    figure.colorbar(dots, label="median time of one run, µs")
    axes.step([c.size / 1000 for c in best], [c.loss for c in best], color="grey", linewidth=0.8)
    for one in candidates:
        axes.annotate(one.name, (one.size / 1000, one.loss), (7, 4), textcoords="offset points", fontsize=8)
    axes.set(xlabel="size, kB", ylabel=f"{metric} lost, points")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110, metadata={"Software": None})
