"""A test stand: mosquitto, a configuration and a daemon, with parts of the tests' own support."""

from __future__ import annotations

import json
import zipfile
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from support.broker import Mosquitto

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
SHUTTLE = ROOT / "agent/limpet/demo_data/shuttle-1.limpet"
KEYWORD = ROOT / "bench/models/keyword-1.limpet"


class Counting:
    """Counts the results that arrive, and when the first did; does not read them."""

    def __init__(self, port: int) -> None:
        self.results = 0
        self.arrived = 0.0
        self.health: dict[str, object] = {}
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.on_message = self._take
        self._client.connect("127.0.0.1", port)
        self._client.subscribe("limpet/#", qos=0)
        self._client.loop_start()

    def _take(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        kind = message.topic.split("/")[2]
        if kind == "result":
            self.arrived = self.arrived or perf_counter()
            self.results += message.payload.count(b'"sequence":')
        elif kind == "health":
            self.health[message.topic.partition("/health")[2].strip("/")] = json.loads(message.payload)

    def close(self) -> None:
        """Leave the broker."""
        self._client.disconnect()
        self._client.loop_stop()


class Stand:
    """A folder with a recording of the demo's telemetry, a broker and configurations."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
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

    @contextmanager
    def consumer(self) -> Iterator[Counting]:
        """Subscribe for as long as the block lasts."""
        counting = Counting(self.broker.port)
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
        head = (
            f'[device]\nid = "bench"\nstate = "state"\nhealth_interval = 1.0\n[mqtt]\nurl = "{self.broker.url}"\n'
        )
        path = self.folder / "limpet.toml"
        path.write_text(head + "".join(parts))
        return path
