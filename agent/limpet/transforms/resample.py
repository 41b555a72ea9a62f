"""Samples at another rate, behind a low-pass that keeps out what the new rate cannot hold."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec
import numpy as np
from msgspec.structs import replace

from limpet.contracts.fields import Positive
from limpet.transforms._streaming import Latest, NewRows, sample_rate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from limpet.contracts.data import Array, FloatArray, Window
    from limpet.contracts.stage import Spec

_MOST = 20_000
"""Largest numerator or denominator of the ratio of the rates."""
_LARGEST = 1 << 25
"""Numbers that those of one window are made of, at most: about a second. Their weights are 128 MiB."""
_AT_ONCE = 1 << 16
"""Samples whose weights are made at once: what that takes is five times what they are."""
_REACH = 10
"""Samples of the slower rate on each side that make a new one, as in ``scipy.signal.resample_poly``."""


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The new rate, and how it is reached."""

    rate: Positive
    """Samples a second of the result. Example: `16000`."""
    like: Literal["scipy", "soxr"] = "scipy"
    """Whose numbers the result has. `"scipy"`: `scipy.signal.resample_poly`. `"soxr"`: soxr at high quality, with
    which librosa resamples; it takes each window alone and needs `limpet[audio]`."""
    per_window: bool = False
    """Resample each window alone, with zeros around it. Otherwise the samples before a window count, and the
    result is late by 10 samples of the slower rate."""


def open(config: Config, spec: Spec) -> Resample | SoxrResample:
    """Prepare for arrays ``(samples, channels)`` or ``(samples,)`` at ``spec.rate``.

    ``ValueError`` where the rate is open, or windows do not become whole numbers of samples.
    """
    rate = sample_rate("resample", spec)
    if len(spec.shape) not in (1, 2) or spec.shape[0] < 1:
        raise ValueError(f"resample takes arrays (samples, channels) of one size, not {list(spec.shape)}")
    ratio = Fraction(config.rate / rate).limit_denominator(_MOST)
    if not ratio or ratio.numerator > _MOST or abs(float(ratio) * rate / config.rate - 1) > 1e-9:
        raise ValueError(
            f"resample cannot go from {rate:g} to {config.rate:g} samples a second: no ratio of whole numbers"
        )
    alone = config.per_window or config.like == "soxr"
    hop = None if spec.hop is None or (alone and spec.hop * ratio % 1) else _whole("hop", spec.hop, ratio)
    shape = (_whole("size", spec.shape[0], ratio), *spec.shape[1:])
    work = math.prod(shape) * (2 * _REACH * max(1, math.ceil(1 / ratio)) + 1)
    if work > _LARGEST:
        raise ValueError(
            f"resample makes {math.prod(shape)} numbers of a window out of {work}; "
            f"the limit is {_LARGEST}. Make the window shorter"
        )
    made = replace(spec, shape=shape, dtype=np.dtype(np.float32), rate=config.rate, hop=hop)
    if config.like == "soxr":
        try:
            return SoxrResample(rate, made)
        except ImportError as error:
            raise ValueError(f'like = "soxr" needs the extra limpet[audio]: {error}') from error
    return Resample(ratio, None if alone else NewRows("resample", spec), spec, made)


def _whole(what: str, samples: int, ratio: Fraction) -> int:
    made = samples * ratio
    if made.denominator != 1:
        unit = ratio.denominator
        raise ValueError(
            f"resample makes {float(made):g} samples of a window's {what} of {samples}; "
            f"use a multiple of {unit}, such as {max(round(samples / unit), 1) * unit}"
        )
    return int(made)


class _Plan(NamedTuple):
    """How a call makes its samples: of which spans of its input, and with which weights ``(made, span)``."""

    starts: NDArray[np.intp]
    weights: FloatArray


