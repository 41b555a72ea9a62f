"""PortAudio's capture devices by the package sounddevice, for systems without ALSA."""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from limpet.errors import SourceError
from limpet.sources._capture import Chunk, rates
from limpet.wording import MOST_OF_A_REASON

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.contracts.data import FloatArray
    from limpet.sources._capture import Wanted

DEFAULT = "default"
"""The name of the device that the system has as its default."""
STEREO = 2
"""Channels that are mixed, at most: a sound server offers more than there are."""
WAITING = 512
"""Chunks that wait to be read, at most; beyond, they are an overrun."""


@contextmanager
def opened(wanted: Wanted) -> Iterator[PortAudioCapture]:
    """Open a device by its name or a part of it. ``SourceError`` says why it cannot be used."""
    try:
        import sounddevice
    except (ModuleNotFoundError, OSError) as error:  # OSError: its library is missing
        raise SourceError(
            "PortAudio is not installed. Run: pip install sounddevice; on Debian also: "
            "sudo apt install libportaudio2"
        ) from error
    with _counted() as first:
        try:
            if first:
                _look_again(sounddevice)
            capture = PortAudioCapture(sounddevice, wanted)
        except (sounddevice.PortAudioError, ValueError) as error:
            raise SourceError(f"{wanted.device}: {str(error)[:MOST_OF_A_REASON]}. Run: limpet devices") from error
        with capture.stream:
            yield capture


_open: list[None] = []
"""One for each capture of this process."""


@contextmanager
def _counted() -> Iterator[bool]:
    """Count a capture. Give whether it is the only one of this process."""
    _open.append(None)
    try:
        yield len(_open) == 1
    finally:
        _open.pop()


def _look_again(sounddevice: Any) -> None:
    """Have PortAudio find the devices that there are now. It does so only at its start, which is here, too.

    Its end would end all streams. The package has no other names for this than these two.
    """
    sounddevice._terminate()  # noqa: SLF001 - there is no public way
    sounddevice._initialize()  # noqa: SLF001


class PortAudioCapture:
    """An open device. See ``limpet.sources._capture.Capture``."""

    def __init__(self, sounddevice: Any, wanted: Wanted) -> None:
        """Open it. ``ValueError`` and ``PortAudioError`` if that does not work."""
        self._device = wanted.device
        name = None if wanted.device == DEFAULT else wanted.device
        most = int(sounddevice.query_devices(name, "input")["max_input_channels"])
        if most < wanted.channels:
            raise SourceError(f"{wanted.device}: has {most} channels; `channels` needs {wanted.channels}")
        self.channels = wanted.channels or min(most, STEREO)
        self.rate = self._choose_rate(sounddevice, name, wanted.rate)
        self._chunks: deque[Chunk] = deque()
        self._most = max(2, min(WAITING, round(wanted.buffer / 0.03)))
        self._arrived = threading.Condition()
        self._gap = False
        self.stream = sounddevice.InputStream(
            samplerate=self.rate,
            blocksize=round(self.rate * 0.03),
            device=name,
            channels=self.channels,
            dtype="float32",
            callback=self._take,
        )

    def _choose_rate(self, sounddevice: Any, name: str | None, wanted: int) -> int:
        reason: Exception | None = None
        for rate in rates(wanted):
            try:
                sounddevice.check_input_settings(name, self.channels, "float32", samplerate=rate)
            except sounddevice.PortAudioError as error:
                reason = reason or error
            else:
                return rate
        raise SourceError(f"{self._device}: {reason}"[:MOST_OF_A_REASON])

    def _take(self, values: FloatArray, count: int, times: Any, status: Any) -> None:
        """Take what PortAudio's own thread brings. ``values`` belong to it."""
        latency = times.currentTime - times.inputBufferAdcTime - count / self.rate
        latency = latency if 0 <= latency < 1 else 0.0  # some systems do not say
        last = time.monotonic_ns() - round(latency * 1e9)
        with self._arrived:
            self._gap |= bool(status.input_overflow)
            if len(self._chunks) >= self._most:
                self._gap = True
                return
            self._chunks.append(Chunk(values.copy(), last, self._gap))
            self._gap = False
            self._arrived.notify()

    def read(self, seconds: float) -> Chunk | None:
        """Wait for frames. Maximum: ``seconds``. ``SourceError`` if the device is gone."""
        with self._arrived:
            self._arrived.wait_for(lambda: self._chunks, seconds)
            if self._chunks:
                return self._chunks.popleft()
        if not self.stream.active:
            raise SourceError(f"{self._device}: was unplugged")
        return None
