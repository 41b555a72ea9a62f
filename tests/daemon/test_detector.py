"""A detector in the real daemon: boxes over MQTT, and the threshold set from outside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import jsonschema
import msgspec
import pytest

from limpet.contracts.outputs import Detection, Detections
from support import models
from support.broker import Mosquitto, mosquitto, wait_until
from support.caller import caller
from support.daemon import Consumer, daemon

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA = Path(__file__).parents[2] / "docs" / "schemas" / "output" / "detect.json"

# The model gives back what it is given, to a sixteenth: a row of a YOLO, two labels.
CONFIGURATION = """
[device]
id = "press-07"
state = "state"
health_interval = 600
commands = ["threshold"]
[mqtt]
url = "{url}"
[sources.boxes]
kind = "replay"
path = "recording.csv"
rate = 50
loop = true
[pipelines.seen]
source = "boxes"
model = "detector.tflite"
decoder = {{ kind = "detect", labels = ["cat", "dog"], pixels = [4, 4], threshold = 0.5 }}
"""
CAT = Detection("cat", 0.75, (0.25, 0.125, 0.75, 0.375))
DOG = Detection("dog", 0.5625, (0.5, 0.5, 1.0, 1.0))


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path / "broker") as running:
        yield running


def test_boxes_arrive_and_the_threshold_can_be_set(broker: Mosquitto, tmp_path: Path) -> None:
    models.dense(tmp_path / "detector.tflite", inputs=6, outputs=6)
    rows = "2,1,2,1,0.75,0.25\n3,3,2,2,0,0.5625\n" * 50
    (tmp_path / "recording.csv").write_text("x,y,w,h,cat,dog\n" + rows)
    (tmp_path / "limpet.toml").write_text(CONFIGURATION.format(url=broker.url))
    consumer = Consumer(broker.port)

    def seen() -> list[Detections]:
        return [msgspec.convert(r["output"], Detections) for r in consumer.results("seen")]

    published = jsonschema.Draft202012Validator(msgspec.json.decode(SCHEMA.read_bytes()))

    with daemon(tmp_path / "limpet.toml"), caller(broker.port) as operator:
        wait_until(lambda: len(seen()) >= 4)
        published.validate(consumer.results("seen")[1]["output"])
        assert seen()[0] == Detections([CAT], {"cat": 1})
        assert seen()[1] == Detections([DOG], {"cat": 0, "dog": 1})
        assert operator.call("threshold", pipeline="seen", value=0.625)["ok"]
        wait_until(lambda: any(not output.detections for output in seen()))
        assert seen()[-1].counts in ({"cat": 1, "dog": 0}, {"cat": 0, "dog": 0})
    consumer.close()
