"""How soon a forked worker is ready, in a fleet of this process."""

from __future__ import annotations

import selectors
from statistics import median
from time import perf_counter, sleep

from limpet import config
from limpet.deployment.assignments import assignments
from limpet.deployment.desired import desired
from limpet.deployment.local import look_up
from limpet.fork.launch import ForkServerProcess
from limpet.supervision.fleet import Fleet
from limpet.wire.records import ToSupervisor, Transition
from stand import SHUTTLE, Stand
from support.resting import rests

REST_AFTER = 0.5
"""Seconds after which the fork server rests here."""


def restart(stand: Stand, rounds: int) -> dict[str, float]:
    """Time a worker from a cold start, fork server and all; one more while that is warm; one while it rests."""
    parts = [(stand.replay(name, rate=10), stand.pipeline(name, SHUTTLE)) for name in ("one", "two", "three")]
    configs = [config.read(stand.configure(*sum(parts[:count], ()))) for count in (1, 2, 3)]
    colds, warms, rested = zip(*(_one_restart(*configs) for _ in range(rounds)), strict=True)
    return {
        "cold_ms": round(median(colds) * 1e3, 1),
        "restarted_ms": round(median(warms) * 1e3, 1),
        "rested_ms": round(median(rested) * 1e3, 1),
        "restart_ratio": round(median(w / c for w, c in zip(warms, colds, strict=True)), 3),
        "rested_ratio": round(median(r / c for r, c in zip(rested, colds, strict=True)), 3),
    }


def _one_restart(first: config.Config, both: config.Config, all_three: config.Config) -> tuple[float, ...]:
    running: set[str] = set()

    def listen(_cell: str, record: ToSupervisor) -> None:
        if isinstance(record, Transition) and record.state == "running":
            running.add(record.pipeline)

    with selectors.DefaultSelector() as selector:
        started = perf_counter()
        fleet = Fleet(selector, ForkServerProcess(), listen, REST_AFTER)
        cold = _when_running(selector, fleet, first, running, "one") - started
        started = perf_counter()
        warm = _when_running(selector, fleet, both, running, "two") - started
        while not rests(fleet.pids()["fork server"]):
            fleet.tend()
            for key, _ in selector.select(0.05):
                key.data()
        sleep(0.1)  # that program starts
        started = perf_counter()
        rested = _when_running(selector, fleet, all_three, running, "three") - started
        fleet.stop()
        fleet.close()
    return cold, warm, rested


def _when_running(
    selector: selectors.BaseSelector, fleet: Fleet, wanted: config.Config, running: set[str], name: str
) -> float:
    fleet.assign(assignments(desired(wanted, look_up(wanted))))
    while name not in running:
        for key, _ in selector.select(1):
            key.data()
    return perf_counter()
