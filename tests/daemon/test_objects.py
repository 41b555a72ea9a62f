"""Objects in the real daemon: boxes of a detector become objects, with ids, zones, lines and events over MQTT."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import msgspec

from limpet.contracts.messages import EventMessage
from support import models, videos
from support.broker import wait_until
from support.daemon import Consumer, daemon
from support.outside import install

if TYPE_CHECKING:
    from daemon.conftest import Configure

SCHEMA = Path(__file__).parents[2] / "docs" / "schemas" / "event.json"

# The model gives back what it is given: a row of a YOLO, with one label.
PIPELINE = """
[pipelines.door]
source = "boxes"
model = "detector.tflite"
decoder = { kind = "detect", labels = ["cat"], pixels = [100, 100], layout = "yolov8" }

[[pipelines.door.postprocess]]
kind = "track"
seconds = 0.4

[[pipelines.door.postprocess]]
kind = "zones"
zones = { "right half" = [[0.5, 0], [1, 0], [1, 1], [0.5, 1]] }
settle = 0

[[pipelines.door.postprocess]]
kind = "lines"
lines = { middle = [[0.5, 0], [0.5, 1]] }
"""


def walks(tmp_path: Path, *, loop: bool) -> str:
    """Write a recording of a box that goes to the right. Then no frame comes for 1.5 s, and one without a box.

    Return its source.
    """
    models.dense(tmp_path / "detector.tflite", inputs=5, outputs=5, int8=False)
    way = [f"{25 * step},{10 + 2 * step},50,20,20,0.9" for step in range(40)]
    (tmp_path / "boxes.csv").write_text("t_ms,x,y,w,h,cat\n" + "\n".join([*way, "2500,0,0,0,0,0"]) + "\n")
    return f'[sources.boxes]\nkind = "replay"\npath = "boxes.csv"\nloop = {str(loop).lower()}\n'


def objects(consumer: Consumer, kind: str = "object") -> list[dict[str, Any]]:
    return [event["details"] for event in consumer.events("door", kind)]


def test_a_walk_is_one_object_that_enters_crosses_and_ends(
    configure: Configure, consumer: Consumer, tmp_path: Path
) -> None:
    with daemon(configure(walks(tmp_path, loop=False), PIPELINE)):
        wait_until(lambda: [one["type"] for one in objects(consumer)][-1:] == ["end"])
        wait_until(lambda: consumer.last("health/door")["state"] == "finished")
    new, end = objects(consumer)[0], objects(consumer)[-1]
    number = new["id"]
    assert {one["id"] for one in objects(consumer)} == {number}
    assert (new["label"], new["score"]) == ("cat", 0.9)
    assert end["age_s"] > 1.0
    assert end["unseen_s"] > 0.3
    assert [(one["type"], one["id"]) for one in objects(consumer, "zone")] == [
        ("entered", number),
        ("left", number),
    ]
    assert objects(consumer, "zone")[1]["dwell_s"] > 0.5
    (crossed,) = objects(consumer, "line")
    assert (crossed["direction"], crossed["forward"], crossed["id"]) == ("backward", 0, number)
    published = jsonschema.Draft202012Validator(msgspec.json.decode(SCHEMA.read_bytes()))
    for kind in ("object", "zone", "line"):
        for event in consumer.events("door", kind):
            published.validate(event)
            msgspec.convert(event, EventMessage, strict=False)
    last = consumer.results("door")[-1]
    assert consumer.events("door", "object")[-1]["time"] < last["time"], "it ends while no frame comes"
    outputs = [result["output"] for result in consumer.results("door")]
    assert max(output["counts"].get("cat", 0) for output in outputs) == 1
    assert outputs[-1]["counts"] == {"cat": 0}
    assert outputs[-1]["totals"] == {"cat": 1}
    assert outputs[-1]["zones"] == {"right half": {"cat": 0}}
    assert outputs[-1]["lines"] == {"middle": {"forward": 0, "backward": 1}}
    seen = {one.get("id") for output in outputs for one in output["detections"]}
    assert seen == {number}


def test_a_killed_worker_and_a_stop_leave_no_object_behind_and_no_id_comes_twice(
    configure: Configure, consumer: Consumer, tmp_path: Path
) -> None:
    with daemon(configure(walks(tmp_path, loop=True), PIPELINE)) as running:
        wait_until(lambda: objects(consumer, "zone") != [])
        first = objects(consumer)[0]["id"]
        os.kill(running.pid_of("boxes"), signal.SIGKILL)
        wait_until(lambda: any(one["type"] == "end" for one in objects(consumer)))
        wait_until(lambda: objects(consumer)[-1]["id"] > first)
        assert running.stop() == 0
        wait_until(lambda: objects(consumer)[-1]["type"] == "end")
    assert objects(consumer)[-1].get("reason", "") in {"", "the pipeline is stopped"}
    ended = [one for one in objects(consumer) if one["id"] == first and one["type"] == "end"]
    assert [one["reason"] for one in ended] == ["its worker ended"]
    left = [one for one in objects(consumer, "zone") if one["id"] == first]
    assert [(one["type"], one.get("reason")) for one in left][-1] == ("left", "its worker ended")
    news = [one["id"] for one in objects(consumer) if one["type"] == "new"]
    assert len(set(news)) == len(news)


VIDEO = """
[sources.camera]
kind = "replay"
path = "walk.mp4"

