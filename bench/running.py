"""What a running daemon costs and carries: memory, a 1 kHz serial line, results a second into a broker."""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import suppress
from statistics import median
from typing import Any

import numpy as np

from limpet.histogram import bounds
from limpet.sources.framings import cobs
from stand import SHUTTLE, Player, Processes, Stand
from support import models
from support.broker import wait_until
from support.ptys import Board
from support.resting import rests


def footprint(stand: Stand, seconds: float) -> dict[str, float]:
    """Median PSS of each process, in MB, with two workers that run the demo's model at 100 samples a second.

    For ``seconds`` at most: it ends when the fork server rests.
    """
    parts = [part for name in ("one", "two") for part in (stand.replay(name, 100), stand.pipeline(name, SHUTTLE))]
    seen: dict[str, list[float]] = defaultdict(list)
    with stand.consumer() as consumer, stand.daemon(*parts) as running:
        wait_until(lambda: consumer.results > 100)
        end = time.monotonic() + seconds
        processes = Processes(running.process.pid)
        while time.monotonic() < end:
            names = processes.names()
            if any(name == "limpet-fork" and rests(pid) for pid, name in names.items()):
                break
            for pid, size in processes.pss_mb().items():
                name = "supervisor" if pid == processes.pid else names.get(pid, "").partition(":")[0]
                seen[name].append(size)
            time.sleep(1)
    return {
        "supervisor_pss_mb": round(median(seen["supervisor"]), 1),
        "forkserver_pss_mb": round(median(seen["limpet-fork"]), 1),
        "worker_pss_mb": round(median(seen["limpet"]), 1),
    }


def serial(stand: Stand, seconds: float) -> dict[str, Any]:
    """1,000 samples a second of six channels over a pseudo-terminal, windows of 64 with hop 32."""
    model = models.dense(stand.folder / "six.tflite", inputs=6, outputs=6, batch=64)
    board_path = stand.folder / "board"
    source = (
        f'\n[sources.imu]\nkind = "serial"\nport = "{board_path}"\nbaud = 921600\nframing = "cobs"\nrate = 1000\n'
        'channels = ["ax", "ay", "az", "gx", "gy", "gz"]\n'
    )
    more = 'window = { size = 64, hop = 32 }\ndecoder = { kind = "anomaly", threshold = 1.0 }\n'
    pipeline = stand.pipeline("imu", model, more)
    with Board(board_path) as board, stand.consumer() as consumer, stand.daemon(source, pipeline) as running:
        wait_until(lambda: consumer.state("imu") == "running")
        board.wait_opened()
        processes = Processes(running.process.pid)
        used, started = processes.cpu_s(), time.monotonic()
        sent = Player(board, _frame, seconds).wait()
        with suppress(AssertionError):  # Then some were lost.
            wait_until(lambda: consumer.results >= (sent - 64) // 32 + 1, 5)
        took = time.monotonic() - started
        used = processes.cpu_s() - used
        time.sleep(1.5)  # the next health message
        health: Any = consumer.health["imu"]
    dropped = sum(count for cause, count in health["dropped"].items() if cause != "partial")
    invoke_s = consumer.results * _mean_ns(health["latency_us"]) / 1e9 if "invoke" in health["latency_us"] else 0.0
    return {
        "serial_1khz_sent": sent,
        "serial_1khz_dropped": dropped + max((sent - 64) // 32 + 1 - consumer.results, 0),
        "serial_1khz_cpu_share": round((used - invoke_s) / took, 4),
    }


def _frame(number: int) -> bytes:
    """Return a frame of one sample."""
    row = np.full((1, 6), number % 7, np.float32)
    frame: bytes = cobs.encode(row, number % 65536, number * 1000 % 2**32)
    return frame


def _mean_ns(latency: dict[str, Any]) -> float:
    buckets = {int(bucket): count for bucket, count in latency["invoke"]["buckets"].items()}
    return sum(sum(bounds(bucket)) / 2 * count for bucket, count in buckets.items()) / max(
        sum(buckets.values()), 1
    )


def end_to_end(stand: Stand, seconds: float) -> dict[str, float]:
    """Results a second that reach a subscriber, from a recording played flat out through the demo's model."""
    parts = stand.replay("one"), stand.pipeline("one", SHUTTLE)
    with stand.consumer() as consumer, stand.daemon(*parts):
        wait_until(lambda: consumer.results > 1000)
        before, started = consumer.results, time.monotonic()
        time.sleep(seconds)
        rate = (consumer.results - before) / (time.monotonic() - started)
    return {"end_to_end_per_s": round(rate)}
