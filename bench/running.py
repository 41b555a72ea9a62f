"""What a running daemon costs and carries: memory, a 1 kHz serial line, results a second into a broker."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from limpet.device.host import Host
from limpet.histogram import bounds
from limpet.sources.framings import cobs
from stand import SHUTTLE, Counting, Stand
from support import models
from support.broker import wait_until
from support.daemon import Daemon, daemon
from support.ptys import Board

TICKS = os.sysconf("SC_CLK_TCK")


def footprint(stand: Stand, seconds: float) -> dict[str, float]:
    """Median PSS of each process, in MB, with two workers that run the demo's model at 100 samples a second."""
    path = stand.configure(
        *(part for name in ("one", "two") for part in (stand.replay(name, 100), stand.pipeline(name, SHUTTLE)))
    )
    seen: dict[str, list[float]] = defaultdict(list)
    host = Host()
    with stand.consumer() as consumer, daemon(path) as running:
        wait_until(lambda: consumer.results > 100)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for pid, name in {running.process.pid: "supervisor", **running.descendants()}.items():
                seen[name.partition(":")[0]].append(host.pss_mb([pid]) or 0.0)
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
    path = stand.configure(source, stand.pipeline("imu", model, more))
    with Board(board_path) as board, stand.consumer() as consumer, daemon(path) as running:
        wait_until(lambda: _state(consumer, "imu") == "running")
        board.wait_opened()
        used, started = _cpu(running), time.monotonic()
        sent = _play(board, seconds)
        with suppress(AssertionError):  # Then some were lost.
            wait_until(lambda: consumer.results >= (sent - 64) // 32 + 1, 5)
        took = time.monotonic() - started
        used = _cpu(running) - used
        time.sleep(1.5)  # the next health message
        health: Any = consumer.health["imu"]
    dropped = sum(count for cause, count in health["dropped"].items() if cause != "partial")
    invoke_s = consumer.results * _mean_ns(health["latency_us"]) / 1e9 if "invoke" in health["latency_us"] else 0.0
    return {
        "serial_1khz_sent": sent,
        "serial_1khz_dropped": dropped + max((sent - 64) // 32 + 1 - consumer.results, 0),
        "serial_1khz_cpu_share": round((used - invoke_s) / took, 4),
    }


def _state(consumer: Counting, pipeline: str) -> str:
    health: Any = consumer.health.get(pipeline, {})
    return str(health.get("state", ""))


def _play(board: Board, seconds: float) -> int:
    """Send as a node would: a frame of one sample each millisecond."""
    row = np.zeros((1, 6), np.float32)
    started, sent = time.monotonic(), 0
    while sent < seconds * 1000:
        due = int((time.monotonic() - started) * 1000)
        frames = [cobs.encode(row + n % 7, n % 65536, n * 1000 % 2**32) for n in range(sent, due)]
        board.send(b"".join(frames))
        sent = max(due, sent)
        time.sleep(0.001)
    return sent


def _cpu(running: Daemon) -> float:
    """Return the CPU seconds that the supervisor and all its children have used."""
    total = 0
    for pid in [running.process.pid, *running.descendants()]:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def _mean_ns(latency: dict[str, Any]) -> float:
    buckets = {int(bucket): count for bucket, count in latency["invoke"]["buckets"].items()}
    return sum(sum(bounds(bucket)) / 2 * count for bucket, count in buckets.items()) / max(
        sum(buckets.values()), 1
    )


def end_to_end(stand: Stand, seconds: float) -> dict[str, float]:
    """Results a second that reach a subscriber, from a recording played flat out through the demo's model."""
    path = stand.configure(stand.replay("one"), stand.pipeline("one", SHUTTLE))
    with stand.consumer() as consumer, daemon(path):
        wait_until(lambda: consumer.results > 1000)
        before, started = consumer.results, time.monotonic()
        time.sleep(seconds)
        rate = (consumer.results - before) / (time.monotonic() - started)
    return {"end_to_end_per_s": round(rate)}


def measure(folder: Path, scale: float) -> dict[str, Any]:
    with Stand(folder).running() as stand:
        return {
            **footprint(stand, 60 * scale),
            **serial(stand, 30 * scale),
            **end_to_end(stand, 10 * scale),
        }
