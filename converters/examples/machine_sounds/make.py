"""Make recordings of machines that run well, and of machines that fail. The sounds are synthetic.

    python converters/examples/machine_sounds/make.py sounds --machines 10
    python converters/examples/machine_sounds/make.py held-out --machines 4 --first 100

Each machine is a fan or a pump. Its speed, blades, bearing, casing, microphone and room come from a seed, which is
its number. So machines of other numbers are other machines. A recording is one machine with its four states:

``normal``      tones of the shaft, the blades and the mains, and the noise of the flow
``imbalance``   the shaft's own tone is stronger, and the flow's noise swells with each turn
``bearing``     balls run over a defect of the outer ring, and each time the casing rings
``cavitation``  bubbles collapse: many short clicks, more of them when a blade passes

This is simple physics. It is good enough to learn how Limpet works with sound, and no measure of real machines.
"""

from __future__ import annotations

import argparse
import datetime as dt
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from limpet.recordings import folder as recordings

if TYPE_CHECKING:
    from numpy.random import Generator

Sound: TypeAlias = NDArray[np.float64]

RATE = 16_000
STATES = ("normal", "imbalance", "bearing", "cavitation")
STARTED = dt.datetime(2026, 11, 28, 8, 0, tzinfo=dt.timezone.utc)


@dataclass(frozen=True)
class Machine:
    """``shaft``: turns a second. ``defects``: balls over a defect, by turn. ``ring``: the casing's tone in Hz.

    ``severity``: how strong faults are, 1 is usual. ``room``: level of other noise. ``gain``: of the microphone.
    ``tilt``: how much of high tones the microphone loses, 0 to 1.
    """

    shaft: float
    blades: int
    defects: float
    ring: float
    severity: float
    flow: float
    room: float
    gain: float
    tilt: float


def machine(random: Generator) -> Machine:
    """Return a machine."""
    balls = int(random.integers(7, 12))
    ratio = random.uniform(0.2, 0.32)  # of the ball's diameter to the pitch diameter
    return Machine(
        shaft=random.uniform(22, 49),
        blades=int(random.integers(5, 10)),
        defects=balls / 2 * (1 - ratio),
        ring=random.uniform(2200, 5200),
        severity=10 ** random.uniform(-0.3, 0.2),
        flow=10 ** random.uniform(-0.2, 0.2),
        room=10 ** random.uniform(-1.3, -0.6),
        gain=10 ** random.uniform(-0.4, 0.4),
        tilt=random.uniform(0, 0.6),
    )


def noise(random: Generator, count: int, slope: float) -> Sound:
    """Return noise with a deviation of 1 whose power falls with the frequency to the power of ``slope``."""
    spectrum = np.fft.rfft(random.standard_normal(count))
    frequency = np.fft.rfftfreq(count, 1 / RATE)
    found = np.fft.irfft(spectrum * np.maximum(frequency, 30) ** (-slope / 2), count)
    return np.asarray(found / found.std())


def rung(hits: Sound, tone: float, seconds: float) -> Sound:
    """Return what is heard of hits on something that rings with a tone for so long."""
    time = np.arange(round(6 * seconds * RATE)) / RATE
    answer = np.sin(2 * np.pi * tone * time) * np.exp(-time / seconds)
    size = len(hits) + len(answer)
    found = np.fft.irfft(np.fft.rfft(hits, size) * np.fft.rfft(answer, size), size)
    return np.asarray(found[: len(hits)])


def turns(one: Machine, random: Generator, count: int) -> Sound:
    """Return how often the shaft has turned by each sample. Its speed wanders, and differs each time."""
    drift = np.cumsum(noise(random, count, 0)) / np.sqrt(count)
    speed = one.shaft * random.uniform(0.95, 1.05) * (1 + 0.004 * drift / max(1.0, np.abs(drift).max()))
    return np.asarray(np.cumsum(speed) / RATE + random.uniform())


