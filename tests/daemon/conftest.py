from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import models
from support.broker import Mosquitto, mosquitto
from support.daemon import Consumer

Configure = Callable[..., Path]

HEAD = """
[device]
id = "press-07"
state = "state"
health_interval = 0.5

[mqtt]
url = "{url}"
"""

REPLAY = """
[sources.{name}]
kind = "replay"
path = "recording.csv"
rate = {rate}
loop = true
"""

PIPELINE = """
[pipelines.{name}]
source = "{source}"
model = "{model}"
deadline = 2.0
decoder = {{ kind = "regress" }}
"""


def replay(name: str, rate: int = 100) -> str:
    return REPLAY.format(name=name, rate=rate)


def pipeline(name: str, source: str, model: str = "dense.tflite") -> str:
    return PIPELINE.format(name=name, source=source, model=model)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path / "broker") as running:
        yield running


@pytest.fixture
def consumer(broker: Mosquitto) -> Iterator[Consumer]:
    listening = Consumer(broker.port)
    yield listening
    listening.close()


@pytest.fixture
def configure(tmp_path: Path, broker: Mosquitto) -> Configure:
    """Write a configuration of these parts, beside a model and a recording that they may name."""
    models.dense(tmp_path / "dense.tflite", inputs=3, outputs=3)
    rows = "".join(f"{i % 7},{i % 5 / 2},{-(i % 3)}\n" for i in range(1000))
    (tmp_path / "recording.csv").write_text("ax,ay,az\n" + rows)

    def write(*parts: str) -> Path:
        path = tmp_path / "limpet.toml"
        path.write_text(HEAD.format(url=broker.url) + "".join(parts))
        return path

    return write
