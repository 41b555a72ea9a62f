"""The broker is killed and frozen, and the line to it delays, throttles, breaks, and stands without a word."""

from __future__ import annotations

import itertools
import random
import time
from typing import TYPE_CHECKING, Any

from faults.kills import drain, figures, prepare
from faults.tally import Tally, size_of
from support.broker import Mosquitto, mosquitto, wait_until
from support.daemon import Consumer, Daemon
from support.wire import Wire, wire

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Ground:
    """What a fault may be done to."""

    def __init__(self, broker: Mosquitto, line: Wire, consumer: Consumer, chance: random.Random) -> None:
        self.broker = broker
        self.line = line
        self.consumer = consumer
        self.chance = chance

    def wait(self, low: float, high: float) -> None:
        time.sleep(self.chance.uniform(low, high))

    def shut_out(self) -> None:
        """Keep the daemon off the broker until the consumer is back: else nobody would hear what it says."""
        self.line.fault = "refuse"
        self.line.cut()

    def let_in(self) -> None:
        wait_until(self.consumer.connected.is_set, 30)
        self.line.fault = "none"


def killed(ground: Ground) -> None:
    ground.broker.kill()
    ground.shut_out()
    ground.wait(0.2, 2.0)
    ground.broker.start()
    ground.let_in()


def stopped(ground: Ground) -> None:
    ground.broker.stop()
    ground.shut_out()
    ground.wait(0.2, 1.0)
    ground.broker.start()
    ground.let_in()


def frozen(ground: Ground) -> None:
    ground.broker.freeze()
    ground.wait(1.0, 3.0)
    ground.broker.thaw()
    wait_until(ground.consumer.connected.is_set, 30)


def half_open(ground: Ground) -> None:
    ground.line.fault = "silent"
    ground.wait(1.0, 3.0)
    ground.line.cut()
    ground.line.fault = "none"


def slow(ground: Ground) -> None:
    ground.line.fault = ground.chance.choice(["delay", "throttle"])
    ground.wait(1.0, 2.0)
    ground.line.fault = "none"


def flapping(ground: Ground) -> None:
    for _ in range(5):
        ground.line.cut()
        ground.wait(0.05, 0.4)


def turned_away(ground: Ground) -> None:
    ground.line.fault = "kick"
    ground.line.cut()
    ground.wait(1.0, 2.0)
    ground.line.fault = "none"


FAULTS: list[Callable[[Ground], None]] = [killed, frozen, half_open, flapping, stopped, slow, turned_away]


def run(folder: Path, faults: int, seed: int = 0) -> dict[str, Any]:
    """Do ``faults`` faults one after another to a daemon under load, and count."""
    tally = Tally()
    largest = 0
    with mosquitto(folder / "broker") as broker, wire(broker.port) as line:
        path = prepare(folder / "device", line.url)
        consumer = Consumer(broker.port)
        running = Daemon(path)
        running.start()
        consumer.wait_results("one", 10)
        ground = Ground(broker, line, consumer, random.Random(seed))
        memory = []
        for fault in itertools.islice(itertools.cycle(FAULTS), faults):
            fault(ground)
            ground.wait(0.5, 1.0)
            largest = max(largest, size_of(path.parent / "state"))
            memory.append(running.resident_mb())
        drain(running, consumer)
        consumer.close()
        tally.take(consumer.messages)
        pauses = [later - sooner for sooner, later in itertools.pairwise(line.visits)]
    return figures(tally, largest) | {
        "broker_faults": faults,
        "max_supervisor_rss_mb": max(memory),
        "distinct_reconnect_pauses": len({round(pause, 2) for pause in pauses}),
    }
