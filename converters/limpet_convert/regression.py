"""How good the numbers of a regression are, and how far two models agree: each quantity against its spread.

The outputs of a model may have different units, so no sum has numbers of two quantities in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec.structs import replace

from limpet.decoders import regress
from limpet_convert import uncertainty

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from limpet.contracts.data import Array
    from limpet_convert.metrics import Metrics
    from limpet_convert.project import Bundle

CLOSE = 0.1
"""Of a quantity's spread: so near two numbers must be to agree."""
SHOWN = 40
"""Quantities in a table, at most."""
SHOWN_NOTES = 3
_DROWNED = 10
"""Times the spread of another quantity, from which int8 has few steps left for the smaller one."""
_ROUNDING = 1e-6
"""Of the largest value: what varies less is constant."""
_CONSTANT_SPREAD = 0.1
"""Of the largest value: what stands for the spread of a constant."""
_TOGETHER = 0.9
"""Correlation from which numbers follow their targets, but for a scale or an offset."""


@dataclass(frozen=True)
class Quantity:
    """``columns`` of the numbers ``(n, count)`` that all outputs give, and the number of their ``output``."""

    name: str
    columns: slice
    output: int


def numbers(outputs: Sequence[Array]) -> NDArray[np.float64]:
    """Return all outputs, each ``(n, *shape)``, as ``(n, count)``."""
    return np.concatenate([np.reshape(one, (len(one), -1)).astype(np.float64) for one in outputs], axis=1)


def quantities(bundle: Bundle, outputs: Sequence[Array]) -> list[Quantity]:
    """Return the numbers that the decoder ``regress`` names. Another decoder reads an output as a whole."""
    sizes = [int(np.prod(one.shape[1:])) for one in outputs]
    usual = ["output"] if len(sizes) == 1 else [f"output {number}" for number in range(len(sizes))]
    if bundle.decoder.get("kind", "regress") == "regress" and sum(sizes) <= regress.MOST:
        named = list(zip(usual, sizes, strict=True))
        names = uncertainty.quantities(bundle, named)
        if len(names) != sum(sizes):  # Only a model that no decoder takes, of `verify --models`.
            names = uncertainty.quantities(replace(bundle, labels=[], decoder={}), named)
        outputs_of = np.repeat(np.arange(len(sizes)), sizes).tolist()
        return [Quantity(name, slice(at, at + 1), outputs_of[at]) for at, name in enumerate(names)]
    ends = np.cumsum(sizes).tolist()
    return [
        Quantity(name, slice(end - size, end), number)
        for number, (name, size, end) in enumerate(zip(usual, sizes, ends, strict=True))
    ]


def metrics(values: NDArray[np.float64], targets: Array, wanted: Sequence[Quantity]) -> Metrics:
    """Return R² and the error over the spread of the targets: means over the quantities, and those of each.

    ``values`` and ``targets`` ``(n, count)``. A quantity whose targets are all the same has neither: ``None``. If
    there is no other, the means are NaN. The errors in units are there for a single quantity alone.
    """
    each = {one.name: _one(values[:, one.columns], targets[:, one.columns]) for one in wanted}
    known = [found for found in each.values() if found["r2"] is not None]
    means = {
        name: float(np.mean([found[name] for found in known])) if known else float("nan")
        for name in ("r2", "nrmse")
    }
    only = next(iter(each.values())) if len(each) == 1 else {}
    return {name: only[name] for name in ("mae", "rmse") if only} | means | {"outputs": each}


def _one(values: NDArray[np.float64], targets: Array) -> Metrics:
    error = values - targets
    rmse, spread = float(np.sqrt((error**2).mean())), _varying(targets)
    known = spread > 0
    return {
        "mae": float(np.abs(error).mean()),
        "rmse": rmse,
        "nrmse": rmse / spread if known else None,
        "r2": 1 - (rmse / spread) ** 2 if known else None,
    }


def _varying(values: Array) -> float:
    """Return the standard deviation of values ``(n, count)`` around the mean of each column, 0 for constants."""
    exact = np.asarray(values, np.float64)
    found = float(np.sqrt(exact.var(axis=0).mean()))
    return found if found > _ROUNDING * float(np.abs(exact).max(initial=0.0)) else 0.0


def spread(exact: NDArray[np.float64], targets: Array) -> float:
    """Return what a difference is measured by: the smaller spread of the float model's answers and the targets.

    A model whose answers hardly vary would else agree with any other. A constant has a tenth of its largest value.
    """
    found = [one for one in (_varying(exact), _varying(targets)) if one]
    return min(found) if found else _CONSTANT_SPREAD * float(np.abs(exact).max(initial=0.0))