[pipelines.door]
source = "camera"
model = "squares.tflite"
transforms = [
  { kind = "resize", width = 128, height = 96 },
  { kind = "colour", to = "grey" },
  { kind = "normalise", std = 255 },
]
decoder = { kind = "detect", labels = ["square"], pixels = [128, 96], layout = "yolov8", threshold = 0.2 }

[[pipelines.door.postprocess]]
kind = "track"

[[pipelines.door.postprocess]]
kind = "lines"
lines = { middle = [[0.5, 0], [0.5, 1]] }
settle = 0.1
"""


def test_what_moves_in_a_video_is_one_object_that_crosses_the_line(
    configure: Configure, consumer: Consumer, tmp_path: Path
) -> None:
    models.squares(tmp_path / "squares.tflite")
    videos.write(tmp_path / "walk.mp4", count=27)
    with daemon(configure(VIDEO)):
        wait_until(lambda: (consumer.last("health/door") or {}).get("state") == "finished")
        wait_until(lambda: [one["type"] for one in objects(consumer)][-1:] == ["end"])
    (number,) = {one["id"] for one in objects(consumer)}
    assert objects(consumer)[-1]["reason"] == "the pipeline is finished"
    outputs = [result["output"] for result in consumer.results("door")]
    found = [one for output in outputs for one in output["detections"]]
    assert len(found) >= 10
    assert {one["id"] for one in found} == {number}
    lefts = [one["box"][0] for one in found]
    assert lefts == sorted(lefts)
    assert lefts[-1] - lefts[0] > 0.3
    assert [one["direction"] for one in objects(consumer, "line")] == ["backward"]


NOISY = """
import msgspec
from limpet.contracts.detected_events import ObjectEvent
from limpet.contracts.postprocess import Abilities

ABILITIES = Abilities()


class Config(msgspec.Struct, forbid_unknown_fields=True):
    pass


class Noisy:
    def __init__(self, spec):
        self.spec = spec
        self.next = 1

    def __call__(self, window):
        for score in (0.5,) * 50 + (7.0,):
            window.events.append(
                ObjectEvent(
                    type="new", id=self.next, label="cat\\n", score=score,
                    box=(0, 0, 1, 1), zones=[], age_s=0, unseen_s=0
                )
            )
            self.next += 1
        window.events.append(object())
        return window

    def reset(self):
        pass


def open(config, spec):
    return Noisy(spec)
"""


def test_a_stage_that_makes_too_many_events_or_bad_ones_harms_nothing(
    configure: Configure, consumer: Consumer, tmp_path: Path
) -> None:
    install(tmp_path / "site", "postprocess", "noisy", NOISY)
    noisy = PIPELINE[: PIPELINE.index("[[")] + 'postprocess = [{ kind = "noisy" }]\n'
    path = configure(walks(tmp_path, loop=True), noisy)
    with daemon(path, {"PYTHONPATH": str(tmp_path / "site")}) as running:
        wait_until(lambda: (consumer.last("health/door") or {}).get("events_left_out", 0) > 300)
        assert running.stop() == 0
        wait_until(lambda: objects(consumer)[-1]["type"] == "end")
    health = consumer.last("health/door")
    assert health["restarts"] == 0
    assert health["errors"] > 10
    assert "an event cannot be sent: Expected `float` <= 1.0" in running.log
    kinds = [(one["type"], one["id"]) for one in objects(consumer)]
    news = [number for kind, number in kinds if kind == "new"]
    assert 100 <= len(news) < health["events_left_out"]
    assert sorted(number for kind, number in kinds if kind == "end") == news
    assert {one["label"] for one in objects(consumer)} == {"cat "}
