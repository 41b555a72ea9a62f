"""Which executor runs each op of a model."""

from __future__ import annotations

from collections import Counter

import msgspec

CPU, XNNPACK = "cpu", "cpu (xnnpack)"
"""Executors on the CPU: the runtime's own kernels, and those of the delegate that it brings along."""


class OpPlace(msgspec.Struct, frozen=True):
    """An op of the graph, in its order, and who runs it: ``CPU``, ``XNNPACK`` or the name of a delegate."""

    name: str
    executor: str
    macs: int | None


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """Where a model runs.

    Shares are those of the delegate, 0 to 1: ``op_share`` of the ops, ``mac_share`` of the multiply-adds.
    ``mac_share`` is ``None`` for a graph that has none or hides them in a custom op. ``device`` is what the
    delegate reports about its device, if anything.
    """

    delegate: str
    ops: list[OpPlace]
    op_share: float
    mac_share: float | None
    device: str = ""

    @property
    def share(self) -> float:
        """The share that counts: of the multiply-adds, where there are any."""
        return self.op_share if self.mac_share is None else self.mac_share

    def left_over(self) -> dict[str, int]:
        """Return how many ops of each name the CPU is left with."""
        return dict(Counter(op.name for op in self.ops if not self.has(op)))

    def has(self, op: OpPlace) -> bool:
        """Whether an op is where it was meant to be. On the CPU, its own delegate counts as the CPU."""
        return self.delegate in {CPU, op.executor}
