"""Pictures through the real daemon: read from a folder, with results, and as snapshots on a real broker."""

from __future__ import annotations

import io
import json
import signal
from itertools import count
from typing import TYPE_CHECKING, Any

import jsonschema
import numpy as np
import pytest
from PIL import Image

import schemas
from support import delegate, models, pictures
from support.broker import Mosquitto, mosquitto, wait_until
from support.caller import caller
from support.daemon import Consumer, daemon

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONFIGURATION = """
[device]
id = "press-07"
state = "state"
health_interval = 0.5
commands = ["snapshot"]

[mqtt]
url = "{url}"
[mqtt.dialects.json]
[mqtt.dialects.homeassistant]

[jsonl]
path = "results.jsonl"

[sources.folder]
kind = "images"
path = "photos"

[pipelines.door]
source = "folder"
model = "dense.tflite"
transforms = [{{ kind = "resize", width = 1, height = 1 }}, {{ kind = "normalise", std = 255 }}]
decoder = {{ kind = "classify", labels = ["red", "green", "blue"] }}
{snapshots}

[pipelines.other]
source = "folder"
model = "dense.tflite"
transforms = [{{ kind = "resize", width = 1, height = 1 }}, {{ kind = "normalise", std = 255 }}]
decoder = {{ kind = "classify", labels = ["red", "green", "blue"] }}
"""
ACCELERATED = """
[delegates.npu]
kind = "external"
library = "{library}"

[pipelines.fast]
source = "folder"
model = "dense.tflite"
transforms = [{{ kind = "resize", width = 1, height = 1 }}, {{ kind = "normalise", std = 255 }}]
decoder = {{ kind = "classify", labels = ["red", "green", "blue"] }}
delegates = ["npu", "cpu"]
least_speed = 0
snapshots = {{}}
"""
TOPIC = "limpet/press-07/snapshot/door"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path / "broker") as running:
        yield running


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    models.dense(tmp_path / "dense.tflite", inputs=3, outputs=3, int8=False)
    folder = tmp_path / "photos"
    folder.mkdir()
    put(folder / "a.png", 0)
    return folder


