"""The MQTT reporter against a real mosquitto: topics, batches, presence, protocol versions."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from limpet.reporters import mqtt
from support import reports
from support.broker import Mosquitto, free_port, listener, mosquitto, wait_until
from support.gate import gate

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path_factory.mktemp("broker")) as running:
        yield running


@contextmanager
def reporting(url: str, directory: Path, **options: Any) -> Iterator[reports.Fed[mqtt.MqttReporter]]:
    config = mqtt.Config(url=url, reconnect_max=0.1, **options)
    with reports.opened(mqtt, config, directory) as reporter:
        wait_until(lambda: reporter.health()["connected"])
        yield reporter


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_each_message_arrives_on_its_topic(broker: Mosquitto, tmp_path: Path, protocol: str) -> None:
    with listener(broker.port) as heard, reporting(broker.url, tmp_path, protocol=protocol) as reporter:
        for message in reports.one_of_each():
            reporter.report(message)
        wait_until(lambda: len({m.topic for m in heard.messages}) == 7)
        assert {m.topic.removeprefix("limpet/press-07/") for m in heard.messages} == {
            "status", "result/motion", "event/motion", "event", "health", "health/motion", "model/motion/reported",
        }  # fmt: skip
        (result,) = heard.on("result/motion")
        assert (result.json["id"], result.json["time"]) == (
            "press-07/motion/boot1/0",
            "2026-11-21T12:30:15.250000Z",
        )
        wait_until(lambda: reporter.health()["outbox_depth"] == 0)
        health = reporter.health()
        assert (health["protocol"], health["shed"], health["refused"]) == (protocol, {}, {})
        assert health["published"] == health["acknowledged"] == 7


def test_quality_of_service_0_sends_everything_once(broker: Mosquitto, tmp_path: Path) -> None:
    with listener(broker.port) as heard, reporting(broker.url, tmp_path, qos=0, batch_count=1) as reporter:
        for message in reports.results(500):
            reporter.report(message)
        wait_until(lambda: len(heard.results()["motion"]) == 500)
        wait_until(lambda: reporter.health()["outbox_depth"] == 0)


def test_results_come_in_batches_and_in_order(broker: Mosquitto, tmp_path: Path) -> None:
    with (
        listener(broker.port) as heard,
        reporting(broker.url, tmp_path, batch_count=40, batch_age=0.5) as reporter,
    ):
        for sequence in range(100):
            reporter.report(reports.result(sequence, "motion"))
            reporter.report(reports.result(sequence, "camera"))
        wait_until(lambda: len(heard.results()["motion"]) == len(heard.results()["camera"]) == 100)
        for pipeline in ("motion", "camera"):
            payloads = [m.json for m in heard.on(f"result/{pipeline}")]
            assert isinstance(payloads[0], dict)
            assert [len(p) for p in payloads[1:]] == [40, 40, 19]
            assert [r["sequence"] for r in heard.results()[pipeline]] == list(range(100))


def test_state_is_retained_and_only_the_newest(broker: Mosquitto, tmp_path: Path) -> None:
    with reporting(broker.url, tmp_path) as reporter:
        for uptime in range(50):
            reporter.report(reports.device_health(float(uptime)))
        with listener(broker.port) as early:
            wait_until(lambda: 49.0 in [m.json["uptime_s"] for m in early.on("health")])
        with listener(broker.port) as heard:
            wait_until(lambda: len(heard.on("health")) == len(heard.on("status")) == 1)
            assert heard.on("health")[0].retained
            assert heard.on("health")[0].json["uptime_s"] == 49.0
            assert heard.on("status")[0].json == {
                "device": "press-07", "boot": "boot1", "version": "0.1.0", "status": "online",
            }  # fmt: skip


def test_a_broker_that_has_forgotten_gets_the_state_again(tmp_path: Path) -> None:
    with mosquitto(tmp_path / "broker") as broker, reporting(broker.url, tmp_path) as reporter:
        reporter.report(reports.model_reported())
        broker.kill()
        wait_until(lambda: not reporter.health()["connected"])
        broker.start()
        with listener(broker.port) as heard:
            wait_until(lambda: heard.on("model/motion/reported"))
        assert reporter.health()["reconnects"] == 1
        assert "broke" in reporter.health()["last_disconnect"]


def test_status_is_online_then_offline_because_stopped(tmp_path: Path) -> None:
    with mosquitto(tmp_path / "broker") as broker, listener(broker.port, "limpet/+/status") as heard:
        with reporting(broker.url, tmp_path):
            pass
        wait_until(lambda: len(heard.messages) == 2)
        assert [(m.json["status"], m.json.get("reason")) for m in heard.messages] == [
            ("online", None),
            ("offline", "stopped"),
        ]


CHILD = """
import sys
from pathlib import Path
from limpet.reporters import mqtt
from support import reports
with reports.opened(mqtt, mqtt.Config(url=sys.argv[1]), Path()) as reporter:
    sys.stdin.read()