class Resample:
    """Real arrays ``(samples, channels)`` to float32 ones at the new rate.

    Polyphase form of a windowed sinc at the lower half rate: P. P. Vaidyanathan, Multirate Systems and Filter
    Banks, 1993, section 4.3. The filter is that of ``scipy.signal.resample_poly``: Kaiser window, beta 5.
    """

    def __init__(self, ratio: Fraction, new: NewRows | None, spec: Spec, made: Spec) -> None:
        self.spec = made
        self._new = new
        up, down = ratio.numerator, ratio.denominator
        taps = _low_pass(up, down)
        half = len(taps) // 2
        self._span = 2 * half // up + 1
        self._late = 0 if new is None else -(-half // down)  # New samples that the result is behind.
        # How far the first new sample reaches back, and with windows alone the last one ahead.
        self._back = max(self._span - 1 - (half - self._late * down) // up, 0)
        self._ahead = half // up + 1 if new is None else 0
        counts = {spec.shape[0], spec.shape[0] if new is None else new.hop}
        self._plans = {count: self._plan(int(count * ratio), up, down, taps) for count in counts}
        channels = spec.shape[1] if len(spec.shape) > 1 else 1
        self._before = np.zeros((self._back, channels), np.float32)
        self._after = np.zeros((self._ahead, channels), np.float32)
        self._latest = Latest(made.shape)

    def __call__(self, window: Window) -> Window:
        """Return the window at the new rate. A NaN is in all samples that it is near of."""
        new, fresh = (window.values, True) if self._new is None else self._new(window.values)
        if fresh:
            self._before = np.zeros_like(self._before)
        samples = new.reshape(len(new), -1).astype(np.float32)
        known = np.concatenate([self._before, samples, self._after])
        plan = self._plans[len(new)]
        spans = np.lib.stride_tricks.sliding_window_view(known, self._span, axis=0)[plan.starts]
        made = np.einsum("kcs,ks->kc", spans, plan.weights)
        if self._new is not None:
            self._before = known[len(known) - self._back :]
        self._latest.push(made.reshape(len(made), *self.spec.shape[1:]))
        window.values = self._latest.rows
        return window

    def reset(self) -> None:
        """Forget all earlier samples."""
        if self._new is not None:
            self._new.reset()

    def _plan(self, made: int, up: int, down: int, taps: NDArray[np.float64]) -> _Plan:
        half = len(taps) // 2
        at = (np.arange(made) - self._late) * down  # Where the new samples are, in steps of 1 / up samples.
        last = (at + half) // up  # The last old sample that each of them is made of.
        weights = np.empty((made, self._span), np.float32)
        rows = max(_AT_ONCE // self._span, 1)
        for first in range(0, made, rows):
            some = slice(first, first + rows)
            samples = last[some, None] - np.arange(self._span)[::-1]
            place = half + at[some, None] - samples * up
            inside = (place >= 0) & (place < len(taps))
            weights[some] = np.where(inside, taps[np.clip(place, 0, len(taps) - 1)], 0.0)
        return _Plan(last - (self._span - 1) + self._back, weights)


class SoxrResample:
    """Real arrays ``(samples, channels)`` to float32 ones at the new rate, as ``soxr.resample`` makes them."""

    def __init__(self, rate: float, made: Spec) -> None:
        import soxr

        self.spec = made
        self._resample, self._rate = soxr.resample, rate
        self._out = np.zeros(made.shape, np.float32)

    def __call__(self, window: Window) -> Window:
        """Return the window at the new rate."""
        samples = np.ascontiguousarray(window.values, np.float32)
        made: Array = self._resample(samples, self._rate, self.spec.rate, quality="HQ")
        count = min(len(made), len(self._out))
        self._out[:count] = made[:count]
        self._out[count:] = 0
        window.values = self._out
        return window

    def reset(self) -> None:
        """Do nothing: nothing is remembered."""


def _low_pass(up: int, down: int) -> NDArray[np.float64]:
    """Return the taps of the low-pass at ``up`` times the old rate, with a sum of ``up``."""
    slower = max(up, down)
    half = _REACH * slower
    taps = np.sinc(np.arange(-half, half + 1) / slower) * np.kaiser(2 * half + 1, 5.0)
    low_pass: NDArray[np.float64] = taps * (up / taps.sum())
    return low_pass