def agreements(
    exact: NDArray[np.float64], other: NDArray[np.float64], targets: Array, wanted: Sequence[Quantity]
) -> dict[str, dict[str, float]]:
    """Return for each quantity how far two models agree.

    ``agreement``: share of the numbers that differ by at most ``CLOSE`` of the spread. ``difference``: root mean
    square of the differences, divided by the spread. ``spread``: see there.
    """
    found: dict[str, dict[str, float]] = {}
    for one in wanted:
        away = np.abs(exact[:, one.columns] - other[:, one.columns])
        wide = spread(exact[:, one.columns], targets[:, one.columns])
        rms = float(np.sqrt((away**2).mean()))
        found[one.name] = {
            "agreement": float((away <= CLOSE * wide).mean()),
            "difference": rms / wide if wide else float(rms > 0),
            "spread": wide,
        }
    return found


def notes(exact: NDArray[np.float64], targets: Array, wanted: Sequence[Quantity]) -> list[str]:
    """Return a sentence for each quantity that the float model itself gets wrong, or that says nothing."""
    found = [text for one in wanted if (text := _note(one.name, exact[:, one.columns], targets[:, one.columns]))]
    if len(found) <= SHOWN_NOTES:
        return found
    return [*found[:SHOWN_NOTES], f"{len(found) - SHOWN_NOTES} other quantities have such notes, too"]


def drowned(comparable: Mapping[str, Mapping[str, float]], wanted: Sequence[Quantity]) -> list[str]:
    """Return a sentence if the quantity that agrees least is small beside another one of the same output."""
    least = worst(comparable)
    mine = next(one for one in wanted if one.name == least)
    spreads = {one.name: comparable[one.name]["spread"] for one in wanted if one.output == mine.output}
    widest = max(spreads, key=lambda name: spreads[name])
    if comparable[least]["agreement"] == 1 or spreads[widest] < _DROWNED * spreads[least]:
        return []
    what = f"{least}: its spread is {spreads[least]:.4g}, and that of {widest} is {spreads[widest]:.4g}"
    what += (
        ". Quantized, an output has one scale. Train on numbers of one spread and set decoder.scale, give each "
    )
    return [f'{what}number a separate output, or set bundle.variant to "float16"']


def _note(name: str, exact: NDArray[np.float64], targets: Array) -> str:
    r2 = _one(exact, targets)["r2"]
    if r2 is None:
        return f"{name}: all its targets are the same, so it has no r2"
    if not _varying(exact):
        return (
            f"{name}: the float model gives {exact.flat[0]:.4g} for every window. Compare bundle.transforms with "
            "what the model was trained on"
        )
    if not r2 < 0:
        return ""
    worse = f"{name}: the float model is worse than the mean of the targets (r2 {r2:.4g})"
    if _correlation(exact, targets) > _TOGETHER:
        return (
            f"{worse}, but follows them. Compare the unit of data.targets with that of the model's output: "
            "decoder.scale and decoder.offset come after it"
        )
    return f"{worse}. Check the order of data.targets, and bundle.transforms"


def _correlation(values: Array, targets: Array) -> float:
    return float(np.corrcoef(np.ravel(values), np.ravel(targets))[0, 1])


def worst(comparable: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the quantity with the lowest agreement; of several, the one with the largest difference."""
    return min(comparable, key=lambda name: (comparable[name]["agreement"], -comparable[name]["difference"]))


def rows(exact: Metrics, converted: Metrics, comparable: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return a table of the quantities in Markdown, of many those with the lowest agreement; empty for one."""
    if len(comparable) < 2:
        return []
    order = sorted(comparable, key=lambda name: (comparable[name]["agreement"], -comparable[name]["difference"]))
    shown = [name for name in comparable if name in set(order[:SHOWN])]
    lines = [
        "| quantity | r2 float | r2 | RMSE | RMSE / spread of targets | agreement | difference / spread |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in shown:
        before, after, both = exact["outputs"][name], converted["outputs"][name], comparable[name]
        known = [_figure(before["r2"]), _figure(after["r2"]), f"{after['rmse']:.4g}", _figure(after["nrmse"])]
        cells = [name, *known, f"{both['agreement']:.2%}", f"{both['difference']:.4f}"]
        lines.append(f"| {' | '.join(cells)} |")
    if len(comparable) > len(shown):
        lines += ["", f"The {len(shown)} of {len(comparable)} quantities with the lowest agreement."]
    return [*lines, ""]


def _figure(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"
