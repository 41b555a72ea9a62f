"""What transforms with memory share: which rows of a window are new, and the rows of their result."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from limpet.contracts.data import Array, FloatArray
    from limpet.contracts.stage import Spec


class NewRows:
    """Gives each row of overlapping windows once: all of the first window, then the last ``hop`` of each."""

    def __init__(self, kind: str, spec: Spec) -> None:
        """Raise ``ValueError`` where windows have no steady size and hop, or leave samples out."""
        self.size, self.hop = spec.shape[0], steady_hop(kind, spec)
        self._fresh = True

    def __call__(self, values: Array) -> tuple[Array, bool]:
        """Return the new rows of a window, and whether it is the first one since the start or a reset."""
        fresh, self._fresh = self._fresh, False
        return (values if fresh else values[self.size - self.hop :]), fresh

    def reset(self) -> None:
        """Take the next window as one that follows none."""
        self._fresh = True


class Latest:
    """The newest rows of a result, oldest first, float32. ``rows`` is the same array all the time."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.rows: FloatArray = np.zeros(shape, np.float32)

    def push(self, new: Array) -> None:
        """Add rows behind the others. Those that are too many fall out in front."""
        rows, count = self.rows, len(new)
        if count >= len(rows):
            rows[...] = new[count - len(rows) :]
        elif count:
            rows[:-count] = rows[count:]
            rows[-count:] = new

    def reset(self) -> None:
        """Go on as if all rows before had been 0."""
        self.rows[...] = 0


def steady_hop(kind: str, spec: Spec) -> int:
    """Return the hop of windows that leave no sample out. ``ValueError`` for others."""
    if len(spec.shape) not in (1, 2):
        raise ValueError(f"{kind} takes arrays (samples, channels), not {list(spec.shape)}")
    size, hop = spec.shape[0], spec.hop
    if size < 1 or hop is None:
        raise ValueError(
            f"{kind} keeps its state from window to window; use a window with a size, and a hop of whole samples"
        )
    if hop > size:
        raise ValueError(
            f"{kind} keeps its state from sample to sample. Windows of {size} samples that start {hop} apart "
            "leave samples out. Make hop (times every) at most the window's size"
        )
    return hop


def sample_rate(kind: str, spec: Spec) -> float:
    """Return samples a second. ``ValueError`` where they have no steady rate."""
    if spec.rate is None:
        raise ValueError(
            f"{kind} needs samples at a steady rate; set the source's rate, or a window in seconds with a size"
        )
    return spec.rate
