"""A test stand: mosquitto, a configuration and a daemon, with parts of the tests' own support."""

from __future__ import annotations

import json
import os
import threading
import time
import zipfile
from contextlib import contextmanager, suppress
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

import alone
from support.broker import Mosquitto
from support.daemon import Daemon, daemon

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from support.ptys import Board

ROOT = Path(__file__).parents[1]
AGENT = ROOT / "agent"
COPY = ROOT / "build/bench/alone"
"""Where the Python of ``alone.py`` is."""
SHUTTLE = ROOT / "agent/limpet/demo_data/shuttle-1.limpet"
TICKS = os.sysconf("SC_CLK_TCK")
KEYWORD = ROOT / "bench/models/keyword-1.limpet"


class Counting:
    """Counts the results that arrive below a topic, and when the first did; does not read them."""

    def __init__(self, port: int, root: str = "limpet") -> None:
        self.results = 0
        self.arrived = 0.0
        self.health: dict[str, object] = {}
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.on_message = self._take
        self._client.connect("127.0.0.1", port)
        self._client.subscribe(f"{root}/#", qos=0)
        self._client.loop_start()

    def _take(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        if "/result" in message.topic:
            self.arrived = self.arrived or perf_counter()
            self.results += message.payload.count(b'"sequence":')
        elif "/health" in message.topic:
            pipeline = message.topic.partition("/health")[2].strip("/")
            self.health[pipeline] = json.loads(message.payload or "{}")  # nothing of one that was removed

    def state(self, pipeline: str) -> str:
        """Return the state of a pipeline as its health has it, the empty string before that came."""
        health: Any = self.health.get(pipeline, {})
        return str(health.get("state", ""))

    def close(self) -> None:
        """Leave the broker."""
        self._client.disconnect()
        self._client.loop_stop()


class Processes:
    """A process and all below it, as the kernel accounts for them."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def names(self) -> dict[int, str]:
        """Return the names of the processes by their ids."""
        found, waiting = {}, [self.pid]
        while waiting:
            pid = waiting.pop()
            with suppress(OSError):
                waiting += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
                found[pid] = Path(f"/proc/{pid}/comm").read_text().strip()
        return found

    def cpu_s(self) -> float:
        """Return the CPU seconds that they have used."""
        ticks = 0
        for pid in self.names():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / TICKS

    def pss_mb(self) -> dict[int, float]:
        """Return the proportional set size in MB of each, by its id."""
        found = {}
        for pid in self.names():
            with suppress(OSError):
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
                found[pid] = int(rollup.partition("\nPss:")[2].split()[0]) * 1024 / 1e6
        return found


class Player:
    """A thread that sends as a board would: a message each millisecond for ``seconds``."""

    def __init__(self, board: Board, message: Callable[[int], bytes], seconds: float) -> None:
        self._board, self._message, self._seconds = board, message, seconds
        self._sent = 0
        self._thread = threading.Thread(target=self._play)
        self._thread.start()

    def wait(self) -> int:
        """Wait until all is sent; return how many messages there were."""
        self._thread.join()
        return self._sent

    def _play(self) -> None:
        started = time.monotonic()
        while self._sent < self._seconds * 1000:
            due = int((time.monotonic() - started) * 1000)
            self._board.send(b"".join(self._message(number) for number in range(self._sent, due)))
            self._sent = max(due, self._sent)
            time.sleep(0.001)


class Stand:
    """A folder with a recording of the demo's telemetry, a broker, configurations and the daemon of ``agent``."""

    def __init__(
        self, folder: Path, agent: Path = AGENT, extras: tuple[str, ...] = (), health_interval: float = 1.0
    ) -> None:
        copy = COPY.with_name("-".join([COPY.name, *extras]))
        self.python = alone.python(copy, *extras)
        self.environment = alone.environment(copy, agent)
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._health_interval = health_interval
        self.broker = Mosquitto(folder / "broker")
        rows = np.random.default_rng(0).normal(50, 20, (4096, 9)).astype(np.float32)
        np.save(folder / "recording.npy", rows)

    @contextmanager
    def running(self) -> Iterator[Stand]:
        """Have the broker run."""
        self.broker.start()
        try:
            yield self
        finally:
            self.broker.stop()

    def daemon(self, *parts: str) -> AbstractContextManager[Daemon]:
        """Run ``limpet run`` with these sources and pipelines for as long as the block lasts."""
        return daemon(self.configure(*parts), self.environment, self.python)

    @contextmanager
    def consumer(self, root: str = "limpet") -> Iterator[Counting]:
        """Subscribe to what is below ``root`` for as long as the block lasts."""
        counting = Counting(self.broker.port, root)
        try:
            yield counting
        finally:
            counting.close()

    def unpacked_model(self) -> Path:
        """Write the demo's model as a bare .tflite file."""
        with zipfile.ZipFile(SHUTTLE) as bundle:
            path = self.folder / "shuttle.tflite"
            path.write_bytes(bundle.read("model.tflite"))
        return path

    def replay(self, name: str, rate: int | None = None) -> str:
        """Return a source that plays the recording at `rate` rows a second, or flat out."""
        pace = f"rate = {rate}" if rate else 'speed = "flat-out"'
        return f'\n[sources.{name}]\nkind = "replay"\npath = "recording.npy"\nloop = true\n{pace}\n'

    def pipeline(self, source: str, model: Path, more: str = "") -> str:
        """Return a pipeline of the same name as its source."""
        return f'\n[pipelines.{source}]\nsource = "{source}"\nmodel = "{model}"\n{more}'

    def configure(self, *parts: str) -> Path:
        """Write a configuration of these sources and pipelines."""
        device = f'[device]\nid = "bench"\nstate = "state"\nhealth_interval = {self._health_interval}\n'
        head = f'{device}[mqtt]\nurl = "{self.broker.url}"\n'
        path = self.folder / "limpet.toml"
        path.write_text(head + "".join(parts))
        return path
