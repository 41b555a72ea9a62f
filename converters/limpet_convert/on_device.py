"""A model on a device against float, and against itself, on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

import msgspec

from limpet_convert import compare, pairing

if TYPE_CHECKING:
    from pathlib import Path

    from limpet.contracts.messages import Inferred
    from limpet_convert.compare import Comparison, Outputs
    from limpet_convert.data import Windows
    from limpet_convert.devices import Device
    from limpet_convert.project import Bundle, Verify


@dataclass(frozen=True)
class OnDevice:
    """``exact``: the float model here against the converted one there. ``here``: the converted one on both.

    ``run_us``: median of a run there in µs.
    """

    name: str
    answer: Inferred
    run_us: float
    exact: Comparison
    here: Comparison

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON can have it."""
        answer: dict[str, Any] = msgspec.to_builtins(self.answer)
        return {
            "device": self.name,
            **{key: value for key, value in answer.items() if key not in {"outputs", "run_us"}},
            "median_run_us": self.run_us,
            "against_float": self.exact.as_dict(),
            "against_here": {"agreement": self.here.agreement, "errors": self.here.errors},
        }


def measure(  # noqa: PLR0913, PLR0917 - a model in three places, data, and how to judge
    device: Device, model: Path, exact: Outputs, here: Outputs, windows: Windows, bundle: Bundle, limits: Verify
) -> OnDevice:
    """Run a model on a device over windows with known answers, and compare. ``DeviceError``."""
    ran = device.run(model, windows.values)
    there = compare.Outputs(pairing.ordered(here.values, ran.values), here.size)
    name = f"{model.stem} on {device.name}"
    against_float = compare.judged(compare.compare(name, exact, there, windows, bundle), limits)
    against_here = compare.compare(name, here, there, windows, bundle)
    return OnDevice(device.name, ran.answer, median(ran.run_us), against_float, against_here)


def markdown(found: OnDevice) -> list[str]:
    """Return the section of the report."""
    answer, one = found.answer, found.exact
    verdict = "keeps every threshold" if not one.failures else "misses: " + "; ".join(one.failures)
    lines = [
        f"## On {found.name}",
        "",
        (
            f"Limpet {answer.limpet}, {answer.runtime}, delegate `{answer.delegate}` ({answer.delegate_share:.0%} "
            f"of the ops), {found.run_us:,.0f} µs a run (median). It {verdict}."
        ),
        "",
        (
            f"* {one.metric}: {one.exact[one.metric]:.4f} float here, {one.converted[one.metric]:.4f} there; "
            f"{one.metric_loss_points:.2f} points lost, agreement {one.agreement:.2%}"
        ),
        f"* agreement with the same model here: {found.here.agreement:.2%}",
    ]
    lines += [
        f"* output {number}: differs from the same model here by {error['largest']:.4g} at most, "
        f"{error['mean']:.4g} on average"
        for number, error in enumerate(found.here.errors)
    ]
    if answer.placement is not None:
        placed = answer.placement
        lines.append(
            f"* {placed.op_share:.0%} of the ops on `{answer.delegate}`, {placed.speed:.1f} times its CPU's speed"
        )
    return [*lines, ""]
