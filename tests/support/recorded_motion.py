"""Made-up recordings of motions that are easy to tell apart, in a folder as `limpet record` writes it."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import numpy as np

from limpet.recordings import folder as recordings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from limpet.contracts.data import FloatArray
    from limpet.recordings.folder import Recording

CHANNELS = ("ax", "ay", "az")
RATE = 50.0
HERTZ = {"idle": 0.0, "shake": 8.0, "walk": 2.0}


def motion(label: str, seconds: float, seed: int) -> FloatArray:
    """Return a motion of this label, float32 ``(n, 3)``: a sine of its frequency and noise."""
    random = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE)) / RATE
    phase = random.uniform(0, 6, 3)
    swing = np.sin(2 * np.pi * HERTZ[label] * t[:, np.newaxis] + phase) if HERTZ[label] else 0.0
    values = random.normal(0, 0.3, (len(t), 3)) + 2 * swing + np.array([0, 0, 9.8])
    return values.astype(np.float32)


def write(folder: Path, contents: Sequence[Sequence[tuple[str, FloatArray]]], **changes: object) -> Path:
    """Write recordings that consist of labelled parts; an empty label is none. ``changes`` to each description."""
    folder.mkdir(parents=True, exist_ok=True)
    found = [_write(folder, number, parts, changes) for number, parts in enumerate(contents)]
    (folder / recordings.MANIFEST).write_bytes(recordings.encode(recordings.Recordings(recordings=found)))
    return folder


def _write(
    folder: Path, number: int, parts: Sequence[tuple[str, FloatArray]], changes: dict[str, object]
) -> Recording:
    values = np.concatenate([part for _, part in parts])
    channels = list(CHANNELS[: values.shape[1]]) + [f"c{n}" for n in range(len(CHANNELS), values.shape[1])]
    spans, at = [], 0
    for label, part in parts:
        begin, at = at, at + len(part)
        if label:
            spans.append(recordings.Span(label, begin / RATE, at / RATE))
    name = f"2026-11-28T13-40-{number:02d}.csv"
    table = np.column_stack([np.arange(len(values)) / RATE, values])
    np.savetxt(folder / name, table, "%.7g", ",", header=",".join(["time", *channels]), comments="")
    described = {
        "file": name,
        "source": "imu",
        "kind": "serial",
        "channels": channels,
        "rate": RATE,
        "samples": len(values),
        "seconds": len(values) / RATE,
        "started": dt.datetime(2026, 11, 28, 13, 40, number, tzinfo=dt.timezone.utc),
        "spans": spans,
    }
    return recordings.Recording(**(described | changes))  # type: ignore[arg-type]
