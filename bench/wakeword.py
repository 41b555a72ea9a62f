"""Limpet beside pymicro-wakeword's own loop: the same wake word and clip, in turn.

A part of ``make bench-camera``. Without arguments it prints one JSON object; ``--their-loop`` and ``--our-loop``
are its sides.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import wave
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from stand import Counting, Processes
from support.broker import mosquitto, wait_until
from support.daemon import daemon

RATE, LENGTH = 16_000, 120
"""Samples a second, and seconds of the clip."""
HOP, SIZE, BLOCK = 480, 800, 4096
ROUNDS, SECONDS = 5, 8.0
MODEL = "okay_nabu"
CONFIG = """
[device]
id = "bench"
state = "state"
health_interval = 1.0

[mqtt]
url = "{url}"

[sources.microphone]
kind = "replay"
path = "{clip}"
{pace}

[pipelines.wake]
source = "microphone"
model = "{model}"
window = {{ size = 800, hop = 480 }}
transforms = [{{ kind = "micro_frontend" }}]
decoder = {{ kind = "keyword", labels = ["okay nabu"], windows = 5, threshold = 0.85 }}
"""


@dataclass
class Cost:
    """CPU in ms for a second of sound. ``missing``: samples that are neither in a window nor counted."""

    cpu_ms: float
    missing: int = 0


def clip(path: Path) -> Path:
    """Write noise that comes and goes."""
    rng = np.random.default_rng(0)
    times = np.arange(LENGTH * RATE) / RATE
    samples = rng.normal(0, 3000, len(times)) * (0.2 + np.abs(np.sin(times)))
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(samples.clip(-32768, 32767).astype("<i2").tobytes())
    return path


def model() -> Path:
    """Return the wake word's model out of the package pymicro-wakeword."""
    import pymicro_wakeword

    return Path(pymicro_wakeword.__file__).parent / "models" / f"{MODEL}.tflite"


def their_loop(path: str) -> None:
    """Listen to the clip as the package's own program does, and print what it took."""
    from pymicro_wakeword import MicroWakeWord, MicroWakeWordFeatures, Model

    listener, features = MicroWakeWord.from_builtin(Model.OKAY_NABU), MicroWakeWordFeatures()
    with wave.open(path) as file:
        data = file.readframes(file.getnframes())
    step = 2 * RATE // 100  # its program reads 10 ms at a time
    used = time.process_time()
    for at in range(0, len(data), step):
        for each in features.process_streaming(data[at : at + step]):
            listener.process_streaming(each)
    print(json.dumps({"cpu_s": time.process_time() - used}))


def our_loop(path: str) -> None:
    """Listen to the clip with ``limpet.Pipeline`` in one process, and print what it took."""
    from limpet import Pipeline

    with wave.open(path) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")[:, np.newaxis] / np.float32(32768)
    transforms: list[dict[str, Any]] = [{"kind": "micro_frontend"}]
    decoder = {"kind": "keyword", "labels": ["okay nabu"], "windows": 5, "threshold": 0.85}
    window = {"size": SIZE, "hop": HOP}
    with Pipeline(
        model(), rate=RATE, shape=(1,), window=window, transforms=transforms, decoder=decoder
    ) as pipeline:
        used = time.process_time()
        for at in range(0, len(samples), BLOCK):
            for _ in pipeline.feed(samples[at : at + BLOCK]):
                pass
    print(json.dumps({"cpu_s": time.process_time() - used}))


def alone(side: str, path: Path) -> Cost:
    """Run one of the loops in a process of its own."""
    said = subprocess.run([sys.executable, __file__, side, path], stdout=subprocess.PIPE, check=True).stdout
    return Cost(1000 * json.loads(said.splitlines()[-1])["cpu_s"] / LENGTH)


def daemon_cost(folder: Path, url: str, port: int, path: Path) -> Cost:
    """Play the clip flat out, again and again; count what the worker takes. All else is busy meanwhile, too."""
    config = _configure(folder, url, path, 'speed = "flat-out"\nloop = true')
    consumer = Counting(port)
    with daemon(config) as running:
        wait_until(lambda: consumer.results > 2000)
        worker = Processes(running.pid_of("microphone"))
        used, before = worker.cpu_s(), consumer.results
        time.sleep(SECONDS)
        used, count = worker.cpu_s() - used, consumer.results - before
    consumer.close()
    return Cost(1000 * used / (count * HOP / RATE))


def missing(folder: Path, url: str, port: int, path: Path) -> int:
    """Play the clip once at its own speed, ten times as fast, and count samples that are in no window."""
    consumer = Counting(port)
    with daemon(_configure(folder, url, path, "speed = 10")):
        wait_until(lambda: consumer.state("wake") == "finished", LENGTH)
    health: Any = consumer.health["wake"]
    consumer.close()
    windows = (LENGTH * RATE - SIZE) // HOP + 1
    dropped = {cause: count for cause, count in health["dropped"].items() if count}
    return abs(windows - int(health["results"])) * HOP + sum(dropped.values())


def _configure(folder: Path, url: str, path: Path, pace: str) -> Path:
    config = folder / "limpet.toml"
    config.write_text(CONFIG.format(url=url, clip=path, pace=pace, model=model()))
    return config


def measure() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = clip(folder / "clip.wav")
        with mosquitto(folder / "broker") as broker:
            rounds = []
            for _ in range(ROUNDS):
                worker = daemon_cost(folder, broker.url, broker.port, path)
                rounds.append((alone("--our-loop", path), alone("--their-loop", path), worker))
                print("wake word", *rounds[-1], file=sys.stderr, flush=True)
            lost = missing(folder, broker.url, broker.port, path)
    return {
        "limpet_cpu_ms": round(median(one.cpu_ms for one, _, _ in rounds), 2),
        "script_cpu_ms": round(median(other.cpu_ms for _, other, _ in rounds), 2),
        "cpu_ratio": round(median(one.cpu_ms / other.cpu_ms for one, other, _ in rounds), 3),
        "worker_cpu_ms": round(median(worker.cpu_ms for _, _, worker in rounds), 2),
        "worker_ratio": round(median(worker.cpu_ms / other.cpu_ms for _, other, worker in rounds), 3),
        "samples": LENGTH * RATE,
        "missing": lost,
    }


if __name__ == "__main__":
    if sys.argv[1:2] == ["--their-loop"]:
        their_loop(sys.argv[2])
    elif sys.argv[1:2] == ["--our-loop"]:
        our_loop(sys.argv[2])
    else:
        print(json.dumps(measure()))