"""


def test_a_killed_process_leaves_its_last_will(broker: Mosquitto, tmp_path: Path) -> None:
    with listener(broker.port, "limpet/+/status") as heard:
        heard.messages.clear()
        tests = str(Path(__file__).parent.parent)
        command, environment = [sys.executable, "-c", CHILD, broker.url], os.environ | {"PYTHONPATH": tests}
        with subprocess.Popen(command, env=environment, cwd=tmp_path, stdin=subprocess.PIPE) as child:
            try:
                wait_until(lambda: any(m.json["status"] == "online" for m in heard.messages))
            finally:
                child.send_signal(signal.SIGKILL)
        wait_until(lambda: heard.messages[-1].json["status"] == "offline")
        assert heard.messages[-1].json["reason"] == "connection lost"


def test_what_is_waiting_is_sent_before_the_end(broker: Mosquitto, tmp_path: Path) -> None:
    with listener(broker.port) as heard:
        with reporting(broker.url, tmp_path, batch_age=30) as reporter:
            for message in reports.results(250):
                reporter.report(message)
        wait_until(lambda: len(heard.results()["motion"]) == 250)


@pytest.mark.parametrize("manner", ["refuse-5", "hang-up-on-5"])
def test_a_broker_that_only_knows_3_1_1_is_spoken_to_in_3_1_1(
    broker: Mosquitto, tmp_path: Path, manner: Any
) -> None:
    with (
        gate(broker.port, manner) as old,
        listener(broker.port) as heard,
        reporting(old.url, tmp_path) as reporter,
    ):
        reporter.report(reports.event())
        wait_until(lambda: heard.on("event/motion"))
        assert reporter.health()["protocol"] == "3.1.1"
        assert len(old.visits) == 2


def test_websockets(tmp_path: Path) -> None:
    port = free_port()
    # mosquitto 2.0 does not start with a websockets listener alone.
    with (
        mosquitto(tmp_path / "broker", f"listener {port} 127.0.0.1\nprotocol websockets"),
        reporting(f"ws://127.0.0.1:{port}", tmp_path, batch_count=10) as reporter,
    ):
        for message in reports.results(1000):
            reporter.report(message)
        wait_until(lambda: reporter.health()["acknowledged"] > 100 and reporter.health()["outbox_depth"] == 0)


def test_what_the_access_list_refuses_is_counted_and_dropped_and_the_rest_passes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    access = tmp_path / "access"
    access.write_text("topic readwrite limpet/+/status\ntopic readwrite limpet/+/result/#\ntopic read limpet/#\n")
    with (
        mosquitto(tmp_path / "broker", "", f"allow_anonymous true\nacl_file {access}") as broker,
        listener(broker.port) as heard,
        reporting(broker.url, tmp_path) as reporter,
    ):
        for _ in range(3):
            reporter.report(reports.event())
        reporter.report(reports.result())
        wait_until(lambda: heard.on("result/motion"))
        wait_until(lambda: reporter.health()["outbox_depth"] == 0)
        # mosquitto hangs up after it has refused a message. Each reason is an event once, which it refuses too.
        wait_until(lambda: reporter.health()["refused"].get("0x87", 0) >= 4)
        assert reporter.health()["refused"].keys() == {"0x87"}
        assert heard.on("event/motion") == []
    said = [r.getMessage() for r in caplog.records if "refuses messages" in r.getMessage()]
    assert [text.split()[4] for text in said] == ["limpet/press-07/event/motion", "limpet/press-07/event"]


def test_what_cannot_be_written_as_json_is_counted(broker: Mosquitto, tmp_path: Path) -> None:
    with listener(broker.port) as heard, reporting(broker.url, tmp_path) as reporter:
        reporter.report(reports.result(0, output={"deep": object()}))
        reporter.report(reports.result(1, output={"score": float("nan")}))
        wait_until(lambda: heard.on("result/motion"))
        assert heard.on("result/motion")[0].json["output"] == {"score": None}
        wait_until(lambda: reporter.health()["shed"] == {"not encodable": 1})
