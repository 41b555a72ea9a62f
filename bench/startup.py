"""How soon a forked worker is ready, in a fleet of this process."""

from __future__ import annotations

import selectors
from statistics import median
from time import perf_counter

from limpet import config
from limpet.deployment.assignments import assignments
from limpet.deployment.desired import desired
from limpet.deployment.local import look_up
from limpet.fork.launch import ForkServerProcess
from limpet.supervision.fleet import Fleet
from limpet.wire.records import ToSupervisor, Transition
from stand import SHUTTLE, Stand


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

    def listen(_cell: str, record: ToSupervisor) -> None:
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
    fleet.assign(assignments(desired(wanted, look_up(wanted))))
    while name not in running:
        for key, _ in selector.select(1):
            key.data()
    return perf_counter()
