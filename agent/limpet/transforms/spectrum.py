"""How strong each band of frequencies is, channel by channel."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta
from msgspec.structs import replace

from limpet.contracts.fields import Count

if TYPE_CHECKING:
    from limpet.contracts.data import FloatArray, Window
    from limpet.contracts.stage import Spec

_FLOOR = 1e-12
"""Mean square of -120 dB: what ``log`` gives for silence."""


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The root mean square of each channel in each band, in the source's unit; with ``log``, its level in dB.

    ``bands`` are rising edges in Hz. Each band has its lower edge and not its upper one. A number means so many
    bands of equal width from 0 Hz to half the rate. A window is multiplied with ``window`` before it is
    transformed: ``hann`` keeps a tone out of far bands. A steady part, such as gravity, is at 0 Hz. With ``hann``
    it is at the next frequency (rate / samples) as well. To leave it out, start above both.
    """

    bands: Count | Annotated[list[float], Meta(min_length=2)]
    """Rising edges in Hz, or how many bands of equal width reach from 0 Hz to half the rate. Example: `[1, 5, 10,
    25]`."""
    window: Literal["hann", "none"] = "hann"
    """What a window is multiplied with before it is transformed. `"hann"` keeps a tone out of far bands."""
    log: bool = False
    """Give the level in dB in place of the root mean square in the source's unit."""

    def __post_init__(self) -> None:
        if isinstance(self.bands, list) and not all(0 <= low < high for low, high in pairwise(self.bands)):
            raise ValueError(f"bands must be rising edges in Hz from 0 on, not {self.bands}")


def open(config: Config, spec: Spec) -> Spectrum:
    """Prepare for arrays ``(samples, channels)`` or ``(samples,)`` at ``spec.rate``.

    ``ValueError`` where the rate or the number of samples is open, or too low for a band.
    """
    if spec.rate is None:
        raise ValueError(
            "spectrum needs samples at a steady rate; set the source's rate, or a window in seconds with a size"
        )
    if len(spec.shape) not in (1, 2) or spec.shape[0] < 2:
        raise ValueError(f"spectrum takes arrays (samples, channels) of 2 samples or more, not {list(spec.shape)}")
    if isinstance(config.bands, int) and config.bands > spec.shape[0]:
        raise ValueError(
            f"no frequency is in some of spectrum's {config.bands} bands: {spec.shape[0]} samples have "
            f"{spec.shape[0] // 2 + 1} frequencies. Make the window longer or the bands fewer"
        )
    edges = _edges(config.bands, spec.rate)
    return Spectrum(_band_starts(edges, spec.shape[0], spec.rate), spec, config.window, log=config.log)


class Spectrum:
    """Real arrays ``(samples, channels)`` to float32 ``(bands, channels)``; one buffer serves all calls.

    X is the discrete Fourier transform of the n samples times the window w. Frequency k has the mean
    square 2 |X_k|^2 / (n sum(w^2)), half of that at 0 Hz and at half the rate. A band's value is the root of the
    sum over its frequencies. A sine of amplitude A has A / sqrt(2) in its band. Without a window, the squares of
    all bands add up to the mean square of the samples (Parseval). The level is 20 log10 of the value, in dB of one
    unit, at least -120 dB.

    Source: G. Heinzel, A. Rüdiger, R. Schilling, Spectrum and spectral density estimation by the Discrete
    Fourier transform, 2002, section 9 (normalisation by S2 = sum(w^2)).
    """

    def __init__(self, starts: list[int], spec: Spec, window: str, *, log: bool) -> None:
        size, *rest = spec.shape
        self.spec = replace(spec, shape=(len(starts) - 1, *rest), dtype=np.dtype(np.float32), rate=None, hop=None)
        self._log = log
        self._out = np.empty(self.spec.shape, np.float32)
        self._bins = slice(starts[0], starts[-1])
        self._starts = np.array(starts[:-1]) - starts[0]
        self._window = _window(window, size).reshape(-1, *[1] * len(rest))
        share = _share(size, float(np.sum(self._window.astype(np.float64) ** 2)))
        self._share = share[self._bins].reshape(-1, *[1] * len(rest))

    def __call__(self, window: Window) -> Window:
        """Return the window with its bands. A NaN or an infinity in a channel makes all its bands NaN."""
        bins = np.fft.rfft(window.values * self._window, axis=0)[self._bins]
        power = np.square(bins.real)
        power += np.square(bins.imag)
        power *= self._share
        out = self._out
        out[...] = np.add.reduceat(power, self._starts, axis=0)
        if self._log:
            np.maximum(out, _FLOOR, out=out)
            np.log10(out, out)
            np.multiply(out, 10, out)
        else:
            np.sqrt(out, out)
        window.values = out
        return window

    def reset(self) -> None:
        """Do nothing: nothing is remembered."""


def _edges(bands: int | list[float], rate: float) -> list[float]:
    half = rate / 2
    if isinstance(bands, int):
        return [half * band / bands for band in range(bands + 1)]
    if bands[-1] > half:
        raise ValueError(f"spectrum's last edge, {bands[-1]:g} Hz, is above {half:g} Hz, half the source's rate")
    return bands


def _band_starts(edges: list[float], size: int, rate: float) -> list[int]:
    """Return for each edge the first frequency that is not below it; half the rate is in the last band."""
    resolution = rate / size
    # Frequencies that miss an edge by rounding alone count as on it.
    starts = [int(np.ceil(edge / resolution - 1e-9)) for edge in edges]
    if edges[-1] >= rate / 2:
        starts[-1] = size // 2 + 1
    for band, (start, following) in enumerate(pairwise(starts)):
        if start == following:
            raise ValueError(
                f"no frequency is in spectrum's band {edges[band]:g} to {edges[band + 1]:g} Hz: "
                f"{size} samples at {rate:g} a second have a resolution of {resolution:g} Hz. "
                "Make the window longer or the band wider"
            )
    return starts


def _window(name: str, size: int) -> FloatArray:
    """Return the periodic window, which repeats without a doubled value: Heinzel et al., section 8.1."""
    if name == "none":
        return np.ones(size, np.float32)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    return hann.astype(np.float32)


def _share(size: int, squares: float) -> FloatArray:
    """Return what |X_k|^2 is to be multiplied by to give the mean square at frequency k."""
    share = np.full(size // 2 + 1, 2 / (size * squares))
    share[0] /= 2
    if size % 2 == 0:
        share[-1] /= 2
    return share.astype(np.float32)
