"""Chooses the range of a tensor: by its extremes, a percentile or the least squared error.

The extremes are the true ones over all samples. The default of litert-quantizer is a moving average over the
samples, which is inside them and clips. Measured on one model, its relative error is .232, against .034 with the
extremes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from limpet_convert.errors import ConvertError
from limpet_convert.graph import Tracer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from limpet.contracts.data import FloatArray
    from limpet_convert.project import Observer

BINS = 2048
SHRINKS = np.linspace(0.1, 1.0, 91)
STEPS = 255


@dataclass(frozen=True)
class Range:
    """From which to which real value a tensor is represented; the values seen are in ``seen``."""

    low: float
    high: float
    seen: tuple[float, float]


@dataclass
class Spread:
    """How a tensor's values are spread: ``counts`` of ``BINS`` equal bins between the extremes."""

    low: float
    high: float
    counts: NDArray[np.int64]

    def add(self, values: FloatArray) -> None:
        """Count more values, which are between the extremes."""
        width = (self.high - self.low) / BINS or 1.0
        bins = ((values.astype(np.float64) - self.low) / width).astype(np.int64)
        self.counts += np.bincount(bins.clip(0, BINS - 1).ravel(), minlength=BINS)

    @property
    def centres(self) -> NDArray[np.float64]:
        """The value in the middle of each bin."""
        edges = np.linspace(self.low, self.high, BINS + 1)
        return (edges[:-1] + edges[1:]) / 2


def minmax(spread: Spread) -> tuple[float, float]:
    """Return the true extremes."""
    return spread.low, spread.high


def percentile(spread: Spread, share: float) -> tuple[float, float]:
    """Return the range that holds ``share`` percent of the values, as much cut off below as above."""
    tail = (1 - share / 100) / 2 * spread.counts.sum()
    below = np.cumsum(spread.counts)
    above = np.cumsum(spread.counts[::-1])
    edges = np.linspace(spread.low, spread.high, BINS + 1)
    first = int(np.searchsorted(below, tail, "right"))
    last = BINS - int(np.searchsorted(above, tail, "right"))
    return float(edges[min(first, BINS - 1)]), float(edges[max(last, first + 1)])


def mse(spread: Spread, steps: int = STEPS) -> tuple[float, float]:
    """Return the range of least squared error: what is clipped against a step squared / 12 for the rest.

    Both ends shrink towards zero by the same factor, as in TensorRT's and Krishnamoorthi's (2018) search.
    """
    if spread.low == spread.high:
        return spread.low, spread.high
    low, high = min(spread.low, 0.0), max(spread.high, 0.0)
    values, counts = spread.centres, spread.counts / max(spread.counts.sum(), 1)
    errors = []
    for shrink in SHRINKS:
        clipped = np.clip(values, low * shrink, high * shrink) - values
        rounding = ((high - low) * shrink / steps) ** 2 / 12
        errors.append(float((counts * (clipped**2 + (clipped == 0) * rounding)).sum()))
    best = float(SHRINKS[int(np.argmin(errors))])
    return low * best, high * best


def ranges(
    model: bytes,
    inputs: FloatArray,
    observer: Observer = "minmax",
    share: float = 99.99,
    progress: Callable[[float], object] = lambda _: None,
) -> dict[str, Range]:
    """Return the range of each tensor of a float model over ``inputs`` ``(n, *shape)``, by the tensor's name.

    ``ConvertError`` where a tensor is not finite. ``progress`` is called with the share that is done.
    """
    tracer = Tracer(model)
    spreads = _extremes(tracer, _counted(inputs, progress, 0.0, 1.0 if observer == "minmax" else 0.5))
    if observer != "minmax":
        _count(tracer, spreads, _counted(inputs, progress, 0.5, 1.0))
    choose: dict[Observer, Callable[[Spread], tuple[float, float]]] = {
        "minmax": minmax,
        "percentile": lambda spread: percentile(spread, share),
        "mse": mse,
    }
    return {name: Range(*choose[observer](s), (s.low, s.high)) for name, s in spreads.items()}


def _counted(
    inputs: FloatArray, progress: Callable[[float], object], begin: float, end: float
) -> Iterable[FloatArray]:
    for number, one in enumerate(inputs, 1):
        yield one
        progress(begin + (end - begin) * number / len(inputs))


def _extremes(tracer: Tracer, inputs: Iterable[FloatArray]) -> dict[str, Spread]:
    spreads: dict[str, Spread] = {}
    for one in inputs:
        tracer.invoke([one])
        for detail in tracer.tensors:
            if detail["dtype"] is not np.float32:
                continue
            values = tracer.real(detail)
            low, high = float(values.min()), float(values.max())
            if not (np.isfinite(low) and np.isfinite(high)):
                raise ConvertError(
                    f"tensor {detail['name']!r} is not finite on a calibration window; correct the model"
                )
            spread = spreads.setdefault(detail["name"], Spread(low, high, np.zeros(BINS, np.int64)))
            spread.low, spread.high = min(spread.low, low), max(spread.high, high)
    return spreads


def _count(tracer: Tracer, spreads: dict[str, Spread], inputs: Iterable[FloatArray]) -> None:
    for one in inputs:
        tracer.invoke([one])
        for detail in tracer.tensors:
            if detail["name"] in spreads:
                spreads[detail["name"]].add(tracer.real(detail))
