"""The time to the first published result beside a bare Python with the model, also on a busy machine."""

from __future__ import annotations

import os
import subprocess
from contextlib import ExitStack, contextmanager
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

from stand import SHUTTLE, Stand
from support.broker import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    parts = stand.replay("one", rate=1000), stand.pipeline("one", SHUTTLE)
    bares, firsts = [], []
    for _ in range(rounds):
        started = perf_counter()
        subprocess.run(
            [stand.python, "-c", BARE.format(model=str(model))],
            env=os.environ | stand.environment,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        bares.append(perf_counter() - started)
        with stand.consumer() as consumer:
            started = perf_counter()
            with stand.daemon(*parts):
                wait_until(lambda: consumer.arrived)
                firsts.append(consumer.arrived - started)
    return {
        "bare_ms": round(median(bares) * 1e3, 1),
        "first_result_ms": round(median(firsts) * 1e3, 1),
        "first_result_ratio": round(median(f / b for f, b in zip(firsts, bares, strict=True)), 3),
    }


@contextmanager
def busy() -> Iterator[None]:
    """Have as many other processes as there are cores compute for as long as the block lasts."""
    with ExitStack() as stack:
        for _ in range(os.cpu_count() or 1):
            process = stack.enter_context(subprocess.Popen(["sh", "-c", "while :; do :; done"]))
            stack.callback(process.kill)
        yield


def first_result_busy(stand: Stand, rounds: int) -> dict[str, float]:
    """Time the same while every core is busy."""
    with busy():
        return {f"busy_{name}": figure for name, figure in first_result(stand, rounds).items()}
