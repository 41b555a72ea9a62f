"""Made-up recordings of sounds that are easy to tell apart, in a folder as `limpet record` writes it."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from limpet.recordings import folder as recordings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from limpet.contracts.data import FloatArray

RATE = 16_000
SOUNDS = ("hiss", "hum", "knock")


def sound(label: str, seconds: float, seed: int, rate: int = RATE) -> FloatArray:
    """Return a sound of this label, float32 ``(n, 1)``, with noise and a loudness of its own."""
    random = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate)) / rate
    noise = random.standard_normal(len(t))
    if label == "hum":
        found = np.sin(2 * np.pi * random.uniform(90, 130) * t) + np.sin(2 * np.pi * random.uniform(280, 330) * t)
    elif label == "knock":
        found = np.sin(2 * np.pi * 2500 * t) * np.exp(-30 * (t * random.uniform(7, 9) % 1))
    else:
        found = 0.3 * np.diff(noise, prepend=0)
    found = random.uniform(0.05, 0.2) * (found + 0.1 * noise)
    return found.astype(np.float32)[:, np.newaxis]


def write(
    folder: Path, contents: Sequence[Sequence[tuple[str, FloatArray]]], suffix: str = ".wav", **changes: object
) -> Path:
    """Write recordings of labelled parts as 16-bit integers; an empty label is none."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for number, parts in enumerate(contents):
        values = np.concatenate([part for _, part in parts])
        described = {"rate": float(RATE), "channels": [f"ch{n + 1}" for n in range(values.shape[1])]} | changes
        rate, name = described["rate"], f"2026-11-28T13-40-{number:02d}{suffix}"
        soundfile.write(folder / name, values, int(float(str(rate))), "PCM_16")
        spans, at = [], 0.0
        for label, part in parts:
            begin, at = at, at + len(part) / float(str(rate))
            if label:
                spans.append(recordings.Span(label, round(begin, 6), round(at, 6)))
        described |= {
            "file": name,
            "source": "microphone",
            "kind": "audio",
            "samples": len(values),
            "seconds": at,
            "started": dt.datetime(2026, 11, 28, 13, 40, number, tzinfo=dt.timezone.utc),
            "spans": spans,
        }
        found.append(recordings.Recording(**described | changes))  # type: ignore[arg-type]
    (folder / recordings.MANIFEST).write_bytes(recordings.encode(recordings.Recordings(recordings=found)))
    return folder
