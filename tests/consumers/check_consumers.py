"""Programs that nobody here wrote read what Limpet says: run by ``make consumers``, not by ``make test``."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import msgspec
import pytest

from consumers import home_assistant
from consumers.speaker import speaker
from limpet.contracts.detected_events import ObjectEvent
from limpet.contracts.updates import UpdateStage
from limpet.reporters import mqtt
from rollout.ground import ground
from support import dialects, reports
from support.broker import listener, mosquitto, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.reporters.mqtt import MqttReporter
    from support.broker import Listener, Mosquitto

ROOT = Path(__file__).parent.parent.parent
HOST = Path(__file__).parent / "sparkplug_host.py"
SPARKPLUG_PYTHON = ROOT / ".venv-sparkplug" / "bin" / "python"
NEWER_UPDATE = ROOT / ".venv-homeassistant" / "newer" / "homeassistant" / "components" / "mqtt" / "update.py"
HASS = ROOT / ".venv-homeassistant" / "bin" / "hass"

QUOTED = 'oil "temp" {{ 1 }} é'
OUTPUTS: dict[str, Any] = {
    "motion": {"label": "idle", "score": 0.93, "top": [], "abstained": False},
    "press": {"anomalous": True, "score": 1.5, "threshold": 1.0},
    "pump": {"anomalous": False, "score": 0.0, "threshold": 1.0, "untrained": True, "learned": 0.25},
    "door": {
        "detections": [],
        "counts": {"person": 1, QUOTED: 0},
        "totals": {"person": 4},
        "zones": {"drive": {"person": 1}, "front lawn": {}},
        "lines": {"gate": {"forward": 3, "backward": 1}},
    },
    "oil": {"values": {QUOTED: 81.5}, "units": {QUOTED: "°C"}, "in_range": True, "out_of_range": []},
}
SHOWN = {
    "sensor/press_07_motion_label/state": "fall",
    "sensor/press_07_motion_score/state": "0.5",
    "sensor/press_07_motion_state/state": "running",
    "sensor/press_07_motion_state/delegate": '"cpu"',
    "sensor/press_07_motion_reason/state": "",
    "binary_sensor/press_07_pump_untrained/state": "on",
    "binary_sensor/press_07_door_drive_occupied/state": "on",
    "binary_sensor/press_07_door_drive_occupied/device_class": '"occupancy"',
    "binary_sensor/press_07_door_front_lawn_occupied/state": "off",
    "binary_sensor/press_07_door_person_occupied/state": "on",
    "sensor/press_07_door_counts_person/state": "1",
    "sensor/press_07_door_totals_person/state": "4",
    "sensor/press_07_door_lines_gate_forward/state": "3",
    "sensor/press_07_cpu/state": "25.0",
    "sensor/press_07_event/state": "degraded",
    "sensor/press_07_oil_oil_temp_1_e/state": "81.5",
    "sensor/press_07_oil_oil_temp_1_e/unit_of_measurement": json.dumps("°C"),
}
"""What Home Assistant publishes of its entities, by topic."""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path / "broker") as running:
        yield running


def replayed(result: reports.messages.ResultMessage) -> reports.messages.ResultMessage:
    return msgspec.structs.replace(result, replayed=True)


class Subscriber:
    """A ``mosquitto_sub`` that waits for ``count`` messages."""

    def __init__(self, broker: Mosquitto, version: str, count: int) -> None:
        before = broker.log.count("Sending SUBACK")
        properties = "%C\x1f%P" if version == "5" else "\x1f"
        self._process = subprocess.Popen(
            [
                "mosquitto_sub", "-p", str(broker.port), "-V", "mqttv5" if version == "5" else "mqttv311",
                "-q", "1", "-t", "limpet/+/cloudevents/#", "-t", "limpet/+/result/#", "-C", str(count), "-W", "20",
                "-F", f"%t\x1f{properties}\x1f%p",
            ],
            stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        wait_until(lambda: broker.log.count("Sending SUBACK") > before)

    def lines(self) -> list[list[str]]:
        """Return topic, content type, user properties and payload of each."""
        return [line.split("\x1f") for line in self._process.communicate(timeout=30)[0].splitlines()]


@pytest.fixture
def talkative(tmp_path: Path) -> Iterator[Mosquitto]:
    """Yield a broker that logs who subscribes."""
    with mosquitto(tmp_path / "talkative", settings="allow_anonymous true\nlog_type all") as running:
        yield running


@contextlib.contextmanager
def reporter(broker: Mosquitto, directory: Path, protocol: str = "5", **dialects: Any) -> Iterator[MqttReporter]:
    """Yield Limpet's own reporter, connected."""
    config = mqtt.Config(url=broker.url, protocol=protocol, dialects=dialects)  # type: ignore[arg-type]
    with reports.opened(mqtt, config, directory) as opened:
        wait_until(lambda: opened.health()["connected"])
        yield opened


