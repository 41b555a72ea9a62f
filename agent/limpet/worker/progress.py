"""Whether the samples that come also complete windows. Decides without I/O."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from limpet.contracts.fields import WindowSpec

PATIENCE = 5.0
"""Seconds of samples without a window that are never worth a word."""
LONG = 60.0
"""Seconds that the first window may take before it is reported how long it takes."""
LATE = 3
"""Times the seconds of a window after which gaps must be what keeps it from being complete."""


class Counts(NamedTuple):
    """Since a pipeline was opened: samples, windows that were run, and samples that are in no window."""

    samples: int
    windows: int
    lost: int


class Progress(msgspec.Struct):
    """``window`` and ``every`` are the pipeline's.

    ``reason`` says why samples come and no window is complete; it is empty while all is well.
    """

    window: WindowSpec
    every: int
    reason: str = ""
    since: float | None = None
    """When the first sample after the last window was seen. Seconds on a steady clock."""
    counted: Counts = Counts(0, 0, 0)
    """What had been counted by then."""

    def look(self, now: float, counted: Counts) -> bool:
        """Take the counts since the pipeline was opened. Return whether ``reason`` is another one now."""
        before = self.reason
        if counted.windows != self.counted.windows or self.since is None:
            self.reason = ""
            self.since = None if counted.samples == self.counted.samples else now
            self.counted = counted
        elif (seconds := now - self.since) > PATIENCE and not self.reason:
            self.reason = self._reason(seconds, counted)
        return before != self.reason

    def pause(self) -> None:
        """Take note that the source is away: begin with its next sample."""
        self.reason, self.since = "", None

    def _reason(self, seconds: float, counted: Counts) -> str:
        """Return why the samples of so many seconds complete no window; empty if one may yet be complete."""
        came, lost = counted.samples - self.counted.samples, counted.lost - self.counted.lost
        if not came:
            return ""
        rate = came / seconds
        window = self.window
        if window.seconds is not None:
            needs, takes = f"{window.seconds:g} s of samples", window.seconds
        else:
            size = window.size or 1
            needs, takes = f"{size:,} samples", max(size, window.hop or 0) / rate
        takes *= self.every
        runs = f", and Limpet runs one window in {self.every:,}" if self.every > 1 else ""
        if takes > LONG and not counted.windows:
            return (
                f"a window needs {needs}{runs}: at {rate:.3g} Hz the first result takes "
                f"{_duration(takes)}. Use a smaller window or a faster sensor"
            )
        if seconds < LATE * max(takes, PATIENCE):
            return ""
        gaps = f"; {lost:,} samples are between gaps or are not finite" if lost else ""
        return f"{came:,} samples in {seconds:.0f} s complete no window: a window needs {needs}{runs}{gaps}"


def _duration(seconds: float) -> str:
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} days"