def sound(one: Machine, state: str, seconds: float, random: Generator) -> Sound:
    """Return what a microphone hears of a machine in a state, ``(n,)``."""
    count = round(seconds * RATE)
    turned = turns(one, random, count)
    severity = one.severity * random.uniform(0.8, 1.2)
    swell = 1.0 + (0.5 * severity if state == "imbalance" else 0.05) * np.sin(2 * np.pi * turned)
    heard = 0.1 * one.flow * swell * noise(random, count, 1.2)
    heard += (0.12 * severity if state == "imbalance" else 0.015) * np.sin(2 * np.pi * turned)
    for harmonic in (1, 2, 3):
        heard += 0.05 / harmonic * np.sin(2 * np.pi * harmonic * one.blades * turned + random.uniform(0, 6))
    heard += 0.02 * np.sin(2 * np.pi * 100 * np.arange(count) / RATE)
    if state == "bearing":
        heard += 0.25 * severity * _defects(one, turned, random)
    if state == "cavitation":
        heard += 0.3 * severity * _bubbles(one, turned, random)
    heard += one.room * (0.4 * noise(random, count, 1.0) + 0.3 * _clatter(random, count))
    return _microphone(one, heard)


def _defects(one: Machine, turned: Sound, random: Generator) -> Sound:
    """Return a ringing for each ball that passes the defect. Balls slip, so the times vary by a percent."""
    passes = np.arange(turned[0] * one.defects, turned[-1] * one.defects)
    passes += np.cumsum(0.01 * random.standard_normal(len(passes)))
    at = np.searchsorted(turned, passes / one.defects)
    at = at[(at > 0) & (at < len(turned))]
    hits = np.zeros(len(turned))
    hits[at] = 1 + 0.3 * random.standard_normal(len(at))
    return rung(hits, one.ring, 0.003)


def _bubbles(one: Machine, turned: Sound, random: Generator) -> Sound:
    """Return the clicks of bubbles, some 900 a second, in tones of several sizes."""
    blade = 1 + 0.6 * np.sin(2 * np.pi * one.blades * turned)
    found = np.zeros(len(turned))
    for tone in (2600.0, 4100.0, 6300.0):
        hits = random.random(len(turned)) < 300 / RATE * blade
        found += rung(hits * random.exponential(0.3, len(turned)), tone, 0.0007)
    return found


def _clatter(random: Generator, count: int) -> Sound:
    """Return what else falls or is hit in the room, about once in three seconds, whatever the machine does."""
    hits = (random.random(count) < 1 / (3 * RATE)) * random.exponential(3.0, count)
    return rung(hits, random.uniform(500, 3000), 0.02)


def _microphone(one: Machine, heard: Sound) -> Sound:
    """Return what is left of high tones, at the microphone's gain, within full scale."""
    frequency = np.fft.rfftfreq(len(heard), 1 / RATE)
    response = 1 - one.tilt * frequency / frequency[-1]
    return np.clip(one.gain * np.fft.irfft(np.fft.rfft(heard) * response, len(heard)), -1, 1)


def write(output: Path, number: int, seconds: float) -> recordings.Recording:
    """Write the recording of a machine, and return its description."""
    random = np.random.default_rng(number)
    one = machine(random)
    order = random.permutation(STATES).tolist()
    whole = np.concatenate([sound(one, state, seconds, random) for state in order])
    name = f"machine-{number:03d}.wav"
    with wave.open(str(output / name), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.round(whole * 32767).astype("<i2").tobytes())
    return recordings.Recording(
        file=name,
        source="microphone",
        kind="audio",
        channels=["ch1"],
        rate=float(RATE),
        samples=len(whole),
        seconds=len(whole) / RATE,
        started=STARTED + dt.timedelta(minutes=number),
        spans=[recordings.Span(state, n * seconds, (n + 1) * seconds) for n, state in enumerate(order)],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Make synthetic sounds of machines that run well, and that fail.")
    parser.add_argument("output", type=Path, metavar="FOLDER", help="Folder of recordings to make.")
    parser.add_argument("--machines", type=int, default=10, metavar="N", help="Machines. Default: 10.")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="Number of the first one. Default: 0.")
    parser.add_argument(
        "--seconds", type=float, default=8.0, metavar="S", help="Length of each state. Default: 8."
    )
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True)
    numbers = range(arguments.first, arguments.first + arguments.machines)
    found = [write(arguments.output, number, arguments.seconds) for number in numbers]
    (arguments.output / recordings.MANIFEST).write_bytes(
        recordings.encode(recordings.Recordings(recordings=found))
    )
    minutes = sum(one.seconds for one in found) / 60
    print(f"{arguments.output}: {len(found)} machines, {minutes:.1f} min of synthetic sound")


if __name__ == "__main__":
    main()
