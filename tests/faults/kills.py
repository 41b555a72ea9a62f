"""The supervisor is killed at random instants, under load; then everything that it accepted must arrive."""

from __future__ import annotations

import random
import signal
import time
from typing import TYPE_CHECKING, Any

from faults.tally import Tally, held, size_of
from support import models
from support.broker import mosquitto, wait_until
from support.daemon import Consumer, Daemon

if TYPE_CHECKING:
    from pathlib import Path

CONFIGURATION = """
[device]
id = "faulty"
state = "state"
health_interval = 0.5

[mqtt]
url = "{url}"
reconnect_max = 0.5
batch_age = 0.05

[mqtt.replay]
jitter = 0.1
messages_per_second = 1000.0

[sources.fast]
kind = "replay"
path = "recording.csv"
rate = {rate}
loop = true

[pipelines.one]
source = "fast"
model = "dense.tflite"
decoder = {{ kind = "regress" }}

[pipelines.two]
source = "fast"
model = "dense.tflite"
decoder = {{ kind = "classify" }}
"""


def prepare(folder: Path, url: str, rate: int = 500) -> Path:
    """Write a configuration with two pipelines and what it needs."""
    folder.mkdir(parents=True, exist_ok=True)
    models.dense(folder / "dense.tflite", inputs=3, outputs=3)
    rows = "".join(f"{i % 7},{i % 5 / 2},{-(i % 3)}\n" for i in range(1000))
    (folder / "recording.csv").write_text("ax,ay,az\n" + rows)
    path = folder / "limpet.toml"
    path.write_text(CONFIGURATION.format(url=url, rate=rate))
    return path


def drain(running: Daemon, consumer: Consumer, timeout: float = 120.0) -> None:
    """Let a daemon send all that is left, stop it in order, and wait until all has arrived."""

    def caught_up() -> bool:
        health = consumer.last("health")
        return bool(health) and health["reporters"]["mqtt"]["outbox_depth"] < 20

    time.sleep(1)
    wait_until(caught_up, timeout)
    assert running.stop() == 0
    time.sleep(0.5)


def run(folder: Path, kills: int, seed: int = 0) -> dict[str, Any]:
    """Kill the daemon ``kills`` times, every third time with the broker away, and count."""
    chance = random.Random(seed)
    tally, largest = Tally(), 0
    with mosquitto(folder / "broker") as broker:
        path = prepare(folder / "device", broker.url)
        state = path.parent / "state"
        consumer = Consumer(broker.port)
        running = Daemon(path)
        for number in range(kills):
            if number % 3 == 2:
                broker.stop()
            running.start()
            if number % 3 == 1:  # a busy machine may take longer to start than the pause below
                consumer.wait_results("one", 150, 60)
            time.sleep(chance.uniform(0.3, 2.0))
            running.signal(signal.SIGKILL)
            running.wait()
            wait_until(lambda: not running.survivors())
            tally.accepted |= held(state, folder / "copy")
            largest = max(largest, size_of(state))
            if number % 3 == 2:
                broker.start()
                wait_until(consumer.connected.is_set)
        running.start()
        consumer.wait_results("one", 150, 60)
        drain(running, consumer)
        consumer.close()
        tally.take(consumer.messages)
    assert not held(state, folder / "copy"), "the outbox was not empty in the end"
    return figures(tally, largest) | {"kills": kills}


def figures(tally: Tally, largest: int) -> dict[str, Any]:
    """Return what was counted."""
    return {
        "accepted": len(tally.accepted | tally.arrived.keys()),
        "delivered": len(tally.arrived),
        "lost": len(tally.lost()),
        "redelivered_same_id": tally.redelivered(),
        "altered": tally.altered,
        "max_outbox_bytes": largest,
    }
