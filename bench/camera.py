"""Limpet beside ``camera_script.py``: the same video and model, in turn; and the memory that frames take.

``make bench-camera`` writes docs/explanation/benchmarks-camera.md. The last line is one JSON object.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from typing import Any

import av
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import wakeword
from fetch import vision_model
from stand import ROOT, Counting, Processes
from support.broker import mosquitto, wait_until
from support.daemon import daemon

SCRIPT = Path(__file__).with_name("camera_script.py")
PAGE = ROOT / "docs/explanation/benchmarks-camera.md"
FORMATS = {"mjpeg": ("mjpeg", "yuvj420p"), "yuyv": ("rawvideo", "yuyv422")}
"""FFmpeg's codec and pixels of the videos."""
SECONDS, ROUNDS = 8.0, 5
CONFIG = """
[device]
id = "bench"
state = "state"
health_interval = 1.0

[mqtt]
url = "{url}"

[sources.camera]
kind = "replay"
path = "{video}"
loop = true
{pace}

[pipelines.camera]
source = "camera"
model = "{model}"
transforms = [
    {{ kind = "resize", width = 224, height = 224 }},
    {{ kind = "normalise", mean = 127, std = 128 }},
]
decoder = {{ kind = "classify", labels = {labels} }}
"""


@dataclass
class Cost:
    """CPU in ms a frame, and frames a second."""

    cpu_ms: float
    rate: float


def video(path: Path, kind: str, width: int, height: int, count: int) -> Path:
    """Write a video of noise and a moving gradient, at 30 frames a second."""
    codec, pixels = FORMATS[kind]
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 40, (height, width, 3))
    across = np.arange(width)[np.newaxis, :, np.newaxis]
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=30)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        stream.options = {"qscale": "4"}
        for number in range(count):
            picture = (noise + (across + 7 * number) % 200).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixels)
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def ours(folder: Path, url: str, port: int, path: Path) -> Cost:
    """Play a video flat out through the real daemon; count what its worker takes and what reaches a subscriber."""
    config = _configure(folder, url, path, 'speed = "flat-out"')
    consumer = Counting(port)
    with daemon(config) as running:
        wait_until(lambda: consumer.results > 50)
        worker = Processes(running.pid_of("camera"))
        used, before, started = worker.cpu_s(), consumer.results, time.perf_counter()
        time.sleep(SECONDS)
        used, count = worker.cpu_s() - used, consumer.results - before
        took = time.perf_counter() - started
    consumer.close()
    return Cost(1000 * used / count, count / took)


def theirs(path: Path) -> Cost:
    said = subprocess.run(
        [sys.executable, SCRIPT, path, vision_model(), str(SECONDS)], stdout=subprocess.PIPE, check=True
    ).stdout
    found = json.loads(said.splitlines()[-1])
    return Cost(1000 * found["cpu_s"] / found["frames"], found["frames"] / found["seconds"])


def memory(folder: Path, url: str, port: int) -> float:
    """Return how much more a worker takes in MB for frames of 1080p YUYV than for such of 64x36."""
    sizes = []
    for width, height in ((64, 36), (1920, 1080)):
        path = video(folder / f"{width}.avi", "yuyv", width, height, 60)
        consumer = Counting(port)
        with daemon(_configure(folder, url, path, "rate = 30")) as running:
            wait_until(lambda: consumer.results > 30)  # noqa: B023 - it is over before the next
            worker = running.pid_of("camera")
            seen = []
            for _ in range(30):
                seen.append(Processes(worker).pss_mb()[worker])
                time.sleep(0.1)
        consumer.close()
        sizes.append(max(seen))
    return sizes[1] - sizes[0]


def _configure(folder: Path, url: str, path: Path, pace: str) -> Path:
    config = folder / "limpet.toml"
    labels = json.dumps([str(number) for number in range(1000)])
    config.write_text(CONFIG.format(url=url, video=path, pace=pace, model=vision_model(), labels=labels))
    return config


def measure() -> dict[str, Any]:
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with mosquitto(folder / "broker") as broker:
            for kind in FORMATS:
                path = video(folder / f"{kind}.avi", kind, 640, 360, 150)
                pairs = []
                for _ in range(ROUNDS):
                    pairs.append((ours(folder, broker.url, broker.port, path), theirs(path)))
                    print(kind, *pairs[-1], file=sys.stderr, flush=True)
                figures[kind] = {
                    "limpet_cpu_ms": round(median(one.cpu_ms for one, _ in pairs), 2),
                    "script_cpu_ms": round(median(other.cpu_ms for _, other in pairs), 2),
                    "cpu_ratio": round(median(one.cpu_ms / other.cpu_ms for one, other in pairs), 3),
                    "limpet_per_s": round(median(one.rate for one, _ in pairs), 1),
                    "script_per_s": round(median(other.rate for _, other in pairs), 1),
                    "rate_ratio": round(median(one.rate / other.rate for one, other in pairs), 3),
                }
            figures["frames_1080p_mb"] = round(memory(folder, broker.url, broker.port), 1)
    return figures


def page(figures: dict[str, Any]) -> str:
    rows = "\n".join(
        f"| 640x360 {kind} | {one['limpet_cpu_ms']} | {one['script_cpu_ms']} | {one['cpu_ratio']} | "
        f"{one['limpet_per_s']} | {one['script_per_s']} | {one['rate_ratio']} |"
        for kind, one in figures.items()
        if kind in FORMATS
    )
    wake = figures["wake_word"]
    keys = ("limpet_cpu_ms", "script_cpu_ms", "cpu_ratio", "worker_cpu_ms", "worker_ratio", "samples", "missing")
    heard = " | ".join(str(wake[key]) for key in keys)
    host = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    return f"""# Benchmarks: cameras and microphones

`make bench-camera` made this page on {datetime.now(timezone.utc):%Y-%m-%d}: {host}.
Both sides ran in turn in one run, {ROUNDS} rounds of {SECONDS:g} s. Figures are medians.
Ratios are those of the pairs, also as medians.

## Pictures

The script is `bench/camera_script.py`: PyAV and LiteRT in one loop, with the same scaling (libswscale, bilinear).
It publishes nothing. Limpet runs as a daemon, plays the same video as fast as its model takes frames, and
publishes each result by MQTT. Its CPU is that of the worker. Its frames are those that reach a subscriber: a
worker reads the next frame while the model runs. The model is EfficientNet-Lite0 int8, 224 x 224.

| video | Limpet, CPU ms a frame | script | ratio | Limpet, frames/s | script | ratio |
| --- | --- | --- | --- | --- | --- | --- |
{rows}

A worker with a source of 1920x1080 YUYV takes {figures["frames_1080p_mb"]} MB more than one with a source of
64x36, at 30 frames a second.

## Wake word

The script is the loop of pymicro-wakeword, `bench/wakeword.py --their-loop`, on the same clip and model.
"Pipeline" is `limpet.Pipeline` in one process, which does the same. "Worker" is the worker of the daemon: it also
reads the file and hands each result over. It plays the clip hundreds of times as fast as it was recorded. So the
supervisor, the broker and the subscriber are busy on the same cores, and each step takes longer.

| Pipeline, CPU ms for a second of sound | script | ratio | worker | ratio | samples | not accounted for |
| --- | --- | --- | --- | --- | --- | --- |
| {heard} |
"""


def main() -> None:
    figures = {**measure(), "wake_word": wakeword.measure()}
    PAGE.write_text(page(figures), encoding="utf-8")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
