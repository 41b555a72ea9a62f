"""Filters of the samples of each channel, given by scipy's second-order sections or by taps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, TypeAlias

import msgspec
import numpy as np
from msgspec import Meta
from msgspec.structs import replace
from numpy.typing import NDArray

from limpet.transforms._streaming import Latest, NewRows

if TYPE_CHECKING:
    from limpet.contracts.data import Window
    from limpet.contracts.stage import Spec

Doubles: TypeAlias = NDArray[np.float64]
Section: TypeAlias = Annotated[list[float], Meta(min_length=6, max_length=6)]

_LARGEST = 1 << 30
"""Products that the samples of one window are made of, at most: about a second."""
_LEAST = 1e-30
"""Smallest a0 of a section: the others are divided by it."""
_BLOCK = 128
"""Samples that one product of matrices filters."""


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An IIR filter by ``sos`` or an FIR filter by ``taps``."""

    sos: Annotated[list[Section], Meta(min_length=1, max_length=32)] | None = None
    """Second-order sections `[b0, b1, b2, a0, a1, a2]`, as `scipy.signal.butter(..., output="sos")` gives them.
    Example: `[[0.02, 0.04, 0.02, 1.0, -1.56, 0.64]]`."""
    taps: Annotated[list[float], Meta(min_length=1, max_length=16_384)] | None = None
    """Coefficients of an FIR filter, as `scipy.signal.firwin` gives them. Example: `[0.25, 0.5, 0.25]`."""
    start: Literal["zero", "first"] = "zero"
    """What was before the first sample and after a gap: zeros, or the first sample. `"first"` avoids the swing of
    a channel that does not rest at 0."""

    def __post_init__(self) -> None:
        if (self.sos is None) == (self.taps is None):
            raise ValueError("a filter needs either sos or taps")
        numbers = np.array(self.sos if self.sos is not None else self.taps)
        if not np.isfinite(numbers).all():
            raise ValueError("a filter's coefficients must be finite")
        if self.sos is not None:
            _refuse_unstable(numbers)


def open(config: Config, spec: Spec) -> Filter:
    """Prepare for arrays ``(samples, channels)`` or ``(samples,)``; the result has their shape.

    ``ValueError`` where windows have no steady hop, or one that leaves samples out.
    """
    new = NewRows("filter", spec)
    channels = spec.shape[1] if len(spec.shape) > 1 else 1
    taps, samples = len(config.taps or ()), new.size * channels
    if taps * samples > _LARGEST:
        raise ValueError(
            f"filter: {taps} taps for {samples} samples are too much for one window. The limit is "
            f"{_LARGEST} products. Use fewer taps, sos, or a shorter window"
        )
    steady = config.start == "first"
    kernel: _Sections | _Taps
    if config.sos is not None:
        kernel = _Sections(np.array(config.sos, np.float64), channels, steady=steady)
    else:
        kernel = _Taps(np.array(config.taps, np.float64), channels, steady=steady)
    return Filter(kernel, new, spec)


class Filter:
    """Real arrays ``(samples, channels)`` to float32 ones of the same shape; each sample is filtered once."""

    def __init__(self, kernel: _Sections | _Taps, new: NewRows, spec: Spec) -> None:
        self.spec = replace(spec, dtype=np.dtype(np.float32))
        self._kernel, self._new = kernel, new
        self._latest = Latest(spec.shape)

    def __call__(self, window: Window) -> Window:
        """Return the window with its samples filtered. A NaN makes all that follows NaN until a reset."""
        new, fresh = self._new(window.values)
        samples = new.reshape(len(new), -1).astype(np.float64)
        if fresh:
            self._kernel.begin(samples[0])
        self._latest.push(self._kernel(samples).reshape(new.shape))
        window.values = self._latest.rows
        return window

    def reset(self) -> None:
        """Forget all earlier samples."""
        self._new.reset()


class _Steps(NamedTuple):
    """A linear system of n states: ``next = a @ state + b * x``, ``y = c @ state + d * x``."""

    a: Doubles
    b: Doubles
    c: Doubles
    d: float


