"""What the transforms of sound share: their keys, and the stage that turns frames into rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, TypeAlias

import msgspec
import numpy as np
from msgspec import Meta
from msgspec.structs import replace

from limpet.contracts.fields import Positive
from limpet.transforms._frames import Framing, Pad, Taper, centred, refuse_short, spectra, taper
from limpet.transforms._streaming import sample_rate

if TYPE_CHECKING:
    from limpet.contracts.data import FloatArray, Window
    from limpet.contracts.stage import Spec

Samples: TypeAlias = Annotated[int, Meta(ge=1, le=1 << 15)]
Scale: TypeAlias = Literal["none", "db", "ln", "log10"]
EachRow: TypeAlias = Callable[["FloatArray"], "FloatArray"]
"""What becomes of spectra ``(frames, bins)``, row by row."""
AllRows: TypeAlias = Callable[["FloatArray"], "FloatArray"]
"""What becomes of all rows of a window together."""


class SoundKeys(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Frames and their logarithms. What is missing is as in the library that ``like`` names."""

    frame: Samples | None = None
    """Samples in a frame. Default: that of `like`. Example: `400`."""
    hop: Samples | None = None
    """Samples from the start of one frame to the next. Default: that of `like`. Example: `160`."""
    fft: Samples | None = None
    """Size of the Fourier transform, at least `frame`. Default: that of `like`. Example: `512`."""
    taper: Taper | None = None
    """What a frame is multiplied with. Default: that of `like`. Example: `"hann"`."""
    pad: Pad | None = None
    """What is around a window: nothing, zeros or its mirror image, so that frames are centred on samples, or zeros
    behind it alone. Default: that of `like`. Example: `"none"`."""
    power: Annotated[int, Meta(ge=1, le=2)] | None = None
    """1: magnitude. 2: power. Default: that of `like`."""
    scale: Scale | None = None
    """`"db"`, a logarithm, or the numbers as they are. Default: that of `like`."""
    offset: Annotated[float, Meta(ge=0, le=1e9)] | None = None
    """What is added before the logarithm. Default: that of `like`. Example: `0.001`."""
    least: Annotated[float, Meta(ge=0, le=1e9)] | None = None
    """Smallest number of which the logarithm is taken. Default: that of `like`. Example: `1e-10`."""
    reference: Positive | Literal["max"] = 1.0
    """What is 0 dB: a number, or `"max"` for the largest number of a window."""
    top_db: Annotated[float, Meta(ge=0, le=1e9)] | None = None
    """Decibels below a window's largest number at which smaller ones are cut; 0 for no limit. Default: that of
    `like`. Example: `80`."""


class Defaults(NamedTuple):
    """What a library takes where nothing is set. ``None`` has to be set."""

    frame: int | None = None
    hop: int | None = None
    fft: int | None = None
    taper: Taper = "hann"
    pad: Pad = "none"
    power: int = 1
    scale: Scale = "ln"
    offset: float = 0.0
    least: float = 0.0
    top_db: float = 0.0
    bands: int = 0
    low: float = 0.0
    high: float = 0.0  # 0: half the rate.
    centred: bool = False  # Whether a frame that is shorter than the FFT is in its middle.


class Logarithm(NamedTuple):
    """``scale`` of numbers of a power; ``top_db`` 0 for none; ``reference`` ``None`` for the largest number."""

    scale: Scale
    power: int
    offset: float
    least: float
    reference: float | None
    top_db: float

    def each(self, rows: FloatArray) -> FloatArray:
        """Return the logarithm of numbers, in place. 0 becomes -inf unless ``least`` or ``offset`` is above 0."""
        if self.scale == "none":
            return rows
        if self.offset:
            rows += np.float32(self.offset)
        if self.least:
            np.maximum(rows, np.float32(self.least), out=rows)
        np.log10(rows, rows) if self.scale in {"db", "log10"} else np.log(rows, rows)
        if self.scale == "db":
            rows *= np.float32(20 / self.power)
            if self.reference is not None:
                level = max(self.reference, self.least)
                rows -= np.float32(20 / self.power * np.log10(level))
        return rows

    @property
    def all(self) -> AllRows | None:
        """What is left to do once all rows of a window are there; ``None`` for nothing."""
        if self.scale != "db" or (self.reference is not None and not self.top_db):
            return None
        return self._relative

    def _relative(self, rows: FloatArray) -> FloatArray:
        highest = rows.max()
        if self.reference is None:
            rows = rows - highest
            highest = np.float32(0)
        return np.maximum(rows, highest - np.float32(self.top_db)) if self.top_db else rows


