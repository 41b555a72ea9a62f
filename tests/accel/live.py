"""Accelerators that work on a live source and are killed in mid-stream, in the real daemon.

``python -m accel.live gpu`` has a detector on LiteRT's GPU path, on frames of an HTTP camera. ``npu`` has a
streaming int8 model on LiteRT's NPU path, on sound. ``board`` has a model that keeps state inside, on the delegate
in C. Each runs beside the same model on the CPU. Its process is killed, and comes back after its golden vectors.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import wave
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from accel.compiled import ABSENT
from limpet.runtimes import tflite
from support import models
from support.accel import swiftshader
from support.broker import mosquitto, wait_until
from support.bundles import bundle, golden
from support.daemon import Consumer, daemon
from support.delegate import build

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from limpet.contracts.data import Array
    from support.daemon import Daemon

Wrong: TypeAlias = "Callable[[Sequence[Mapping[str, Any]]], int]"
"""What counts results that are not what the source shows."""

HEAD = """
[device]
id = "press-07"
state = "state"
health_interval = 0.5

[mqtt]
url = "{url}"
"""
SHARED = """
[pipelines.{name}]
source = "line"
model = "{model}"
{options}
"""
ACCELERATED = """
delegates = ["{kind}"]
least_speed = 0
recheck = {recheck}
opening = 60
deadline = 20
"""
SURE = 20
"""Results that are waited for in each phase."""
PATIENCE = 100.0

RATE, SECONDS = 16_000, 120
ROWS = 12_000
SIZE, HOP = 400, 160
BANDS = 40
SPOKEN = 25.0
"""Frames a second of the camera."""


class Scene(NamedTuple):
    """What runs: the source's table, the bundle's file, and the pipeline's options.

    A result has the number of its window's last sample. ``first`` is that of the first window, and ``step`` the
    samples from one window to the next. ``tables`` are more tables of the configuration. ``environment`` is the
    daemon's. ``resets``: state is lost with the process, so the CPU beside it has another one.
    """

    kind: str
    source: str
    model: str
    options: str
    step: int = 1
    first: int = 0
    tables: str = ""
    environment: Mapping[str, str] | None = None
    resets: bool = False


@dataclass
class Outcome:
    """What the kill cost. ``dropped`` has samples by cause.

    ``unaccounted``: windows that have no result and are not counted as dropped. ``max_error``: largest difference
    of a result from that of the CPU beside it; null where its state is another. ``wrong``: results that are not
    what the source shows, or that mix what was before the kill with what came after it. ``recovered_s``: from the
    kill to the first result of the CPU. ``came_back_s``: from the kill to the first result of the new process.
    ``steps``: what the pipeline ran on, one after the other.
    """

    windows: int
    unaccounted: int
    dropped: dict[str, int]
    failovers: int
    degraded: int
    steps: list[str]
    recovered_s: float
    came_back_s: float
    max_error: float | None
    wrong: int
    device: str
    cause: str


def suffer(scene: Scene, folder: Path, wrong: Wrong) -> Outcome:
    """Run the daemon, kill the process with the model when it works, and wait until it is back."""
    with mosquitto(folder / "broker") as broker:
        path = folder / "limpet.toml"
        path.write_text(_configuration(scene, broker.url))
        consumer = Consumer(broker.port)
        try:
            with daemon(path, scene.environment) as running:
                killed = _kill(running, consumer, scene.kind)
                running.stop()
            return _outcome(scene, consumer, killed, wrong)
        finally:
            consumer.close()


def _configuration(scene: Scene, url: str) -> str:
    checks = ACCELERATED.format(kind=scene.kind, recheck=0.5)
    pipelines = {"fast": scene.options + checks, "beside": scene.options}
    return "".join(
        (
            HEAD.format(url=url),
            scene.source,
            scene.tables,
            *(SHARED.format(name=n, model=scene.model, options=text) for n, text in pipelines.items()),
        )
    )


def _kill(running: Daemon, consumer: Consumer, kind: str) -> float:
    """Kill the executor in mid-stream. Return when, in seconds of the wall clock."""

    def on(delegate: str, since: float = 0.0) -> int:
        return sum(r["delegate"] == delegate and done(r) > since for r in consumer.results("fast"))

    def refused() -> list[str]:
        events = [*consumer.events("fast", "degraded"), *consumer.events("fast", "failed")]
        reasons = [event["reason"] for event in events]
        return [reason for reason in reasons if "still being opened" not in reason]

    wait_until(lambda: on(kind) >= SURE or refused(), PATIENCE)
    if on(kind) < SURE:
        raise RuntimeError(refused()[-1])
    (executor,) = [pid for pid, name in running.descendants().items() if name.startswith("limpet+")]
    killed = datetime.now().astimezone().timestamp()
    os.kill(executor, signal.SIGKILL)
    wait_until(lambda: consumer.events("fast", "recovered"), PATIENCE)
    back = done_at(consumer.events("fast", "recovered")[-1])
    wait_until(lambda: on(kind, back) >= SURE, PATIENCE)
    wait_until(lambda: consumer.last("health/fast")["failovers"] and consumer.last("health/fast")["placement"])
    return killed


def _outcome(scene: Scene, consumer: Consumer, killed: float, wrong: Wrong) -> Outcome:
    fast, beside = consumer.results("fast"), consumer.results("beside")
    health = consumer.last("health/fast")
    after = [result for result in fast if done(result) > killed]
    first = next(result for result in after if result["delegate"] == "cpu")
    back = next(r for r in after if r["delegate"] == scene.kind and r["sample"] > first["sample"])
    reasons = [event["reason"] for event in consumer.events("fast", "degraded")]
    delegates = [result["delegate"] for result in fast]
    return Outcome(
        windows=len(fast),
        unaccounted=max(0, _missing(fast, scene) - sum(health["dropped"].values())),
        dropped={cause: count for cause, count in health["dropped"].items() if count},
        failovers=health["failovers"],
        degraded=sum(result["degraded"] for result in after),
        steps=[delegates[0], *(new for old, new in pairwise(delegates) if new != old)],
        recovered_s=round(done(first) - killed, 3),
        came_back_s=round(done(back) - killed, 3),
        max_error=None if scene.resets else _largest(fast, beside),
        wrong=wrong(fast),
        device=health["placement"].get("device", ""),
        cause=reasons[-1],
    )


def _missing(results: Sequence[Mapping[str, Any]], scene: Scene) -> int:
    """Count the windows up to the last result that have none."""
    samples = [result["sample"] for result in results]
    assert samples == sorted(set(samples)), "a window has two results, or they are out of order"
    return (samples[-1] - scene.first) // scene.step + 1 - len(samples)


def _largest(fast: Sequence[Mapping[str, Any]], beside: Sequence[Mapping[str, Any]]) -> float:
    """Return by how much results differ at most from those of the CPU for the same sample."""
    sound = {result["sample"]: result["output"] for result in beside}
    pairs = [(one["output"], sound[one["sample"]]) for one in fast if one["sample"] in sound]
    assert len(pairs) >= 3 * SURE, "both pipelines see the same samples"
    return max(difference(*pair) for pair in pairs)


def difference(one: Any, other: Any) -> float:
    """Return the largest difference of two numbers, or of two trees of them; infinity where they disagree."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return max((difference(one[key], other[key]) for key in one), default=0.0)
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return max((difference(*pair) for pair in zip(one, other, strict=True)), default=0.0)
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        return abs(one - other)
    return 0.0 if one == other else float("inf")


