"""Samples of a steady strength: each window by itself, or an automatic gain control."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from limpet.contracts.fields import Positive
from limpet.transforms._streaming import Latest, NewRows, sample_rate

if TYPE_CHECKING:
    from limpet.contracts.data import Window
    from limpet.contracts.stage import Spec

Doubles: TypeAlias = NDArray[np.float64]

_STEP = 0.01
"""Seconds after which the automatic gain is set again."""


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Multiply samples so that they have the strength ``level``, all channels alike.

    ``peak`` and ``rms`` look at each window alone. ``auto`` follows the root mean square of the samples so far. It
    goes on from window to window, and does not look ahead.
    """

    mode: Literal["peak", "rms", "auto"]
    """`"peak"`: the largest absolute value of each window becomes `level`. `"rms"`: its root mean square does.
    `"auto"`: automatic gain control over all samples. Example: `"peak"`."""
    level: Positive = 1.0
    """Strength of the result, in the unit of the samples. Example: `0.1`."""
    most: Positive = 100.0
    """Largest gain, so that silence stays silence."""
    attack: Positive = 0.02
    """Seconds in which `auto` follows samples that become stronger."""
    release: Positive = 0.5
    """Seconds in which `auto` follows samples that become weaker."""


def open(config: Config, spec: Spec) -> WindowGain | AutomaticGain:
    """Prepare for arrays ``(samples, channels)`` or ``(samples,)``; the result has their shape.

    ``ValueError`` for other arrays; for ``auto`` also where the rate is open, or windows leave samples out.
    """
    if config.mode == "auto":
        return AutomaticGain(config, NewRows("gain", spec), max(round(_STEP * sample_rate("gain", spec)), 1), spec)
    if len(spec.shape) not in (1, 2):
        raise ValueError(f"gain takes arrays (samples, channels), not {list(spec.shape)}")
    return WindowGain(config, spec)


class WindowGain:
    """Real arrays ``(samples, channels)`` to float32 of the same shape, each with its own gain."""

    def __init__(self, config: Config, spec: Spec) -> None:
        self.spec = replace(spec, dtype=np.dtype(np.float32))
        self._config = config
        self._out = None if -1 in spec.shape else np.empty(spec.shape, np.float32)

    def __call__(self, window: Window) -> Window:
        """Return the window with its gain. A NaN makes all of it NaN."""
        values = window.values.astype(np.float64)
        if self._config.mode == "peak":
            strength = float(np.abs(values).max(initial=0.0))
        else:
            strength = math.sqrt(float(np.square(values).mean())) if values.size else 0.0
        out = np.empty(values.shape, np.float32) if self._out is None else self._out
        out[...] = values * _gain(strength, self._config)
        window.values = out
        return window

    def reset(self) -> None:
        """Do nothing: nothing is remembered."""


class AutomaticGain:
    """Real arrays ``(samples, channels)`` to float32 of the same shape.

    Every 10 ms, the mean square of these samples moves the estimate p by (square - p) * (1 - exp(-10 ms / t)).
    The time t is ``attack`` where the square is above p, else ``release``. The gain is level / sqrt(p), at most
    ``most``. It goes in a straight line to its new value over the following 10 ms. The first 10 ms set p.

    Source: U. Zölzer, DAFX: Digital Audio Effects, 2nd edition, 2011, section 4.2 (level measurement with attack
    and release).
    """

    def __init__(self, config: Config, new: NewRows, step: int, spec: Spec) -> None:
        self.spec = replace(spec, dtype=np.dtype(np.float32))
        self._config, self._new, self._step = config, new, step
        assert spec.rate is not None
        seconds = step / spec.rate
        self._up, self._down = (1 - math.exp(-seconds / time) for time in (config.attack, config.release))
        self._ramp = np.arange(1, step + 1) / step
        self._latest = Latest(spec.shape)
        self._begin()

    def __call__(self, window: Window) -> Window:
        """Return the window with its gain. A NaN makes all that follows NaN until a reset."""
        new, fresh = self._new(window.values)
        if fresh:
            self._begin()
        samples = new.reshape(len(new), -1).astype(np.float64)
        self._latest.push((samples * self._gains(samples)[:, None]).reshape(new.shape))
        window.values = self._latest.rows
        return window

    def reset(self) -> None:
        """Forget all earlier samples."""
        self._new.reset()

    def _begin(self) -> None:
        self._power: float | None = None  # Mean square that is followed, None before the first step is full.
        self._from = self._to = 1.0
        self._at = 0  # How many samples of the present step were seen, and the sum of their mean squares.
        self._sum = 0.0

    def _gains(self, samples: Doubles) -> Doubles:
        squares = np.square(samples).mean(axis=1)
        gains = np.empty(len(samples))
        done = 0
        while done < len(samples):
            count = min(self._step - self._at, len(samples) - done)
            ramp = self._ramp[self._at : self._at + count]
            gains[done : done + count] = self._from + (self._to - self._from) * ramp
            self._sum += float(squares[done : done + count].sum())
            self._at += count
            done += count
            if self._at == self._step:
                self._follow(self._sum / self._step)
        return gains

    def _follow(self, square: float) -> None:
        """End a step whose samples have this mean square."""
        if self._power is None:
            self._power = square
        else:
            share = self._up if square > self._power else self._down
            self._power += (square - self._power) * share
        self._from, self._to = self._to, _gain(math.sqrt(self._power), self._config)
        self._at, self._sum = 0, 0.0


def _gain(strength: float, config: Config) -> float:
    """Return what samples of this strength are multiplied by; nothing changes silence."""
    if strength == 0:
        return 1.0
    return min(config.level / strength, config.most) if not math.isnan(strength) else math.nan