def framing_of(kind: str, keys: SoundKeys, like: str, default: Defaults, spec: Spec) -> Framing:
    """Return how frames are cut. ``ValueError`` where windows do not fit, or a key is missing."""
    sample_rate(kind, spec)
    if len(spec.shape) not in (1, 2) or spec.shape[0] < 1:
        raise ValueError(f"{kind} takes arrays (samples, channels) of one size, not {list(spec.shape)}")
    frame, hop, fft = keys.frame or default.frame, keys.hop or default.hop, keys.fft or default.fft
    if default.centred:
        frame = frame or fft
        fft = fft if keys.fft or not keys.frame else max(fft or 0, keys.frame)
        hop = keys.hop or (frame and max(frame // 4, 1))
    if frame is None or hop is None:
        raise ValueError(f'{kind}: like = "{like}" needs frame and hop, in samples')
    fft = fft or 1 << (frame - 1).bit_length()
    if keys.fft is None and fft < frame:
        fft = 1 << (frame - 1).bit_length()
    if fft < frame:
        raise ValueError(f"{kind}: fft is {fft}; it must be at least the frame's {frame} samples")
    shape = taper(keys.taper or default.taper, frame)
    span = fft if default.centred else frame
    framing = Framing(span, hop, fft, centred(shape, span), keys.pad or default.pad, keys.power or default.power)
    refuse_short(kind, framing, spec.shape[0])
    return framing


def logarithm_of(kind: str, keys: SoundKeys, default: Defaults, power: int) -> Logarithm:
    """Return a configuration's logarithm. ``ValueError`` where decibels are set and it has none."""
    scale = keys.scale or default.scale
    if scale != "db" and (keys.top_db or keys.reference != 1.0):
        raise ValueError(f'{kind}: top_db and reference are for scale = "db", not "{scale}"')
    return Logarithm(
        scale,
        power,
        default.offset if keys.offset is None else keys.offset,
        (default.least ** (power / 2) if default.least else 0.0) if keys.least is None else keys.least,
        None if keys.reference == "max" else keys.reference,
        default.top_db if keys.top_db is None else keys.top_db,
    )


class Spectral:
    """Real arrays ``(samples,)`` or ``(samples, channels)`` to float32 ``(frames, bands)``.

    Of several channels it makes ``(frames, bands, channels)``. Frames that the window before had too are not
    computed again, if windows start whole hops apart and nothing is put around them.
    """

    def __init__(
        self, spec: Spec, framing: Framing, bands: int, each: EachRow, every: AllRows | None = None
    ) -> None:
        self._framing, self._each, self._every = framing, each, every
        size, channels = spec.shape[0], spec.shape[1] if len(spec.shape) > 1 else 1
        frames = framing.count(size)
        shape = (frames, bands) if channels == 1 else (frames, bands, channels)
        hop = None if spec.hop is None or spec.hop % framing.hop else spec.hop // framing.hop
        self._kept = max(frames - hop, 0) if framing.steady and hop is not None else 0
        rate = spec.rate and spec.rate / framing.hop
        names = spec.channels if channels > 1 else ()
        self.spec = replace(spec, shape=shape, dtype=np.dtype(np.float32), rate=rate, hop=hop, channels=names)
        self._rows: list[FloatArray | None] = [None] * channels
        self._out = np.empty(shape, np.float32)

    def __call__(self, window: Window) -> Window:
        """Return the window with its rows. A NaN is in all rows of its frames, or of the window."""
        samples = window.values.reshape(len(window.values), -1)
        for channel, out in enumerate(self._out.reshape(*self._out.shape[:2], -1).transpose(2, 0, 1)):
            rows = self._rows_of(samples[:, channel], self._rows[channel])
            if self._kept:
                self._rows[channel] = rows
            out[...] = rows if self._every is None else self._every(rows)
        window.values = self._out
        return window

    def reset(self) -> None:
        """Forget the frames of the window before."""
        self._rows = [None] * len(self._rows)

    def _rows_of(self, samples: FloatArray, before: FloatArray | None) -> FloatArray:
        if before is None:
            return self._each(spectra(samples, self._framing, 0))
        new = self._each(spectra(samples, self._framing, self._kept))
        return np.concatenate([before[len(before) - self._kept :], new])