def test_mosquitto_sub_reads_json(talkative: Mosquitto, tmp_path: Path) -> None:
    subscriber = Subscriber(talkative, "3.1.1", 2)
    with reporter(talkative, tmp_path, "3.1.1", json={}) as said:
        for result in [reports.result(0), reports.result(1), replayed(reports.result(2))]:
            said.report(result)
        (topic, _, _, first), (_, _, _, batch) = subscriber.lines()
    assert topic == "limpet/press-07/result/motion"
    assert json.loads(first)["sequence"] == 0
    assert [(result["sequence"], "replayed" in result) for result in json.loads(batch)] == [(1, False), (2, True)]


def test_mosquitto_sub_reads_cloudevents_in_binary_mode(talkative: Mosquitto, tmp_path: Path) -> None:
    subscriber = Subscriber(talkative, "5", 1)
    with reporter(talkative, tmp_path, "5", cloudevents={}) as said:
        said.report(replayed(reports.result(3)))
        [[topic, content_type, properties, payload]] = subscriber.lines()
    assert topic == "limpet/press-07/cloudevents/result/motion"
    assert content_type == "application/json"
    for attribute in ("specversion:1.0", "id:press-07/motion/boot1/3", "type:io.limpet.result", "replayed:true"):
        assert attribute in properties.split()
    assert json.loads(payload)["output"] == {"label": "idle", "score": 0.93}


def test_mosquitto_sub_reads_cloudevents_in_structured_mode(talkative: Mosquitto, tmp_path: Path) -> None:
    subscriber = Subscriber(talkative, "3.1.1", 1)
    with reporter(talkative, tmp_path, "3.1.1", cloudevents={}) as said:
        said.report(reports.result(3))
        [[_, _, _, payload]] = subscriber.lines()
    assert json.loads(payload)["data"]["sequence"] == 3


