"""A microphone or another sound input, by ALSA or PortAudio.

Samples are float32 ``(channels,)`` from -1 to 1. If the device does not have ``rate``, it is read at a higher one,
and soxr resamples with a low-pass. What was dropped or is wrong is counted by cause:

``overrun``     samples that were lost, as they were not read in time
``silence``     how often the device began to send only zeros, or one value, for 5 s: it may be muted
``clipping``    how often more than 1 % of the samples were at full scale
``dc_offset``   how often the samples were around another value than 0

The samples of the last three are delivered all the same. While such a fault lasts, the reason in health names it.
"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta

from limpet.contracts.data import Samples, SampleSpec, empty_samples
from limpet.contracts.needs import Needs
from limpet.errors import SourceError
from limpet.sources import _alsa
from limpet.sources._capture import Wanted
from limpet.sources._sound_clock import SoundClock
from limpet.sources._sound_watch import SoundWatch

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from limpet.contracts.data import FloatArray
    from limpet.sources._capture import Capture, Chunk
    from limpet.sources._resampling import Resampling

IDLE = 0.5
"""Seconds without a frame after which the source shows that it is alive."""
PATIENCE = 10.0
"""Seconds without a frame after which the device is opened again."""
_LINUX = sys.platform == "linux"


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One sound input."""

    device: Annotated[str, Meta(min_length=1, max_length=200)]
    """Name of the device for ALSA, best by the card's id, which `limpet devices` shows; or PortAudio's name of
    it. Example: `"hw:CARD=Device,DEV=0"`."""
    rate: Annotated[int, Meta(ge=1000, le=384_000)] = 16_000
    """Samples a second that the source gives. If the device has another rate, Limpet resamples."""
    channels: list[Annotated[int, Meta(ge=1, le=256)]] | Literal["mix"] = []
    """Channels of the device to use, from 1, or `"mix"`: the mean of all. Default: the first one. Example: `[1,
    2]`."""
    gain: Annotated[float, Meta(ge=-60, le=60)] = 0.0
    """Amplification in dB. Samples beyond full scale are limited to it, and count as clipped. Example: `12`."""
    buffer: Annotated[float, Meta(ge=0.1, le=10)] = 0.5
    """Seconds of sound that the device keeps while the source does not read."""
    backend: Literal["alsa", "portaudio"] | None = None
    """Library that reads the device. Default: `"alsa"` on Linux, else `"portaudio"`."""

    def __post_init__(self) -> None:
        if isinstance(self.channels, list) and len(set(self.channels)) < len(self.channels):
            raise ValueError("channels: a number appears twice")


def _chosen(config: Config) -> list[int]:
    """Return the channels that are used, from 1; none if all are mixed."""
    return [] if config.channels == "mix" else config.channels or [1]


def _by_alsa(config: Config) -> bool:
    return (config.backend or ("alsa" if _LINUX else "portaudio")) == "alsa"


def needs(config: Config) -> Needs:
    """Return the device nodes of the card, and what libasound reads to find it. PortAudio looks at all cards."""
    if not _LINUX:
        return Needs()
    device = config.device if _by_alsa(config) else ""
    return Needs(devices=_alsa.nodes(device), read=_alsa.configuration())


def describe(config: Config) -> SampleSpec:
    """Return that samples are float32 ``(channels,)`` at ``rate``."""
    return SampleSpec(
        (max(len(_chosen(config)), 1),), np.dtype(np.float32), rate=float(config.rate), patience=PATIENCE
    )


@contextmanager
def open(config: Config, dropped: Counter[str]) -> Iterator[Iterator[Samples]]:
    """Open the device. See ``contracts.source.Source``; the causes in ``dropped`` stand above."""
    with _opened(config) as capture:
        yield _samples(config, capture, dropped)


def _opened(config: Config) -> AbstractContextManager[Capture]:
    wanted = Wanted(config.device, config.rate, max(_chosen(config), default=0), config.buffer)
    if _by_alsa(config):
        return _alsa.opened(wanted)
    from limpet.sources import _portaudio

    return _portaudio.opened(wanted)