def put(path: Path, channel: int, *, damaged: bool = False) -> None:
    """Put a picture into a folder that is all red, green or blue, or half of its file."""
    pixels = np.zeros((90, 120, 3), np.uint8)
    pixels[:, :, channel] = 200
    data = pictures.encoded(pixels, "PNG")
    pictures.aged(path.with_suffix(".part"), data[: len(data) // 2] if damaged else data).rename(path)


def configured(folder: Path, broker: Mosquitto, snapshots: str = "snapshots = {}", more: str = "") -> Path:
    path = folder / "limpet.toml"
    path.write_text(CONFIGURATION.format(url=broker.url, snapshots=snapshots) + more)
    return path


def labels(consumer: Consumer, pipeline: str = "door") -> list[Any]:
    """Return the labels in the order of the results. Those for Home Assistant have no ``output``."""
    return [result["output"]["label"] for result in consumer.results(pipeline) if "output" in result]


def pixels_of(jpeg: bytes) -> Any:
    with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as image:
        return np.asarray(image.convert("RGB"))


def retained(broker: Mosquitto) -> bytes:
    """Return the picture that the broker keeps; empty if none."""
    with caller(broker.port, topics=[TOPIC, "limpet/press-07/status"]) as late:
        wait_until(lambda: any(message.topic.endswith("status") for message in late.heard))
        return b"".join(bytes(message.payload) for message in late.heard if message.topic == TOPIC)


def test_pictures_give_results_as_they_come_and_a_damaged_one_is_counted(
    tmp_path: Path, broker: Mosquitto, photos: Path
) -> None:
    consumer = Consumer(broker.port)
    with daemon(configured(tmp_path, broker, "")) as running:
        wait_until(lambda: labels(consumer) == ["red"])
        put(photos / "b.png", 1, damaged=True)
        put(photos / "c.png", 2)
        wait_until(lambda: labels(consumer) == ["red", "blue"])
        wait_until(lambda: (consumer.last("health/door") or {"dropped": {}})["dropped"].get("damaged") == 1)
        health = consumer.last("health/door")
        jsonschema.Draft202012Validator(schemas.schema("pipeline-health")).validate(health)
        assert health["snapshots"] is None
        assert running.stop() == 0
    assert "b.png" in running.log
    consumer.close()
    assert retained(broker) == b"", "no picture leaves the device unless it is configured"


def test_a_command_publishes_the_picture_of_the_last_result(
    tmp_path: Path, broker: Mosquitto, photos: Path
) -> None:
    consumer = Consumer(broker.port)
    accelerated = ACCELERATED.format(library=delegate.build(tmp_path))
    with (
        daemon(configured(tmp_path, broker, "snapshots = { width = 60 }", accelerated)),
        caller(broker.port, topics=["operators/#", TOPIC, "homeassistant/#"]) as operator,
    ):
        wait_until(lambda: labels(consumer) == ["red"])
        answer = operator.call("snapshot", pipeline="door")
        assert answer["ok"], answer
        wait_until(lambda: [message for message in operator.heard if message.topic == TOPIC])
        [message] = [message for message in operator.heard if message.topic == TOPIC]
        found = pixels_of(message.payload)
        assert found.shape == (45, 60, 3)
        assert (answer["result"]["width"], answer["result"]["height"]) == (60, 45)
        assert answer["result"]["bytes"] == len(message.payload)
        assert message.properties.ContentType == "image/jpeg"
        about = dict(message.properties.UserProperty)
        assert about["sample"] == str(answer["result"]["sample"]) == "0"
        np.testing.assert_allclose(found[-1, -1].astype(int), [200, 0, 0], atol=12)
        assert (found[:14, :30].max(axis=2) < 60).any(), "the label is written on black"
        put(photos / "b.png", 2)
        wait_until(lambda: labels(consumer) == ["red", "blue"])
        assert operator.call("snapshot", pipeline="door")["result"]["sample"] == 1
        wait_until(lambda: len([each for each in operator.heard if each.topic == TOPIC]) == 2)
        np.testing.assert_allclose(pixels_of(retained(broker))[-1, -1].astype(int), [0, 0, 200], atol=12)
        counts = {"taken": 2, "skipped": 0, "failed": 0}
        wait_until(lambda: consumer.last("health/door")["snapshots"] == counts)
        announced = b"".join(bytes(each.payload) for each in operator.heard if "homeassistant/" in each.topic)
        assert json.dumps({"image_topic": TOPIC})[1:-1].replace(" ", "").encode() in announced
        wait_until(lambda: consumer.results("fast"))
        assert consumer.results("fast")[0]["delegate"] == "npu"
        assert operator.call("snapshot", pipeline="fast")["ok"], "a model on an accelerator gives pictures, too"
        refused = operator.call("snapshot", pipeline="other")["error"]
        assert refused == "the pipeline 'other' takes no pictures: set `snapshots = {}` in its table to allow them"
        assert "no pipeline 'none'" in operator.call("snapshot", pipeline="none")["error"]
    consumer.close()
    assert b"snapshot" not in (tmp_path / "results.jsonl").read_bytes().replace(b'"snapshots":', b"")


def test_the_picture_is_cleared_when_snapshots_or_the_pipeline_are_gone(
    tmp_path: Path, broker: Mosquitto, photos: Path
) -> None:
    consumer = Consumer(broker.port)
    with daemon(configured(tmp_path, broker, "snapshots = { every = 1 }")) as running:
        wait_until(lambda: retained(broker))
        configured(tmp_path, broker, "")
        running.signal(signal.SIGHUP)
        wait_until(lambda: not retained(broker))
        configured(tmp_path, broker, "snapshots = { every = 1 }")
        running.signal(signal.SIGHUP)
        wait_until(lambda: running.log.count("configuration read again") == 2)
        numbers = count()

        def is_pictured_again() -> bool:
            put(photos / f"z{next(numbers)}.png", 1)  # the worker may still have the configuration before
            return bool(retained(broker))

        wait_until(is_pictured_again)
        assert running.stop() == 0
    path = configured(tmp_path, broker, "")  # while the daemon does not run
    path.write_text(path.read_text().replace("[pipelines.door]", "[pipelines.gate]"))
    with daemon(tmp_path / "limpet.toml"):
        wait_until(lambda: not retained(broker))
    consumer.close()


DETECTOR = """
[device]
id = "press-07"
state = "state"
[mqtt]
url = "{url}"
[sources.folder]
kind = "images"
path = "photos"
[pipelines.door]
source = "folder"
model = "row.tflite"
transforms = [
  {{ kind = "resize", width = 6, height = 1, method = "nearest" }},
  {{ kind = "colour", to = "grey" }},
  {{ kind = "normalise", std = 255 }},
]
decoder = {{ kind = "detect", labels = ["cat", "dog"], layout = "yolov8" }}
postprocess = [{{ kind = "track" }}]
snapshots = {{}}
"""


def test_an_object_that_appears_is_shown_with_its_box(tmp_path: Path, broker: Mosquitto, photos: Path) -> None:
    # Six grey bands are the row that the detector gives: a cat in the middle, 0.9.
    models.dense(tmp_path / "row.tflite", inputs=6, outputs=6, int8=False)
    row = np.array([128, 128, 128, 128, 230, 0], np.uint8)
    bands = np.repeat(np.repeat(row, 40)[np.newaxis, :, np.newaxis], 3, axis=2).repeat(120, axis=0)
    (photos / "a.png").unlink()
    for number in range(6):
        pictures.aged(photos / f"{number}.png", pictures.encoded(bands, "PNG"))
    (tmp_path / "limpet.toml").write_text(DETECTOR.format(url=broker.url))
    consumer = Consumer(broker.port)
    with daemon(tmp_path / "limpet.toml"):
        wait_until(lambda: consumer.events("door", "object"))
        wait_until(lambda: retained(broker))
    found = pixels_of(retained(broker)).astype(int)
    assert found.shape == bands.shape
    drawn = (np.abs(found - bands.astype(int)) > 35).any(axis=2)
    assert drawn[28:32, 70:170].all(axis=1).any(), "the top of the box"
    assert drawn[50:80, 58:62].all(axis=0).any(), "its left side"
    assert not drawn[50:80, 70:150].any(), "its inside stays as it is"
    consumer.close()