@contextlib.contextmanager
def sparkplug_host(broker: Mosquitto) -> Iterator[list[dict[str, Any]]]:
    """Yield what the host decodes, while it runs."""
    heard: list[dict[str, Any]] = []
    command = [SPARKPLUG_PYTHON, HOST, str(broker.port), "limpet", "press-07"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert json.loads(process.stdout.readline()) == {"kind": "ready"}
        lines = iter(process.stdout.readline, "")
        reader = threading.Thread(target=lambda: heard.extend(json.loads(line) for line in lines))
        reader.start()
        try:
            yield heard
        finally:
            process.kill()
            reader.join()


def test_pysparkplug_follows_the_node(broker: Mosquitto) -> None:
    with sparkplug_host(broker) as heard, speaker(broker.port, "sparkplug") as said:

        def births() -> list[dict[str, Any]]:
            said.answer()
            return [message for message in heard if message["kind"] == "NBIRTH"]

        said.say(said.dialect.results([reports.result(0), reports.result(1)]))
        wait_until(lambda: len(births()) == 3)  # at first, for what was new, and as the host asked for it
        said.say(said.dialect.results([replayed(reports.result(2))]))
        said.say(said.dialect.results([reports.result(0, "oil", OUTPUTS["oil"])]))
        wait_until(lambda: len(births()) == 4 and heard[-1]["kind"] == "NDATA")
        said.vanish()
        wait_until(lambda: heard[-1]["kind"] == "NDEATH")
    assert [message["kind"] for message in heard] == [
        "NBIRTH", "NBIRTH", "NDATA", "NBIRTH", "NDATA", "NBIRTH", "NDATA", "NDEATH",
    ]  # fmt: skip
    assert [message["seq"] for message in heard[:-1]] == [0, 0, 1, 0, 1, 0, 1]
    last_birth = heard[5]["metrics"]
    assert heard[-1]["bd_seq"] == next(m["value"] for m in last_birth if m["name"] == "bdSeq")
    values = [m for message in heard if message["kind"] == "NDATA" for m in message["metrics"]]
    ids = [(m["value"], m["historical"]) for m in values if m["name"] == "Pipelines/motion/result/id"]
    assert ids == [(f"press-07/motion/boot1/{number}", number == 2) for number in range(3)]
    assert {m["value"] for m in values if m["name"] == f"Pipelines/oil/values/{QUOTED}"} == {81.5}


def test_pysparkplug_follows_the_reporter(broker: Mosquitto, tmp_path: Path) -> None:
    with sparkplug_host(broker) as heard:
        with reporter(broker, tmp_path, sparkplug={}) as said:
            for message in [*reports.results(40), *reports.one_of_each()]:
                said.report(message)
            wait_until(lambda: said.health()["outbox_depth"] == 0)
        wait_until(lambda: heard and heard[-1]["kind"] == "NDEATH")
    seq = -1
    for message in heard[:-1]:
        seq = 0 if message["kind"] == "NBIRTH" else (seq + 1) % 256
        assert message["seq"] == seq
    values = [m for message in heard if message["kind"] == "NDATA" for m in message["metrics"]]
    ids = [m["value"] for m in values if m["name"] == "Pipelines/motion/result/id"]
    assert ids == [f"press-07/motion/boot1/{number}" for number in [*range(40), 0]]
    assert "Device/health/cpu_share" in {m["name"] for m in values}


def test_home_assistant_finds_the_entities(broker: Mosquitto, tmp_path: Path) -> None:
    directory = tmp_path / "home-assistant"
    with (
        listener(broker.port, f"{home_assistant.STATES}/#") as heard,
        home_assistant.running(HASS, directory, broker.port) as log,
    ):
        with reporter(broker, tmp_path, homeassistant={"discovery": "entity"}) as said:
            results = [reports.result(0, pipeline, output) for pipeline, output in OUTPUTS.items()]
            health = [reports.pipeline_health(pipeline) for pipeline in OUTPUTS]
            for message in [*health, *results, reports.device_health(), reports.event()]:
                said.report(message)
            wait_until(lambda: _newest(heard, "binary_sensor/press_07_press_anomalous/state") == "on", 100)
            said.report(replayed(reports.result(1, output={"label": "fall", "score": 0.5})))
            wait_until(lambda: _newest(heard, "sensor/press_07_motion_label/replayed") == "true")
            # Home Assistant publishes its entities in any order.
            wait_until(lambda: {topic: _newest(heard, topic) for topic in SHOWN} == SHOWN)
            said.report(_object())
            wait_until(lambda: _newest(heard, "event/press_07_door_object/event_type") == '"new"')
            wait_until(lambda: _newest(heard, "event/press_07_door_object/id") == "7")
            fewer = OUTPUTS["door"] | {"zones": {"front lawn": {}}}
            said.report(reports.result(1, "door", fewer))
            said.report(reports.messages.PipelineRemoved(device="press-07", pipeline="pump", time=reports.NOW))
            failed = reports.pipeline_health("press")
            failed.state, failed.reason = "failed", 'the sensor is silent for 20 s {{ "é" }}'
            said.report(failed)
            wait_until(lambda: _newest(heard, "sensor/press_07_press_score/state") == "unavailable")
            wait_until(lambda: _newest(heard, "sensor/press_07_press_state/state") == "failed")
            wait_until(lambda: _newest(heard, "sensor/press_07_press_reason/state") == failed.reason)
            assert _newest(heard, "sensor/press_07_motion_label/state") == "fall"
        wait_until(lambda: _newest(heard, "sensor/press_07_motion_label/state") == "unavailable")
    known = home_assistant.entities(directory)
    assert {"limpet_press-07_motion/label", "limpet_press-07_press/anomalous", "limpet_press-07_cpu"} <= set(known)
    assert not [name for name in known if name.startswith("limpet_press-07_pump")]
    assert "limpet_press-07_door/occupied/zones/front lawn/any" in known
    assert not [name for name in known if "drive" in name]
    log_lines = log.read_text().splitlines()
    complaints = [line for line in log_lines if "Template" in line or ("mqtt" in line and "ERROR" in line)]
    assert complaints == []


def test_home_assistant_offers_a_model_and_installs_it(broker: Mosquitto, tmp_path: Path) -> None:
    """Its own button is pressed, by an automation."""
    with (
        listener(broker.port, "#") as heard,
        home_assistant.running(HASS, tmp_path / "home-assistant", broker.port) as log,
        reporter(broker, tmp_path, homeassistant={"discovery": "entity"}) as said,
    ):
        said.report(reports.model_reported(stage="staged", reason="waits for an operator"))
        wait_until(lambda: _newest(heard, "update/press_07_motion_model/state") == "on", 100)
        entity = "update/press_07_motion_model"
        wait_until(lambda: _newest(heard, f"{entity}/installed_version") == '"motion 3"')
        wait_until(lambda: _newest(heard, f"{entity}/latest_version") == '"motion 4"')
        press = ["-p", str(broker.port), "-t", home_assistant.PRESS, "-m", "update.press_07_motion_model"]
        subprocess.run(["mosquitto_pub", *press], check=True)
        wait_until(lambda: [m for m in heard.messages if m.topic == "limpet/press-07/command/install"])
        (pressed,) = (m.payload for m in heard.messages if m.topic == "limpet/press-07/command/install")
        assert json.loads(pressed) == {"pipeline": "motion"}
        said.report(msgspec.structs.replace(reports.model_reported(stage="good"), version=4))
        wait_until(lambda: _newest(heard, f"{entity}/state") == "off")
        wait_until(lambda: _newest(heard, f"{entity}/installed_version") == '"motion 4"')
        complaints = [line for line in log.read_text().splitlines() if "mqtt" in line and "ERROR" in line]
        assert complaints == []


def test_home_assistant_installs_a_model_on_a_device_that_waits_for_it(tmp_path: Path) -> None:
    """A real device, a request by mosquitto_pub, and Home Assistant's own button."""
    with ground(tmp_path / "device") as device:
        with device.path.open("a") as file:
            file.write('\n[mqtt.dialects.json]\n[mqtt.dialects.homeassistant]\ndiscovery = "entity"\n')
        with (
            listener(device.broker.port, f"{home_assistant.STATES}/#") as heard,
            home_assistant.running(HASS, tmp_path / "home-assistant", device.broker.port),
        ):
            device.running.start()
            device.consumer.wait_results("one", 50, 60)
            device.desire(device.bundle(2), policy={"start": "operator", "trial_windows": 20})
            entity = "update/gate_1_one_model"
            wait_until(lambda: _newest(heard, f"{entity}/state") == "on", 100)
            wait_until(lambda: _newest(heard, f"{entity}/latest_version") == '"motion 2"')
            device.consumer.wait_results("one", 50)
            assert device.versions(20) == {1}
            press = ["-p", str(device.broker.port), "-t", home_assistant.PRESS, "-m", "update.gate_1_one_model"]
            subprocess.run(["mosquitto_pub", *press], check=True)
            wait_until(lambda: device.is_good(2), 60)
            wait_until(lambda: _newest(heard, f"{entity}/installed_version") == '"motion 2"')
            wait_until(lambda: _newest(heard, f"{entity}/state") == "off")
            device.consumer.wait_results("one", 50)
            assert device.versions(20) == {2}
            device.running.stop()


def test_a_newer_home_assistant_takes_progress(tmp_path: Path) -> None:
    """Home Assistant 2024.3.3 knows no progress. The schema comes out of a package that needs Python 3.13."""
    dialect = dialects.opened("homeassistant", discovery="device")
    stages = [reports.model_reported(stage=stage, progress=0.5) for stage in get_args(UpdateStage)]
    states = [json.loads(said.payload) for one in stages for said in dialect.state(one)[-1:]]
    asked = tmp_path / "asked.json"
    asked.write_text(json.dumps({"states": states}))
    script = Path(__file__).parent / "newer_home_assistant.py"
    done = subprocess.run(
        [HASS.with_name("python"), script, NEWER_UPDATE, asked], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, f"{len(states)} states"), done.stderr
    with_progress = [state for state in states if state.get("in_progress")]
    assert {state["update_percentage"] for state in with_progress} == {50.0}


def _object() -> reports.messages.EventMessage:
    new = ObjectEvent(
        type="new", id=7, label="person", score=0.9, box=(0, 0, 1, 1), zones=[], age_s=0.2, unseen_s=0.0
    )
    return msgspec.structs.replace(reports.event("door", "object"), reason="", details=new)


def _newest(heard: Listener, topic: str) -> str | None:
    """Return the last that it told of a state or an attribute of an entity."""
    found = [m.payload.decode() for m in heard.messages if m.topic == f"{home_assistant.STATES}/{topic}"]
    return found[-1] if found else None