class _Sections:
    """Second-order sections, as ``scipy.signal.sosfilt`` computes them, block by block.

    The answer of a block is a product of matrices: of its samples, and of the state before it. Only the
    state goes from block to block.
    """

    def __init__(self, sos: Doubles, channels: int, *, steady: bool) -> None:
        sos = sos / sos[:, 3:4]
        system = _system(sos)
        states = len(system.b)
        powers = np.empty((_BLOCK + 1, states, states))
        powers[0] = np.eye(states)
        for k in range(_BLOCK):
            powers[k + 1] = system.a @ powers[k]
        reached = powers[:_BLOCK] @ system.b  # (block, states): what a sample leaves k samples later
        impulse = np.concatenate([[system.d], reached[:-1] @ system.c])
        lag = np.arange(_BLOCK)[:, None] - np.arange(_BLOCK)
        self._powers = powers
        self._direct = np.where(lag >= 0, impulse[lag], 0.0)
        self._from_state = system.c @ powers[:_BLOCK]
        self._to_state = np.ascontiguousarray(reached[::-1].T)
        self._settled = _settled(sos) if steady else np.zeros(states)
        self._state = np.zeros((states, channels))

    def begin(self, first: Doubles) -> None:
        """Forget all samples; this one comes first."""
        self._state = np.outer(self._settled, first)

    def __call__(self, samples: Doubles) -> Doubles:
        count, channels = samples.shape
        blocks = count // _BLOCK
        whole = blocks * _BLOCK
        out = np.empty_like(samples)
        if blocks:
            x = samples[:whole].reshape(blocks, _BLOCK, channels).transpose(1, 0, 2).reshape(_BLOCK, -1)
            forced = (self._to_state @ x).reshape(-1, blocks, channels)
            states = np.empty_like(forced)
            for block in range(blocks):
                states[:, block] = self._state
                self._state = self._powers[_BLOCK] @ self._state + forced[:, block]
            y = self._direct @ x + self._from_state @ states.reshape(len(states), -1)
            out[:whole] = y.reshape(_BLOCK, blocks, channels).transpose(1, 0, 2).reshape(whole, channels)
        if rest := count - whole:
            x = samples[whole:]
            out[whole:] = self._direct[:rest, :rest] @ x + self._from_state[:rest] @ self._state
            self._state = self._powers[rest] @ self._state + self._to_state[:, _BLOCK - rest :] @ x
        return out


class _Taps:
    """An FIR filter, as ``scipy.signal.lfilter(taps, 1, x)`` computes it."""

    def __init__(self, taps: Doubles, channels: int, *, steady: bool) -> None:
        self._taps, self._steady = taps, steady
        self._before = np.zeros((len(taps) - 1, channels))

    def begin(self, first: Doubles) -> None:
        """Forget all samples; this one comes first."""
        self._before[...] = first if self._steady else 0.0

    def __call__(self, samples: Doubles) -> Doubles:
        known = np.concatenate([self._before, samples])
        self._before = known[len(samples) :]
        return np.stack([np.convolve(column, self._taps, "valid") for column in known.T], axis=1)


def _refuse_unstable(sos: Doubles) -> None:
    for number, section in enumerate(sos):
        a0, a1, a2 = section[3:]
        # Both poles are inside the unit circle: the triangle of stability.
        if abs(a0) < _LEAST or not (abs(a2 / a0) < 1 and abs(a1 / a0) < 1 + a2 / a0):
            raise ValueError(
                f"sos[{number}] is not stable: its poles must be inside the unit circle. "
                "A section is [b0, b1, b2, a0, a1, a2]"
            )


def _system(sos: Doubles) -> _Steps:
    """Return sections one behind the other as one system, with the states of direct form II transposed."""
    states = 2 * len(sos)

    def step(state: Doubles, x: float) -> tuple[Doubles, float]:
        following = np.empty(states)
        for number, (b0, b1, b2, _, a1, a2) in enumerate(sos):
            first, second = state[2 * number : 2 * number + 2]
            y = b0 * x + first
            following[2 * number] = b1 * x - a1 * y + second
            following[2 * number + 1] = b2 * x - a2 * y
            x = float(y)
        return following, x

    alone = [step(unit, 0.0) for unit in np.eye(states)]
    b, d = step(np.zeros(states), 1.0)
    return _Steps(np.stack([found for found, _ in alone], axis=1), b, np.array([y for _, y in alone]), d)


def _settled(sos: Doubles) -> Doubles:
    """Return the states long after a steady input of 1 began."""
    states: list[float] = []
    x = 1.0
    for b0, b1, b2, _, a1, a2 in sos:
        y = x * (b0 + b1 + b2) / (1 + a1 + a2)
        second = b2 * x - a2 * y
        states += [b1 * x - a1 * y + second, second]
        x = y
    return np.array(states)
