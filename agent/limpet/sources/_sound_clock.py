"""When samples of a sound device were taken: steady times out of what it says at each read. No I/O."""

from __future__ import annotations

from math import pi, sqrt

SLOW = 0.05
"""Hz: how fast the clock follows the device's, once it runs for a while. Jitter of reads is slower to show."""
FAR = 250_000_000
"""Nanoseconds beyond which the device's time is taken as it is: frames are missing, or its clock was set."""
DRIFT = 0.002
"""Share by which a device's clock may differ from its nominal rate."""


class SoundClock:
    """A delay-locked loop, as JACK has one: a device says with jitter when its last frame was taken.

    ``last_ns`` is when the last frame was taken, by this clock. ``period_ns`` is from one frame to the next.
    """

    def __init__(self, rate: int) -> None:
        self.last_ns = 0.0
        self._nominal = 1e9 / rate
        self.period_ns = self._nominal
        self._since: float | None = None

    def restart(self) -> None:
        """Take the next time as it is: frames are missing before."""
        self._since = None

    def advance(self, frames: int, observed_ns: int) -> float:
        """Take ``frames`` more, the last of which was taken at ``observed_ns``. Return when the one before was."""
        length = frames * self.period_ns
        expected = self.last_ns + length
        error = observed_ns - expected
        if self._since is None or abs(error) > FAR:
            self._since, self.period_ns = 0.0, self._nominal
            # Never back: the frames before have their times already.
            before = max(self.last_ns, observed_ns - frames * self._nominal)
            self.last_ns = max(float(observed_ns), before + frames)
            return before
        self._since += length / 1e9
        omega = min(0.5, 2 * pi * (SLOW + 1 / (1 + self._since)) * length / 1e9)
        before = self.last_ns
        self.last_ns = expected + max(min(sqrt(2) * omega * error, length / 2), -length / 2)
        period = self.period_ns + omega * omega * error / frames
        self.period_ns = max(min(period, self._nominal * (1 + DRIFT)), self._nominal * (1 - DRIFT))
        return before
