"""Whether samples come at the rate that a model was made for, if their source does not say its rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from limpet.contracts.data import Samples
    from limpet.inference.plan import PipelinePlan

PERIOD = 5_000_000_000
"""Nanoseconds over which a rate is measured, at least."""
FEWEST = 20
"""Steps between samples over which a rate is measured, at least."""
LEAST_TOLERANCE = 0.1
"""Share by which a measured rate may differ in any case: clocks of sensors and arrival times are not exact."""


class RateWatch:
    """Measures the rate of samples. ``reason`` says how it is wrong, and is empty while it is right."""

    def __init__(self, made_for: float, tolerance: float) -> None:
        self.reason = ""
        self._made_for = made_for
        self._tolerance = max(tolerance, LEAST_TOLERANCE)
        self._steps = self._ns = 0
        self._last: int | None = None
        self._expected = 0

    def see(self, samples: Samples) -> bool:
        """Take note of a block; return whether ``reason`` is another one now. A gap is left out."""
        count = len(samples)
        if not count:
            return False
        first, last = int(samples.monotonic_ns[0]), int(samples.monotonic_ns[-1])
        follows = self._last is not None and not samples.gap and samples.index == self._expected
        before = self._last if follows and self._last is not None else first
        self._steps += count if follows else count - 1
        self._ns += max(last - before, 0)
        self._last, self._expected = last, samples.index + count
        if self._ns < PERIOD or self._steps < FEWEST:
            return False
        was, self.reason = self.reason, self._judge(self._steps * 1e9 / self._ns)
        self._steps = self._ns = 0
        return bool(was) != bool(self.reason)

    def _judge(self, rate: float) -> str:
        if abs(rate - self._made_for) <= self._tolerance * self._made_for:
            return ""
        return (
            f"samples come at {rate:.4g} a second, and the model is made for {self._made_for:g}; resample with a "
            "window that has seconds and size, or set rate_tolerance"
        )


def watch(plan: PipelinePlan, rate: float | None) -> RateWatch | None:
    """Return what watches the rate of a pipeline's windows, ``None`` where it is known or does not matter."""
    made_for = plan.bundle.manifest.rate
    if made_for is None or rate is not None or not plan.spec.live:
        return None
    return RateWatch(made_for, plan.rate_tolerance)