def done_at(message: Mapping[str, Any]) -> float:
    """Return the time of a message, in seconds of the wall clock."""
    return datetime.fromisoformat(message["time"].replace("Z", "+00:00")).timestamp()


def done(result: Mapping[str, Any]) -> float:
    """Return when a result was there."""
    return done_at(result) + float(result["latency_us"]) / 1e6


# --- the scenes


@contextmanager
def detector(folder: Path) -> Iterator[Scene]:
    """A detector on the frames of an HTTP camera, on LiteRT's GPU path."""
    from support import videos
    from support.web_camera import WebCamera

    model = models.squares(folder / "squares.tflite")
    proven(model, np.random.default_rng(0).uniform(0, 1, (3, 1, 96, 128, 1)))
    transforms = """
transforms = [
  { kind = "resize", width = 128, height = 96 },
  { kind = "colour", to = "grey" },
  { kind = "normalise", std = 255 },
]
decoder = { kind = "detect", labels = ["square"], pixels = [128, 96], layout = "yolov8", threshold = 0.2 }
"""
    with WebCamera(videos.jpegs(28), rate=SPOKEN) as camera:
        source = f'\n[sources.line]\nkind = "camera"\nurl = "http://127.0.0.1:{camera.port}/stream"\n'
        yield Scene("gpu", source, "squares.limpet", transforms, environment=swiftshader())


@contextmanager
def listener(folder: Path) -> Iterator[Scene]:
    """An int8 model that is handed back its state, on the log mel bands of a sound, on LiteRT's NPU path."""
    model = models.echo(folder / "echo.tflite", BANDS)
    random = np.random.default_rng(0)
    proven(model, random.uniform(-4, 4, (3, 1, BANDS)), random.uniform(-4, 4, (3, 1, BANDS)))
    write_sound(folder / "sound.wav")
    source = '\n[sources.line]\nkind = "replay"\npath = "sound.wav"\n'
    options = f"""
window = {{ size = {SIZE}, hop = {HOP} }}
inputs = {{ past_in = {{ state = "past_out" }}, bands = [] }}
transforms = [
  {{ kind = "log_mel", like = "tensorflow", frame = {SIZE}, hop = {HOP}, bands = {BANDS} }},
  {{ kind = "normalise", mean = -4, std = 2 }},
]
decoder = {{ kind = "tensor" }}
"""
    tables = '\n[delegates.npu]\noptions = { graph_backend = "cpu" }\n'
    yield Scene("npu", source, "echo.limpet", options, HOP, SIZE - 1, tables)


