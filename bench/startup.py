"""From process start to the first published result, and how soon a forked worker is ready."""

from __future__ import annotations

import selectors
import subprocess
import sys
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

from limpet import config
from limpet.fork.launch import ForkServerProcess
from limpet.supervision.fleet import Fleet
from limpet.wire.records import FromWorker, Transition
from stand import SHUTTLE, Stand
from support.broker import wait_until
from support.daemon import daemon

if TYPE_CHECKING:
    from pathlib import Path

BARE = """
import numpy
from ai_edge_litert.interpreter import Interpreter
model = Interpreter(model_path={model!r}, num_threads=1)
model.allocate_tensors()
model.invoke()
"""


def first_result(stand: Stand, rounds: int) -> dict[str, float]:
    """Time both in turn: the daemon to its first result at a subscriber, Python with numpy, runtime and model."""
    model = stand.unpacked_model()
    path = stand.configure(stand.replay("one", rate=1000), stand.pipeline("one", SHUTTLE))
    bares, firsts = [], []
    for _ in range(rounds):
        started = perf_counter()
        subprocess.run(
            [sys.executable, "-c", BARE.format(model=str(model))], check=True, stderr=subprocess.DEVNULL
        )
        bares.append(perf_counter() - started)
        with stand.consumer() as consumer:
            started = perf_counter()
            with daemon(path):
                wait_until(lambda: consumer.arrived)
                firsts.append(consumer.arrived - started)
    return {
        "bare_ms": round(median(bares) * 1e3, 1),
        "first_result_ms": round(median(firsts) * 1e3, 1),
        "first_result_ratio": round(median(f / b for f, b in zip(firsts, bares, strict=True)), 3),
    }


def restart(stand: Stand, rounds: int) -> dict[str, float]:
    """Time a worker from a cold start, fork server and all, and one more from the warm fork server."""
    one = stand.replay("one", rate=10), stand.pipeline("one", SHUTTLE)
    two = stand.replay("two", rate=10), stand.pipeline("two", SHUTTLE)
    first, both = (config.read(stand.configure(*parts)) for parts in (one, one + two))
    colds, warms = [], []
    for _ in range(rounds):
        cold, warm = _one_restart(first, both)
        colds.append(cold)
        warms.append(warm)
    return {
        "cold_ms": round(median(colds) * 1e3, 1),
        "restarted_ms": round(median(warms) * 1e3, 1),
        "restart_ratio": round(median(w / c for w, c in zip(warms, colds, strict=True)), 3),
    }


def _one_restart(first: config.Config, both: config.Config) -> tuple[float, float]:
    running: set[str] = set()

    def listen(record: FromWorker) -> None:
        if isinstance(record, Transition) and record.state == "running":
            running.add(record.pipeline)

    with selectors.DefaultSelector() as selector:
        started = perf_counter()
        fleet = Fleet(selector, ForkServerProcess(), listen)
        cold = _when_running(selector, fleet, first, running, "one") - started
        started = perf_counter()
        warm = _when_running(selector, fleet, both, running, "two") - started
        fleet.stop()
        fleet.close()
    return cold, warm


def _when_running(
    selector: selectors.BaseSelector, fleet: Fleet, wanted: config.Config, running: set[str], name: str
) -> float:
    fleet.assign(wanted)
    while name not in running:
        for key, _ in selector.select(1):
            key.data()
    return perf_counter()


def measure(folder: Path, rounds: int) -> dict[str, Any]:
    with Stand(folder).running() as stand:
        return {**first_result(stand, rounds), **restart(stand, rounds)}
