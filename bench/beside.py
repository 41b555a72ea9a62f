"""Limpet beside ``script.py``: the same board, 1,000 lines of nine numbers a second, model and broker, in turn.

Both run on the Python of ``alone.py``, so that no other program shares their memory. CPU and memory are those of
all processes of each.
"""

from __future__ import annotations

import math
import os
import subprocess
import time
from collections import defaultdict
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from stand import SHUTTLE, Counting, Player, Processes, Stand
from support.broker import wait_until
from support.ptys import Board
from support.resting import rests

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

SCRIPT = Path(__file__).with_name("script.py")
PARTS = {"": "supervisor", "limpet-fork": "forkserver", "limpet": "worker"}
"""Processes of Limpet by how their names begin."""
SETTLING = 2.0
RESTING_WITHIN = 20.0
"""Seconds after the last sample in which the fork server rests."""


@dataclass
class Cost:
    """What all processes together took: a share of a core, and PSS in MB; ``lost`` results.

    ``awake_mb``: PSS before the fork server rested.
    """

    cpu: float
    awake_mb: float
    pss_mb: float
    parts_mb: dict[str, float]
    lost: int


def measure(stand: Stand, seconds: float, rounds: int, settling: float = SETTLING) -> dict[str, Any]:
    """Compare in interleaved rounds, each side for ``seconds`` in each.

    ``settling``: seconds from the first sample to the first look, and from the last look to the last sample.
    """
    ours, theirs, buffered = [], [], []
    for _ in range(rounds):
        ours.append(_cost(stand, _limpet(stand), seconds, settling))
        theirs.append(_cost(stand, _script(stand), seconds, settling))
        buffered.append(_cost(stand, _script(stand, "buffered"), seconds, settling))
    return {
        "limpet_cpu_share": round(median(one.cpu for one in ours), 4),
        "script_cpu_share": round(median(one.cpu for one in theirs), 4),
        "buffered_cpu_share": round(median(one.cpu for one in buffered), 4),
        "script_cpu_ratio": _ratio("cpu", ours, theirs),
        "buffered_cpu_ratio": _ratio("cpu", ours, buffered),
        "total_pss_mb": round(median(one.pss_mb for one in ours), 1),
        "awake_pss_mb": round(median(one.awake_mb for one in ours), 1),
        "script_pss_mb": round(median(one.pss_mb for one in theirs), 1),
        "script_pss_ratio": _ratio("pss_mb", ours, theirs),
        **{f"beside_{part}_mb": round(median(one.parts_mb[part] for one in ours), 1) for part in PARTS.values()},
        "beside_lost": sum(one.lost for one in ours),
        "script_lost": sum(one.lost for one in theirs),
    }


def _ratio(figure: str, ours: list[Cost], theirs: list[Cost]) -> float:
    rounds = zip(ours, theirs, strict=True)
    return round(median(getattr(one, figure) / (getattr(other, figure) or math.nan) for one, other in rounds), 3)


@dataclass
class _Running:
    """One side at work: its processes, and who counts its results."""

    processes: Processes
    consumer: Counting


@contextmanager
def _limpet(stand: Stand) -> Iterator[_Running]:
    channels = ", ".join(f'"f{number}"' for number in range(1, 10))
    source = (
        f'\n[sources.shuttle]\nkind = "serial"\nport = "{stand.folder / "board"}"\nbaud = 921600\nrate = 1000\n'
        f"channels = [{channels}]\n"
    )
    with stand.consumer() as consumer, stand.daemon(source, stand.pipeline("shuttle", SHUTTLE)) as running:
        wait_until(lambda: consumer.state("shuttle") == "running", 20)
        yield _Running(Processes(running.process.pid), consumer)


@contextmanager
def _script(stand: Stand, *options: str) -> Iterator[_Running]:
    arguments = [SCRIPT, stand.folder / "board", stand.unpacked_model(), str(stand.broker.port), *options]
    with (
        stand.consumer("script") as consumer,
        subprocess.Popen(
            [stand.python, *arguments], env=os.environ | stand.environment, stderr=subprocess.DEVNULL
        ) as process,
    ):
        try:
            yield _Running(Processes(process.pid), consumer)
        finally:
            process.terminate()


def _cost(stand: Stand, side: AbstractContextManager[_Running], seconds: float, settling: float) -> Cost:
    rows = np.random.default_rng(0).normal(50, 20, (1024, 9))
    lines = [",".join(f"{value:.2f}" for value in row).encode() + b"\r\n" for row in rows]
    with Board(stand.folder / "board") as board, side as running:
        board.wait_opened(20)
        board.send(b"\r\n")  # what comes before the first line end may be the rest of a line
        player = Player(board, lambda number: lines[number % 1024], seconds + 2 * settling)
        time.sleep(settling)
        awake = sum(running.processes.pss_mb().values())
        used, started = running.processes.cpu_s(), time.monotonic()
        time.sleep(seconds)
        used, took = running.processes.cpu_s() - used, time.monotonic() - started
        sent = player.wait()
        with suppress(AssertionError):  # Then some were lost.
            wait_until(lambda: running.consumer.results >= sent, 5)
        lost = sent - running.consumer.results
        _wait_for_rest(running.processes)
        names, sizes = running.processes.names(), running.processes.pss_mb()
    parts: dict[str, float] = defaultdict(float)
    for pid, size in sizes.items():
        parts[PARTS.get(names[pid].partition(":")[0], "supervisor")] += size
    return Cost(used / took, awake, sum(sizes.values()), parts, lost)


def _wait_for_rest(processes: Processes) -> None:
    """Wait until Limpet's fork server rests. The script has none, nor does one of an earlier version rest."""
    servers = [pid for pid, name in processes.names().items() if name == "limpet-fork"]
    with suppress(AssertionError):
        wait_until(lambda: all(map(rests, servers)), RESTING_WITHIN)
    if servers:
        time.sleep(0.5)
