"""Rounds of windows, of which the rest is left out once a class is sure."""

from __future__ import annotations

import math
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

import numpy as np

from limpet.contracts.outputs import Classification
from limpet.contracts.savings import SavingCounts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.contracts.data import FloatArray, Window
    from limpet.contracts.savings import EarlyExitOptions

LEAST = 1e-6
"""A class that a model excludes with more certainty than that is as likely as that: models are often too sure."""


class EarlyExit:
    """Chooses the windows of a round that are run.

    The evidence for a class is the sum of the logarithms of its probabilities. Those after the first window of a
    round have the ``weight`` of a window. If the pipeline has a Bayes filter, its posterior counts instead.
    """

    def __init__(self, options: EarlyExitOptions, weight: float) -> None:
        self._options = options
        self._weight = weight
        self._place = 0
        self._evidence: FloatArray | None = None
        self._sure = False
        self._run_ns = 0.0
        self.counts = SavingCounts()

    def chosen(self, windows: Iterator[Window]) -> Iterator[Window]:
        """Yield the windows that are to be run. Each is to be run, and ``see`` called, before the next one."""
        for window in windows:
            if window.gap or self._place >= self._options.windows:
                self._begin()
            self._place += 1
            self.counts.windows += 1
            if self._sure:
                self.counts.spared += 1
                self.counts.saved_ns += round(self._run_ns)
            else:
                yield window

    def see(self, window: Window, output: Any, run_ns: float) -> None:
        """Take the output of a window that was run. ``run_ns``: how long all its stages took."""
        began = monotonic_ns()
        self._run_ns += (run_ns - self._run_ns) / 16 if self._run_ns else run_ns
        self._judge(window, output)
        self.counts.cost_ns += monotonic_ns() - began

    def _judge(self, window: Window, output: Any) -> None:
        if not isinstance(output, Classification) or output.abstained:
            return
        if output.posterior:
            self._sure = max(output.posterior.values()) >= self._options.confidence
        elif window.scores is not None:
            self._sure = self._with(window.scores) >= self._options.confidence

    def take(self) -> SavingCounts:
        """Return what was counted since the last call."""
        taken, self.counts = self.counts, SavingCounts()
        return taken

    def _with(self, scores: FloatArray) -> float:
        """Add the evidence of a window. Return the probability of the best class."""
        evidence = np.log(np.maximum(scores, LEAST, dtype=np.float32))
        if not np.isfinite(evidence).all():
            return 0.0
        if self._evidence is not None:
            evidence = self._evidence + evidence * np.float32(self._weight)
        self._evidence = evidence - evidence.max()
        return 1.0 / math.fsum(np.exp(self._evidence).tolist())

    def _begin(self) -> None:
        self._place, self._evidence, self._sure = 0, None, False
