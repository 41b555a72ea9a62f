"""A pipeline that is fed by another one: each row of the first one's output is a sample of the second one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from limpet.contracts.data import Samples, SampleSpec

if TYPE_CHECKING:
    from limpet.contracts.data import Window
    from limpet.contracts.stage import Spec


def samples_of(output: Spec, source: SampleSpec) -> SampleSpec:
    """Return what the samples are for a pipeline that is fed with windows of the form ``output``.

    ``source``: the samples that the first pipeline gets. A window of several rows gives several samples with the
    same time, which have no rate.
    """
    rate = output.rate if output.shape[:1] in {(1,), (-1,)} else None
    return SampleSpec(
        output.shape[1:], output.dtype, output.channels, rate, live=source.live, timed=source.timed, patience=None
    )


class ChainedSamples:
    """Makes samples of windows. Their ordinals count rows, so that a window that is missing shows as a gap."""

    def __init__(self) -> None:
        self.missed = False  # Whether a window since the last one had no result.
        self._next = 0

    def of(self, window: Window) -> Samples:
        """Return the rows of a window as samples, which share its memory."""
        values = window.values
        count = len(values)
        gap, self.missed = window.gap or self.missed, False
        samples = Samples(
            values,
            np.full(count, window.monotonic_ns, np.int64),
            np.full(count, window.wall_ns, np.int64),
            self._next,
            gap and self._next > 0,
        )
        self._next += count
        return samples
