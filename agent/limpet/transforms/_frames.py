"""Short overlapping frames of sound, and their spectra."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from limpet.contracts.data import Array, FloatArray

Doubles: TypeAlias = NDArray[np.float64]
Taper: TypeAlias = Literal["hann", "hamming", "povey", "none"]
Pad: TypeAlias = Literal["none", "zero", "reflect", "end"]

LARGEST = 1 << 24
"""Samples in all frames of a window, at most: what they take while they are transformed is some 300 MB."""


class Framing(NamedTuple):
    """How samples become frames, in samples.

    ``span``: samples that a frame takes; ``taper`` has one number for each of them. ``pad``: what is around a
    window so that frames are centred on its samples; ``"end"``: zeros behind it that fill the last frame.
    """

    span: int
    hop: int
    fft: int
    taper: Doubles
    pad: Pad
    power: int
    share: float = 1.0  # What the power is multiplied by.
    preemphasis: float = 0.0
    alone: bool = False  # Whether each frame has its mean taken out and its own preemphasis, as in Kaldi.

    @property
    def around(self) -> int:
        """Samples that are put before and behind a window."""
        return self.fft // 2 if self.pad in {"zero", "reflect"} else 0

    def count(self, samples: int) -> int:
        """Return how many frames a window of so many samples has."""
        left = samples + 2 * self.around - self.span
        return max(-(-left // self.hop), 0) + 1 if self.pad == "end" else left // self.hop + 1

    @property
    def steady(self) -> bool:
        """Whether a frame is the same in each window that it is wholly in."""
        return self.pad == "none" and (self.alone or not self.preemphasis)


def refuse_short(kind: str, framing: Framing, samples: int) -> None:
    """Raise ``ValueError`` if windows of so many samples have no frame, or cannot be padded, or are too large."""
    if framing.pad == "reflect" and samples <= framing.around:
        raise ValueError(f'{kind}: pad = "reflect" needs windows above {framing.around} samples, not {samples}')
    if framing.pad == "none" and samples < framing.span:
        raise ValueError(
            f"{kind} needs windows of {framing.span} samples or more, the length of a frame, not {samples}"
        )
    frames = framing.count(samples)
    if frames * framing.fft > LARGEST:
        raise ValueError(
            f"{kind}: {frames} frames of {framing.fft} samples are too much for one window; "
            f"the limit is {LARGEST} in all. Make hop larger, or fft or the window smaller"
        )


def refuse_large(kind: str, framing: Framing, shape: tuple[int, ...], numbers: int) -> None:
    """Raise ``ValueError`` if frames with so many numbers each are too much for windows of a shape."""
    frames, channels = framing.count(shape[0]), shape[1] if len(shape) > 1 else 1
    if frames * numbers * channels > LARGEST:
        raise ValueError(
            f"{kind}: {frames} frames of {numbers} numbers from {channels} channels are too much for one window; "
            f"the limit is {LARGEST} in all. Make hop larger, or the window smaller"
        )


def spectra(samples: Array, framing: Framing, first: int) -> FloatArray:
    """Return the magnitude or power of the frames of one channel from number ``first`` on, ``(frames, bins)``."""
    known = samples.astype(np.float32, copy=False)
    if framing.preemphasis and not framing.alone:
        known = np.concatenate([known[:1], known[1:] - np.float32(framing.preemphasis) * known[:-1]])
    known = _padded(known, framing)
    frames = np.lib.stride_tricks.sliding_window_view(known, framing.span)[first * framing.hop :: framing.hop]
    if framing.alone:
        frames = frames - frames.mean(axis=1, keepdims=True, dtype=frames.dtype)
        before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
        frames = frames - np.float32(framing.preemphasis) * before
    bins = np.fft.rfft(frames * framing.taper.astype(known.dtype), framing.fft, axis=1)
    power = np.square(bins.real)
    power += np.square(bins.imag)
    if framing.power == 1:
        np.sqrt(power, power)
    if framing.share != 1.0:
        power *= framing.share
    return power.astype(np.float32, copy=False)


def taper(name: Taper, size: int, *, symmetric: bool = False) -> Doubles:
    """Return what a frame is multiplied with: periodic, or symmetric around its middle."""
    if name == "none" or size == 1:
        return np.ones(size)
    turn = np.cos(2 * np.pi * np.arange(size) / (size - 1 if symmetric else size))
    if name == "hamming":
        return np.asarray(0.54 - 0.46 * turn)
    hann = 0.5 - 0.5 * turn
    return np.asarray(hann**0.85 if name == "povey" else hann)


def centred(taper: Doubles, size: int) -> Doubles:
    """Return a taper with zeros around it."""
    before = (size - len(taper)) // 2
    return np.pad(taper, (before, size - len(taper) - before))


def _padded(samples: Array, framing: Framing) -> Array:
    if framing.pad == "reflect":
        return np.pad(samples, framing.around, mode="reflect")
    if framing.pad == "zero":
        return np.pad(samples, framing.around)
    if framing.pad == "end":
        whole = (framing.count(len(samples)) - 1) * framing.hop + framing.span
        return np.pad(samples, (0, whole - len(samples)))
    return samples
