"""Which executor runs each op of a model, and whether that is good enough. No I/O, no numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from limpet.contracts.placement import CPU, XNNPACK, OpPlace, Placement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.models.tflite.coverage import Coverage
    from limpet.models.tflite.model_graph import ModelGraph


def place(delegate: str, ops: Sequence[OpPlace], whole: int | None = None, device: str = "") -> Placement:
    """Make up the shares of a placement.

    ``whole``: the multiply-adds of the model before a vendor's compiler put most of it into one custom op.
    """
    left = [op for op in ops if delegate not in {CPU, op.executor}]
    total, left_macs = _sum(ops), _sum(left)
    if total is None:
        total = whole
    return Placement(
        delegate=delegate,
        ops=list(ops),
        op_share=1 - len(left) / len(ops) if ops else 0.0,
        mac_share=max(0.0, 1 - left_macs / total) if total and left_macs is not None else None,
        device=device,
    )


def _sum(ops: Sequence[OpPlace]) -> int | None:
    """Add up multiply-adds, ``None`` where some are unknown."""
    counts = [op.macs for op in ops]
    return None if None in counts else sum(count or 0 for count in counts)


def of_coverage(
    delegate: str, requested: Coverage, allocated: Coverage, graph: ModelGraph, whole: int | None = None
) -> Placement:
    """Make a placement of what an interpreter reports.

    ``requested``: before ``allocate_tensors``, when only the requested delegates have claimed their ops.
    ``allocated``: after it, when XNNPACK has taken what it can of the rest.
    """
    ops = [
        OpPlace(name, delegate if first else XNNPACK if second else CPU, op.macs)
        for name, first, second, op in zip(
            requested.ops, requested.delegated, allocated.delegated, graph.ops, strict=True
        )
    ]
    return place(delegate, ops, whole)


def shortfall(placement: Placement, require: float) -> str:
    """Say why a placement is not what is required, in a line; empty if it is.

    ``require`` is the least share of the multiply-adds, or of the ops where there are none, that must be on the
    delegate. On the CPU itself nothing is lacking.
    """
    if placement.share >= require:
        return ""
    what = "ops" if placement.mac_share is None else "multiply-adds"
    left = ", ".join(f"{count} {name}" for name, count in sorted(placement.left_over().items()))
    return (
        f"only {placement.share:.1%} of the {what} run on {placement.delegate!r}, {require:.1%} are required; "
        f"the CPU is left with {left}"
    )


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """What running a model on a delegate and on the CPU showed.

    ``error`` is the largest absolute difference of real values to what is expected, ``tolerance`` what is allowed.
    ``delegate_us`` and ``cpu_us`` are medians of one run in µs, ``speed`` the CPU's by the delegate's.
    """

    vectors: int
    error: float
    tolerance: float
    delegate_us: float
    cpu_us: float

    @property
    def speed(self) -> float:
        """How many times as fast as the CPU it is."""
        return self.cpu_us / self.delegate_us if self.delegate_us else 0.0

    @property
    def right(self) -> bool:
        """Whether its numbers are those that are expected."""
        return self.error <= self.tolerance


def why_not_worth(proof: Proof, least_speed: float) -> str:
    """Say why a delegate is not worth having, in a line; empty if it is.

    ``least_speed``: how many times as fast as the CPU it must be; below 1 where sparing the CPU counts for more.
    """
    if not proof.right:
        return f"wrong numbers: off by {proof.error:.4g} where {proof.tolerance:.4g} is allowed"
    if proof.speed < least_speed:
        return (
            f"not worth it: {proof.delegate_us:.0f} µs a run, {proof.cpu_us:.0f} µs on the CPU; "
            f"{least_speed:g} times the CPU's speed is required"
        )
    return ""


class TimeShare(msgspec.Struct, frozen=True, kw_only=True):
    """Where the time of a run goes, in µs.

    ``total_us`` with the delegate, ``cpu_us`` without. ``left_us`` is the time of the ops that stay on the CPU,
    measured when the CPU runs everything. It is an estimate of their time beside the delegate.
    """

    total_us: float
    cpu_us: float
    left_us: float

    @property
    def on_delegate(self) -> float:
        """Share of a run that is not spent in the CPU's ops: the delegate's work and the way there and back."""
        return max(0.0, 1 - self.left_us / self.total_us) if self.total_us else 0.0


def borders(placement: Placement) -> list[tuple[int, int]]:
    """Return the runs of consecutive ops that the CPU is left with, as (first, behind the last)."""
    runs: list[tuple[int, int]] = []
    for i, op in enumerate(placement.ops):
        if placement.has(op):
            continue
        if runs and runs[-1][1] == i:
            runs[-1] = runs[-1][0], i + 1
        else:
            runs.append((i, i + 1))
    return runs
