"""A sensor board on USB serial: its cable is pulled and plugged in again below a running daemon.

The kernel has both ends: a gadget that is a serial port, and the host's driver for it, joined by ``dummy_hcd``.
"""

from __future__ import annotations

import os
import threading
import time
import tty
from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from lab import kernel
from lab.kernel import SLOW
from support import models
from support.broker import mosquitto, wait_until
from support.daemon import Consumer, daemon

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Self

RATE = 10
PULLS = 3
CONFIG = """
[device]
id = "lab"
state = "state"
health_interval = 1

[mqtt]
url = "{url}"

[sources.board]
kind = "serial"
port = "{port}"
channels = ["ax", "ay", "az"]
framing = {{ kind = "csv", fields = ["sequence", "ax", "ay", "az"] }}

[pipelines.motion]
source = "board"
model = "dense.tflite"
deadline = 60
decoder = {{ kind = "regress" }}
"""


def run(folder: Path) -> dict[str, Any]:
    folder.mkdir()
    for module in ("usb_f_acm", "dummy_hcd", "cdc-acm"):
        kernel.load(module)
    models.dense(folder / "dense.tflite", inputs=3, outputs=3)
    path = folder / "limpet.toml"
    with mosquitto(folder / "broker") as broker, Board() as board:
        port = kernel.only("/dev/serial/by-id/usb-*")
        path.write_text(CONFIG.format(url=broker.url, port=port))
        consumer = Consumer(broker.port)
        with daemon(path) as running:
            consumer.wait_results("motion", 20, SLOW)
            sandbox = consumer.last("health/motion")["sandbox"]
            back = [_pull(consumer, board, port) for _ in range(PULLS)]
            consumer.wait_results("motion", 20, SLOW)
            running.stop()
        health = consumer.last("health/motion")
        results = consumer.results("motion")
        consumer.close()
        print(running.log, flush=True)
    dropped = health["dropped"]
    return {
        "ran": len(results) >= 40 and "seccomp" in sandbox,
        "lost_and_back": all(back) and len(consumer.events("motion", "gap")) == PULLS,
        "counted": dropped.get("disconnected") == PULLS and _holes(results) == dropped.get("sequence_gap", 0),
        "name": port.name,
        "sandbox": sandbox,
        "results": len(results),
        "sent": board.sent,
        "dropped": dropped,
    }


def _holes(results: list[dict[str, Any]]) -> int:
    """Return how many samples are missing between results. After a replug, samples count from 0 again."""
    steps = (after["sample"] - before["sample"] for before, after in pairwise(results))
    return sum(step - 1 for step in steps if step > 0)


def _pull(consumer: Consumer, board: Board, port: Path) -> bool:
    """Pull the cable and plug it in. Return whether the pipeline waited meanwhile, and had results again."""
    board.unplug()
    wait_until(lambda: not port.exists(), SLOW)
    wait_until(lambda: consumer.last("health/motion")["state"] == "waiting", SLOW)
    reason = consumer.last("health/motion")["reason"]
    print("away:", reason, flush=True)
    board.plug()
    wait_until(port.exists, SLOW)
    consumer.wait_results("motion", 10, SLOW)
    return port.name in reason


class Board:
    """Gets its power from the cable, and sends samples with a count from 0 on while it is plugged in."""

    def __init__(self) -> None:
        self.sent = 0
        self._unplugged = threading.Event()
        self._thread = threading.Thread()

    def __enter__(self) -> Self:
        self.plug()
        return self

    def __exit__(self, *_: object) -> None:
        self.unplug()

    def plug(self) -> None:
        kernel.load("g_serial")
        self._unplugged.clear()
        self._thread = threading.Thread(target=self._send, args=[kernel.only("/dev/ttyGS*")])
        self._thread.start()

    def unplug(self) -> None:
        self._unplugged.set()
        self._thread.join()
        kernel.unload("g_serial")

    def _send(self, node: Path) -> None:
        port = os.open(node, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        tty.setraw(port)
        due, count = time.monotonic(), 0
        while not self._unplugged.is_set():
            line = f"{count},{count % 7},{count % 5},1.5\n".encode()
            with suppress(OSError):  # no host has opened the port, and what it buffers is full
                os.write(port, line)
            self.sent += 1
            count += 1
            due += 1 / RATE
            self._unplugged.wait(max(0.0, due - time.monotonic()))
        os.close(port)