@contextmanager
def keeper(folder: Path) -> Iterator[Scene]:
    """A model that keeps a sum inside, and a decoder that averages over windows, on the delegate in C."""
    models.summed(folder / "summed.tflite")
    rows = "".join(f"{i % 7 - 3},{i % 5 - 2},{i % 3 - 1}\n" for i in range(ROWS))
    (folder / "recording.csv").write_text("ax,ay,az\n" + rows)
    (folder / "control").mkdir()
    library = build(folder)
    source = '\n[sources.line]\nkind = "replay"\npath = "recording.csv"\nrate = 100\n'
    tables = f"""
[delegates.board]
kind = "external"
library = "{library}"
options = {{ control = "{folder / "control/faults"}" }}
"""
    options = f"""
require = 0
decoder = {{ kind = "keyword", labels = ["a", "b", "c"], windows = {AVERAGED}, threshold = 1e6 }}
"""
    yield Scene("board", source, "summed.tflite", options, tables=tables, resets=True)


AVERAGED = 5
SCENES: dict[str, Callable[[Path], AbstractContextManager[Scene]]] = {
    "gpu": detector,
    "npu": listener,
    "board": keeper,
}


def proven(model: Path, *inputs: Array) -> Path:
    """Write a bundle of a model, beside it, with the CPU's outputs for these inputs as golden vectors."""
    with tflite.open(model, tflite.Config()) as cpu:
        found = [[np.array(one) for one in cpu.run([*row])] for row in zip(*inputs, strict=True)]
        steps = [spec.scale[0] for spec in cpu.outputs if spec.quantized]
    outputs = [np.stack(each) for each in zip(*found, strict=True)]
    content = {"model.tflite": model.read_bytes(), "golden.npz": golden(inputs, outputs)}
    allowed = {"absolute": 2 * max(steps, default=0.005)}
    fields = {"name": model.stem, "version": 1, "golden": "golden.npz", "tolerance": allowed}
    return bundle(model.with_suffix(".limpet"), content, **fields)


def write_sound(path: Path) -> None:
    """Write a sound whose bands change from window to window: tones that go up and down, over noise."""
    random, count = np.random.default_rng(0), RATE * SECONDS
    pitch = 400 + 300 * np.sin(np.arange(count) / RATE * 11)
    values = 0.4 * np.sin(2 * np.pi * np.cumsum(pitch) / RATE) * (1 + np.sin(np.arange(count) / RATE * 37))
    values += random.normal(0, 0.01, count)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes((values.clip(-1, 1) * 32767).astype("<i2").tobytes())


# --- what results may not be


def squares(results: Sequence[Mapping[str, Any]]) -> int:
    """Count results without the one square that each frame shows."""
    return sum([box["label"] for box in one["output"]["detections"]] != ["square"] for one in results)


def echoes(results: Sequence[Mapping[str, Any]]) -> int:
    """Count results of ``models.echo`` whose past is not the present of the window before."""
    scores = {one["sample"]: one["output"]["tensors"][0]["values"] for one in results}
    pairs = [(scores[sample - HOP][0], past) for sample, (_, past) in scores.items() if sample - HOP in scores]
    return sum(abs(now - past) > 2 * models.SCALE for now, past in pairs)


def averages(results: Sequence[Mapping[str, Any]]) -> int:
    """Count means over sums that are not those of the samples since the state began anew.

    Until there are as many windows as are averaged, a result has no score. So each begin shows.
    """
    found, begun = 0, 0
    for before, result in pairwise([None, *results]):
        sample, output = result["sample"], result["output"]
        if output["score"] is None and (before is None or before["output"]["score"] is not None):
            begun = sample
        wanted = _mean(begun, sample) if sample - begun + 1 >= AVERAGED else {"a": None, "b": None, "c": None}
        found += difference(output["scores"], wanted) > 1e-4
    return found


def _mean(begun: int, sample: int) -> dict[str, float]:
    steps = np.arange(begun, sample + 1)
    values = np.stack([steps % 7 - 3, steps % 5 - 2, steps % 3 - 1], axis=1)
    return dict(zip("abc", np.cumsum(values, axis=0)[-AVERAGED:].mean(axis=0).tolist(), strict=True))


CHECKS: dict[str, Wrong] = {"gpu": squares, "npu": echoes, "board": averages}


def run(kind: str, folder: Path) -> Outcome:
    """Run a scene, and return what the kill cost."""
    with SCENES[kind](folder) as scene:
        return suffer(scene, folder, CHECKS[kind])


if __name__ == "__main__":
    wanted = sys.argv[1]
    if reason := ABSENT.get(wanted, ""):
        print(json.dumps({"ran": False, "reason": reason}))
    else:
        with tempfile.TemporaryDirectory() as scratch:
            print(json.dumps({"ran": True, **asdict(run(wanted, Path(scratch)))}))