def _samples(config: Config, capture: Capture, dropped: Counter[str]) -> Iterator[Samples]:
    shaper = _Shaper(config, capture, dropped)
    spec = describe(config)
    heard = shown = time.monotonic()
    while True:
        if chunk := capture.read(IDLE):
            for samples in shaper.shape(chunk):
                yield samples
                shown = time.monotonic()
            heard = time.monotonic()  # the reader may take long
        elif time.monotonic() - shown >= IDLE:
            shown = time.monotonic()
            yield empty_samples(spec, shaper.next, _STOPPED if shown - heard > PATIENCE / 2 else "")


_STOPPED = "the device is open and gives no samples"


class _Shaper:
    """Makes samples of a device's frames: channels, gain, rate, times. ``next``: the ordinal of the next one."""

    def __init__(self, config: Config, capture: Capture, dropped: Counter[str]) -> None:
        self.next = 0
        self._columns = [number - 1 for number in _chosen(config)]
        self._factor = np.float32(10 ** (config.gain / 20))
        self._rate = config.rate
        self._dropped = dropped
        self._clock = SoundClock(capture.rate)
        self._watch = SoundWatch(capture.rate, _names(config), dropped)
        self._resampling = _resampling(config, capture)
        self._last_ns = 0
        self._gap = self._started = False

    def shape(self, chunk: Chunk) -> Iterator[Samples]:
        """Yield samples, possibly none: the resampling holds some back."""
        gap = chunk.gap and self._started
        if gap:
            yield from self._rest()
            self._clock.restart()
        before = self._clock.last_ns
        first = self._clock.advance(len(chunk.values), chunk.last_ns)
        if gap:
            self._skip(round((first - before) * self._rate / 1e9))
        if gap or not self._started:
            self._last_ns = max(round(first), self._last_ns)
        self._started = True
        values = self._chosen(chunk.values)
        self._watch.see(values)
        if self._resampling is not None:
            values = self._resampling.feed(values)
        yield from self._timed(values)

    def _skip(self, lost: int) -> None:
        """Count samples that were lost, so that the next one has a later ordinal."""
        self._gap = True
        self._dropped["overrun"] += max(lost, 0)
        self.next += max(lost, 0)

    def _chosen(self, frames: FloatArray) -> FloatArray:
        if self._columns:
            values = frames[:, self._columns]
        else:
            values = frames.mean(axis=1, keepdims=True, dtype=np.float32)
        if self._factor != 1:
            np.clip(values * self._factor, -1, 1, out=values)
        return values

    def _rest(self) -> Iterator[Samples]:
        """Yield what the resampling holds back, before a gap."""
        if self._resampling is not None:
            yield from self._timed(self._resampling.rest())

    def _timed(self, values: FloatArray) -> Iterator[Samples]:
        """Yield samples with times: evenly from the sample before to where the device's clock is."""
        count = len(values)
        if not count:
            return
        held = self._resampling.held_ns if self._resampling is not None else 0
        length = max(round(self._clock.last_ns) - held - self._last_ns, count)
        stamps = self._last_ns + np.arange(1, count + 1, dtype=np.int64) * length // count
        self._last_ns = int(stamps[-1])
        wall = stamps + (time.time_ns() - time.monotonic_ns())
        index, self.next = self.next, self.next + count
        gap, self._gap = self._gap, False
        yield Samples(values, stamps, wall, index, gap, self._watch.remark)


def _names(config: Config) -> list[str]:
    """Return what to call each channel in a sentence."""
    chosen = _chosen(config)
    return [f"{config.device} channel {number}" for number in chosen] if len(chosen) > 1 else [config.device]


def _resampling(config: Config, capture: Capture) -> Resampling | None:
    """Return what changes the device's rate to the wanted one, if they differ. ``SourceError`` without soxr."""
    if capture.rate == config.rate:
        return None
    try:
        from limpet.sources._resampling import Resampling
    except ModuleNotFoundError as error:
        raise SourceError(
            f"{config.device}: gives {capture.rate} samples a second, not {config.rate}. "
            f"Set rate = {capture.rate}, or install soxr. Run: pip install 'limpet[audio]'"
        ) from error
    return Resampling(capture.rate, config.rate, describe(config).shape[0])
