"""Labels that are enrolled by command in the real daemon, and what it still knows after a kill."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from support import models
from support.broker import Mosquitto, mosquitto, wait_until
from support.caller import caller
from support.daemon import Consumer, daemon

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

import pytest

CONFIGURATION = """
[device]
id = "gate"
state = "state"
health_interval = 600
commands = ["enrol", "forget", "undo"]

[mqtt]
url = "{url}"

[sources.ramp]
kind = "replay"
path = "recording.csv"
rate = 20
loop = true

[pipelines.faces]
source = "ramp"
model = "dense.tflite"
decoder = {{ kind = "embed", threshold = 0.9 }}

[pipelines.oil]
source = "ramp"
model = "dense.tflite"
decoder = {{ kind = "regress" }}
"""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path / "broker") as running:
        yield running


def newest(consumer: Consumer) -> str | None:
    label: str | None = consumer.results("faces")[-1]["output"]["label"]
    return label


def test_a_label_is_enrolled_by_command_and_known_after_a_kill(tmp_path: Path, broker: Mosquitto) -> None:
    models.dense(tmp_path / "dense.tflite", inputs=3, outputs=3)
    (tmp_path / "recording.csv").write_text("ax,ay,az\n" + "1,2,3\n" * 50)
    path = tmp_path / "limpet.toml"
    path.write_text(CONFIGURATION.format(url=broker.url))
    consumer = Consumer(broker.port)
    with daemon(path) as running, caller(broker.port, device="gate") as operator:
        consumer.wait_results("faces", 2)
        assert newest(consumer) is None
        answer = operator.call("enrol", pipeline="faces", label="Anna", windows=5)
        assert answer["ok"], answer
        assert answer["result"] == {"labels": {"Anna": 5}}
        consumer.wait_results("faces", 2)
        assert newest(consumer) == "Anna"
        refused = operator.call("enrol", pipeline="oil", label="Anna")
        assert "does not learn labels" in refused["error"]
        refused = operator.call("enrol", pipeline="faces", label="a\n")
        assert "1 to 64 characters that can be printed" in refused["error"]
        running.process.send_signal(signal.SIGKILL)
        running.process.wait()
        wait_until(lambda: not running.survivors())
        seen = len(consumer.results("faces"))
        running.start()
        wait_until(lambda: len(consumer.results("faces")) > seen + 2)
        assert newest(consumer) == "Anna"
        answer = operator.call("forget", pipeline="faces", label="Anna")
        assert answer["result"] == {"labels": {}}
        consumer.wait_results("faces", 2)
        assert newest(consumer) is None
        answer = operator.call("undo", pipeline="faces")
        assert answer["result"] == {"numbers": [2], "labels": 1}
        consumer.wait_results("faces", 2)
        assert newest(consumer) == "Anna"
        assert operator.call("undo", pipeline="faces", number=1)["result"] == {"numbers": [1], "labels": 1}
        assert operator.call("undo", pipeline="faces")["error"] == "no adaptation is in force"
    adapted = [event["reason"] for event in consumer.events("faces", "adapted")]
    assert adapted == [
        "adaptation 1 (prototype): The label 'Anna' was enrolled by command",
        "adaptation 2 (prototype): The label 'Anna' was forgotten by command",
    ]
    consumer.close()
