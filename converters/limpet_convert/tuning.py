"""Which variant suits a target: the Pareto front of size, time and loss of all variants."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from limpet_convert import runners
from limpet_convert.graph import RUNTIME
from limpet_convert.libraries import called, need

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from limpet.contracts.data import FloatArray
    from limpet.contracts.messages import Inferred
    from limpet_convert.devices import Device
    from limpet_convert.project import Variant

INVOCATIONS = 200
SHORTEST = 0.5
NEAR = 0.05
"""Share of a plot's width or height: labels nearer than that would overlap."""
UPLOAD = 1 << 24
"""Bytes of windows that a device is sent at most, to time one model."""


@dataclass(frozen=True)
class Candidate:
    """A variant: bytes, points of the metric lost, median microseconds of one invocation.

    ``timed`` says where that was measured, or that it is an estimate; ``refused`` why the device does not take it.
    """

    name: str
    size: int
    loss: float
    microseconds: float
    timed: str = "measured here"
    refused: str = ""

    def beats(self, other: Candidate) -> bool:
        """Whether it is no worse in any figure and better in one."""
        mine, theirs = self._figures(), other._figures()
        return mine != theirs and all(a <= b for a, b in zip(mine, theirs, strict=True))

    def _figures(self) -> tuple[float, float, float]:
        return self.size, max(self.loss, 0.0), self.microseconds


@dataclass(frozen=True)
class Target:
    """The limits of a target; ``None`` for no limit."""

    size: int | None = None
    loss: float | None = None
    microseconds: float | None = None

    def met(self, one: Candidate) -> bool:
        """Whether a candidate can be used and keeps all limits."""
        if one.refused:
            return False
        pairs = ((one.size, self.size), (one.loss, self.loss), (one.microseconds, self.microseconds))
        return all(limit is None or value <= limit for value, limit in pairs)


def front(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the Pareto front of what can be used, smallest first."""
    usable = [one for one in candidates if not one.refused]
    best = [one for one in usable if not any(other.beats(one) for other in usable)]
    return sorted(best, key=lambda one: one.size)


class Clock(Protocol):
    """What times a model. ``label`` says what the times are."""

    label: str

    def __call__(self, path: Path, inputs: FloatArray, variant: Variant) -> float:
        """Return the median time of one run over ``inputs`` in turn, in µs."""


class Here:
    """This machine."""

    label = "measured here"

    def __call__(self, path: Path, inputs: FloatArray, variant: Variant) -> float:  # noqa: ARG002
        """See ``Clock``."""
        return median_microseconds(path, inputs)


class There:
    """A device. ``answer`` is its last one."""

    answer: Inferred

    def __init__(self, device: Device) -> None:
        self.label = f"measured on {device.name}"
        self._device = device

    def __call__(self, path: Path, inputs: FloatArray, variant: Variant) -> float:  # noqa: ARG002
        """See ``Clock``."""
        count = min(INVOCATIONS, max(1, UPLOAD // inputs[0].nbytes))
        ran = self._device.run(path, inputs[np.arange(count) % len(inputs)])
        self.answer = ran.answer
        return float(np.median(ran.run_us))


def median_microseconds(path: Path, inputs: FloatArray) -> float:
    """Return the median time of one run over ``inputs`` in turn, of this machine."""
    runner = runners.open_model(path)
    runner.run([inputs[0]])
    taken: list[float] = []
    until = time.perf_counter() + SHORTEST
    with called(RUNTIME, f"timing {path.name}"):  # Around all runs, so that each is timed without it.
        while len(taken) < INVOCATIONS or time.perf_counter() < until:
            one = [inputs[len(taken) % len(inputs)]]
            begin = time.perf_counter()
            runner.run(one)
            taken.append(time.perf_counter() - begin)
    return float(np.median(taken)) * 1e6


def plot(path: Path, candidates: Sequence[Candidate], best: Sequence[Candidate], metric: str) -> None:
    """Draw size against loss of what can be used, time as the colour, the front as a line.

    Each place has numbers, and the list beside the plot has their names: variants often are on one place.
    """
    candidates = [one for one in candidates if not one.refused]
    figure = need("matplotlib.figure").Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    dots = axes.scatter(
        [c.size / 1000 for c in candidates],
        [c.loss for c in candidates],
        c=[c.microseconds for c in candidates],
        s=80,
        zorder=2,
    )
    timed = ", ".join(sorted({one.timed for one in candidates}))
    figure.colorbar(dots, label=f"median time of one run, µs, {timed}", location="left")
    axes.step([c.size / 1000 for c in best], [c.loss for c in best], color="grey", linewidth=0.8)
    for (size, loss), numbers in places(candidates).items():
        text = ", ".join(map(str, numbers))
        axes.annotate(text, (size / 1000, loss), (3, 6), textcoords="offset points", fontsize=8, rotation=60)
    names = "\n".join(f"{number:2}  {one.name}" for number, one in enumerate(candidates, 1))
    axes.text(1.03, 1.0, names, transform=axes.transAxes, va="top", fontsize=8, family="monospace")
    axes.set(xlabel="size, kB", ylabel=f"{metric} lost, points")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def places(candidates: Sequence[Candidate]) -> dict[tuple[float, float], list[int]]:
    """Return the numbers of the candidates, from 1, by the places where they are drawn.

    Those that are nearer than a label is large share the place of the first one.
    """
    width = max((one.size for one in candidates), default=0) - min((one.size for one in candidates), default=0)
    height = max((one.loss for one in candidates), default=0) - min((one.loss for one in candidates), default=0)
    found: dict[tuple[float, float], list[int]] = {}
    for number, one in enumerate(candidates, 1):
        near = next(
            (
                place
                for place in found
                if abs(place[0] - one.size) <= NEAR * width and abs(place[1] - one.loss) <= NEAR * height
            ),
            (one.size, one.loss),
        )
        found.setdefault(near, []).append(number)
    return found
