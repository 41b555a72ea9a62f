"""Clips of speech, and of none: Debian's flite and eSpeak NG speak them, noise is added at a stated ratio.

All clips are WAV files, 16 kHz, mono, 16 bits. They are the same in each run.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
import wave
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

RATE = 16_000
LOUDNESS = 0.25
"""Largest sample of speech, of full scale."""
FLOOR = 3e-4
"""Noise of a quiet room, of full scale: about -70 dB."""
BEFORE, AFTER = 1.0, 0.8
"""Seconds without speech."""


class Clip(NamedTuple):
    """A file and what is said in it. ``by_microphone``: the source ``audio`` hears it, too."""

    path: Path
    said: str
    by_microphone: bool = False


class Wanted(NamedTuple):
    """What a voice says. ``voice``: one of flite's, or of eSpeak NG's with "espeak/" before. ``snr`` in dB."""

    text: str
    voice: str
    snr: float | None = None
    by_microphone: bool = False


def clips(folder: Path, wanted: Sequence[Wanted]) -> list[Clip]:
    """Write clips into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for number, one in enumerate(wanted):
        noise = "" if one.snr is None else f"-{one.snr:.0f}dB"
        name = re.sub(r"[^a-z0-9]+", "_", f"{one.text or 'no speech'} {one.voice}".lower()) + noise
        path = folder / f"{number:02}-{name}.wav"
        write(path, mixed(one))
        found.append(Clip(path, one.text, one.by_microphone))
    return found


def mixed(wanted: Wanted) -> NDArray[np.float32]:
    """Return speech between silence, with noise. Without a text there is only noise, as loud as at 0 dB."""
    speech = say(wanted.text, wanted.voice) if wanted.text else np.zeros(RATE, np.float32)
    power = float(np.mean(speech**2)) if wanted.text else 0.05**2
    sound = np.concatenate([np.zeros(round(BEFORE * RATE)), speech, np.zeros(round(AFTER * RATE))])
    random = np.random.default_rng(zlib.crc32(repr(wanted).encode()))
    sound += FLOOR * random.standard_normal(len(sound))
    if wanted.snr is not None:
        noise = pink(random, len(sound))
        sound += noise * np.sqrt(power / 10 ** (wanted.snr / 10) / np.mean(noise**2))
    return sound.astype(np.float32)


def pink(random: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Return noise whose power falls with frequency, as that of rooms and streets does."""
    spectrum = np.fft.rfft(random.standard_normal(count))
    found: NDArray[np.float64] = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 20)), count)
    return found


def say(text: str, voice: str) -> NDArray[np.float32]:
    """Return what a voice says."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "said.wav"
        engine, _, name = voice.rpartition("/")
        command = ["flite", "-voice", name, "-t", text, "-o", str(path)]
        if engine:
            command = ["espeak-ng", "-v", name, "-s", "150", "-w", str(path), text]
        subprocess.run(command, check=True, capture_output=True)
        samples, rate = read(path)
    if rate != RATE:
        import soxr

        samples = soxr.resample(samples, rate, RATE)
    spoken = np.flatnonzero(np.abs(samples) > 0.01 * np.abs(samples).max())
    samples = samples[spoken[0] : spoken[-1] + 1]
    found: NDArray[np.float32] = (samples * LOUDNESS / np.abs(samples).max()).astype(np.float32)
    return found


def read(path: Path) -> tuple[NDArray[np.float32], int]:
    """Return mono samples from -1 to 1, and their rate."""
    samples, rate = read_integers(path)
    return samples.astype(np.float32) / 32768, rate


def read_integers(path: Path) -> tuple[NDArray[np.int16], int]:
    """Return mono samples as they are in the file, and their rate."""
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2), path
        return np.frombuffer(file.readframes(file.getnframes()), "<i2"), file.getframerate()


def write(path: Path, samples: NDArray[Any]) -> None:
    """Write samples from -1 to 1."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2").tobytes())
