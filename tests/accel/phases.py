"""The real daemon with a delegate that fails in a given phase: what that costs, from what it said over MQTT."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from support import models
from support.broker import mosquitto, wait_until
from support.daemon import Consumer, daemon, missing
from support.delegate import Control

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RATE = 100
CONFIG = """
[device]
id = "press-07"
state = "state"
health_interval = 0.5

[mqtt]
url = "{url}"

[delegates.board]
kind = "external"
library = "{library}"
options = {{ control = "{control}" }}

[sources.line]
kind = "replay"
path = "recording.csv"
rate = {rate}
loop = true

[sources.other]
kind = "replay"
path = "recording.csv"
rate = {rate}
loop = true

[pipelines.fast]
source = "line"
model = "dense.tflite"
delegates = ["board"]
least_speed = 0
recheck = 0.25
opening = 1.5
decoder = {{ kind = "regress" }}
{more}

[pipelines.beside]
source = "line"
model = "dense.tflite"
decoder = {{ kind = "regress" }}

[pipelines.elsewhere]
source = "other"
model = "dense.tflite"
decoder = {{ kind = "regress" }}
"""

LOADING = {phase: phase for phase in ("create", "prepare", "init")} | {
    "crash while loading": "crash=prepare",
    "hang while loading": "hang=create",
}
"""Faults that are there when the daemon starts, and the words that raise them."""
RUNNING = {"invoke": "invoke", "unplugged": "unplugged", "crash": "crash", "hang": "hang", "wrong": "wrong"}
"""Faults that come while the delegate runs."""


@dataclass
class Outcome:
    """What a phase cost.

    ``recovered_s``: seconds from the fault, or from the start, to the first result without the delegate.
    ``lost_windows``: windows without a result. ``results_equal``: all results without the delegate are the CPU's.
    ``wrong_results``: those that came from a delegate that computes wrongly before it was found out.
    """

    recovered_s: float
    lost_windows: int
    results_equal: bool
    came_back: bool
    came_back_s: float
    others_unbroken: bool
    wrong_results: int
    cause: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@contextmanager
def board(folder: Path, library: Path, more: str = "") -> Iterator[tuple[Path, Control, Consumer]]:
    """Lay out a configuration with the delegate in ``folder``, with a broker and somebody who listens."""
    (folder / "control").mkdir()
    control = Control(folder / "control" / "faults")
    models.dense(folder / "dense.tflite", inputs=3, outputs=3)
    rows = "".join(f"{i % 7},{i % 5 / 2},{-(i % 3)}\n" for i in range(1000))
    (folder / "recording.csv").write_text("ax,ay,az\n" + rows)
    with mosquitto(folder / "broker") as broker:
        path = folder / "limpet.toml"
        path.write_text(CONFIG.format(url=broker.url, library=library, control=control.path, rate=RATE, more=more))
        consumer = Consumer(broker.port)
        try:
            yield path, control, consumer
        finally:
            consumer.close()


def suffer(phase: str, folder: Path, library: Path) -> Outcome:
    """Run the daemon, raise the fault, lift it, and see what came of it."""
    with board(folder, library) as (path, control, consumer):
        raised = 0.0
        if phase in LOADING:
            control.raise_(LOADING[phase])
        with daemon(path) as running:
            if phase in RUNNING:
                wait_until(lambda: on(consumer, "board"), 20)
                consumer.wait_results("fast", 15)
                raised = time.time()
                control.raise_(RUNNING[phase])
            wait_until(lambda: degraded(consumer, raised), 20)
            consumer.wait_results("fast", 15)
            control.lift()
            lifted, before = time.time(), len(on(consumer, "board"))
            wait_until(lambda: len(on(consumer, "board")) >= before + 10, 30)
            running.stop()
        if phase in LOADING:
            raised = _time(consumer.events("fast", "starting")[0])
        return _outcome(consumer, raised, lifted)


def on(consumer: Consumer, delegate: str) -> list[dict[str, Any]]:
    return [result for result in consumer.results("fast") if result["delegate"] == delegate]


def degraded(consumer: Consumer, since: float = 0.0) -> list[dict[str, Any]]:
    """Return the results without the delegate; those before it had opened for the first time are not meant."""
    return [result for result in consumer.results("fast") if result["degraded"] and _done(result) > since]


def lost(results: list[dict[str, Any]]) -> int:
    """Count the windows, each of one sample here, that have no result."""
    samples = [result["sample"] for result in results]
    assert len(set(samples)) == len(samples), "a window has two results"
    return max(samples) + 1 - len(samples)


def difference(consumer: Consumer, results: list[dict[str, Any]]) -> list[float]:
    """Return by how much each result differs from the CPU's for the same sample."""
    sound = {result["sample"]: result["output"] for result in consumer.results("beside")}
    return [_difference(result["output"], sound[result["sample"]]) for result in results]


def _outcome(consumer: Consumer, raised: float, lifted: float) -> Outcome:
    fast, without = consumer.results("fast"), degraded(consumer, raised)
    events = [event for event in consumer.events("fast", "degraded") if _time(event) >= raised]
    back = [r for r in on(consumer, "board") if _done(r) > lifted and r["sample"] > without[-1]["sample"]]
    wrong = [d for d in difference(consumer, on(consumer, "board")) if d > 1.5 * models.SCALE]
    others = [consumer.results("beside"), consumer.results("elsewhere")]
    return Outcome(
        recovered_s=round(max(0.0, _done(without[0]) - raised), 3),
        lost_windows=lost(fast),
        results_equal=max(difference(consumer, without)) == 0.0,
        came_back=bool(back) and max(difference(consumer, back)) <= 1.5 * models.SCALE,
        came_back_s=round(_done(back[0]) - lifted, 3) if back else -1.0,
        others_unbroken=not any(lost(other) or missing(other) for other in others),
        wrong_results=len(wrong),
        cause=events[0]["reason"],
    )


def _time(message: dict[str, Any]) -> float:
    return datetime.fromisoformat(message["time"].replace("Z", "+00:00")).timestamp()


def _done(result: dict[str, Any]) -> float:
    return _time(result) + result["latency_us"] / 1e6


def _difference(one: Any, other: Any) -> float:
    if isinstance(one, dict):
        return max((_difference(one[key], other[key]) for key in one), default=0.0)
    if isinstance(one, list):
        return max((_difference(*pair) for pair in zip(one, other, strict=True)), default=0.0)
    return abs(one - other) if isinstance(one, (int, float)) else float(one != other)
