"""Windows that a real daemon keeps: from the sensor to whole files, with the ids of their results."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from limpet.captures import arrays, form, ring, sealing
from support import models
from support.broker import Mosquitto, mosquitto, wait_until
from support.caller import caller
from support.daemon import Consumer, daemon

if TYPE_CHECKING:
    from pathlib import Path

CONFIGURATION = """
[device]
id = "press-07"
state = "state"
health_interval = 0.5
commands = ["keep"]

[mqtt]
url = "{url}"

[sources.ramp]
kind = "replay"
path = "recording.csv"
rate = 50
loop = true

[pipelines.press]
source = "ramp"
model = "dense.tflite"
decoder = {{ kind = "classify", labels = ["a", "b", "c"], threshold = 0.0 }}
keep = {{ margin = 0.0, rare = 0.0, audit = 0, score = 0.0, abstained = false, encrypt_for = "{key}" }}

[pipelines.oil]
source = "ramp"
model = "dense.tflite"
decoder = {{ kind = "regress" }}
"""


def configured(folder: Path, broker: Mosquitto, key: str) -> Path:
    models.dense(folder / "dense.tflite", inputs=3, outputs=3)
    rows = "".join(f"{i % 7},{i % 5 / 2},{-(i % 3)}\n" for i in range(1000))
    (folder / "recording.csv").write_text("ax,ay,az\n" + rows)
    path = folder / "limpet.toml"
    path.write_text(CONFIGURATION.format(url=broker.url, key=key))
    return path


def test_a_command_keeps_windows_with_their_results_encrypted_on_the_disk(tmp_path: Path) -> None:
    private, public = sealing.make_keys()
    root = tmp_path / "state" / ring.CAPTURES
    with mosquitto(tmp_path / "broker") as broker:
        consumer = Consumer(broker.port)
        with daemon(configured(tmp_path, broker, public)), caller(broker.port) as them:
            wait_until(lambda: consumer.results("press"))
            assert them.call("keep", pipeline="press", windows=3)["result"] == {"windows": 3}
            assert "keep = {}" in them.call("keep", pipeline="oil")["error"]
            wait_until(lambda: (consumer.last("health/press")["captures"] or {}).get("count") == 3)
            health = consumer.last("health/press")["captures"]
            assert health["kept"] == {"command": 3}
            assert consumer.last("health/oil")["captures"] is None
        found = ring.entries(root, "press")
        results = {one["id"]: one for one in consumer.results("press")}
        consumer.close()
    assert [one.capture.number for one in found] == [1, 2, 3]
    key = sealing.PrivateKey(private, "key.pem")
    for one in found:
        file = form.read(one.path)
        contents = form.contents(file.capture, key.decrypt(file, "it"), "it")
        result = results[file.capture.id]
        assert contents.output == result["output"]
        assert (file.capture.sample, file.capture.answer) == (result["sample"], result["output"]["label"])
        row = arrays.samples(file.capture, contents)
        i = file.capture.sample % 1000
        assert np.array_equal(row, [[i % 7, i % 5 / 2, -(i % 3)]])
        assert file.capture.window.channels == ["ax", "ay", "az"]
        assert json.dumps(result["output"]["label"]).encode() in file.header
