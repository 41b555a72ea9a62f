"""Commands through a real broker to the real daemon, and its answers."""

from __future__ import annotations

import json
import subprocess
import time
from typing import TYPE_CHECKING, Any, Literal

import jsonschema
import pytest

import schemas
from limpet.contracts.commands import REQUESTS
from limpet.supervision.commands import AT_ONCE
from support import models
from support.broker import Mosquitto, mosquitto, wait_until
from support.caller import Caller, caller
from support.daemon import Consumer, Daemon, daemon
from support.hostile import Rules, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONFIGURATION = """
[device]
id = "press-07"
state = "state"
health_interval = 600
commands = ["ping", "health", "restart", "log_level", "threshold", "capture"]

[mqtt]
url = "{url}"

[sources.ramp]
kind = "replay"
path = "recording.csv"
rate = 20
loop = true

[pipelines.press]
source = "ramp"
model = "dense.tflite"
decoder = {{ kind = "classify", labels = ["a", "b", "c"], threshold = 0.0 }}

[pipelines.oil]
source = "ramp"
model = "dense.tflite"
decoder = {{ kind = "regress" }}
"""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path_factory.mktemp("broker")) as running:
        yield running


def write(folder: Path, url: str, configuration: str = CONFIGURATION) -> Path:
    models.dense(folder / "dense.tflite", inputs=3, outputs=3)
    (folder / "recording.csv").write_text("ax,ay,az\n" + "".join(f"{i % 7},{i % 5},1\n" for i in range(100)))
    path = folder / "limpet.toml"
    path.write_text(configuration.format(url=url))
    return path


@pytest.fixture(scope="module")
def running(broker: Mosquitto, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    path = write(tmp_path_factory.mktemp("device"), broker.url)
    consumer = Consumer(broker.port)
    with daemon(path) as started:
        consumer.wait_results("press", 2)
        consumer.wait_results("oil", 1)
        yield started
    consumer.close()


@pytest.fixture
def operator(broker: Mosquitto, running: Daemon) -> Iterator[Caller]:
    assert running.process.poll() is None
    time.sleep(0.5)  # what the tests before have used up of the commands a second
    with caller(broker.port, topics=["limpet/press-07/#"]) as connected:
        yield connected


def valid(name: str, content: Any) -> Any:
    jsonschema.Draft202012Validator(schemas.schema(name)).validate(content)
    return content


@pytest.mark.usefixtures("running")
def test_health_says_soon_that_the_broker_is_connected(broker: Mosquitto) -> None:
    consumer = Consumer(broker.port)
    wait_until(lambda: ((consumer.last("health") or {}).get("reporters") or {"mqtt": {}})["mqtt"].get("connected"))
    consumer.close()


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_ping_is_answered_to_whoever_asked(
    broker: Mosquitto, running: Daemon, protocol: Literal["5", "3.1.1"]
) -> None:
    with caller(broker.port, protocol) as connected:
        answer = valid("reply", connected.call("ping"))
    assert answer["ok"]
    assert answer["device"] == "press-07"
    assert set(answer["result"]) == {"boot", "version"}
    assert "limpet.supervision.commands" in running.log or "command 'ping'" in running.log


def test_health_is_published_and_returned_now(operator: Caller) -> None:
    answer = operator.call("health")
    assert answer["result"]["pipelines"] == {"press": "running", "oil": "running"}
    valid("health", answer["result"])
    wait_until(lambda: any(m.topic == "limpet/press-07/health" and not m.retain for m in operator.heard))


def test_log_level_is_set_in_all_processes(operator: Caller) -> None:
    assert operator.call("log_level", level="DEBUG")["ok"]
    assert operator.call("log_level", level="INFO")["ok"]
    assert "level" in operator.call("log_level", level="LOUD")["error"]


def test_threshold_is_what_the_decoder_then_uses(broker: Mosquitto, operator: Caller) -> None:
    consumer = Consumer(broker.port)
    assert operator.call("threshold", pipeline="press", value=1e9)["ok"]
    wait_until(lambda: any(r["output"].get("abstained") for r in consumer.results("press")))
    assert operator.call("threshold", pipeline="press", value=0.0)["ok"]
    assert "no threshold" in operator.call("threshold", pipeline="oil", value=1.0)["error"]
    consumer.close()


def test_capture_gives_what_the_model_was_given(operator: Caller) -> None:
    answer = operator.call("capture", pipeline="oil")
    (tensor,) = answer["result"]["inputs"]
    assert tensor["shape"] == [1, 3]
    ((ax, ay, az),) = tensor["values"]
    assert (0 <= ax <= 6, 0 <= ay <= 4, az) == (True, True, 1.0)


def test_restart_starts_the_worker_anew(broker: Mosquitto, running: Daemon, operator: Caller) -> None:
    before = running.pid_of("ramp")
    assert operator.call("restart", pipeline="press")["ok"]
    wait_until(lambda: before not in running.descendants())
    consumer = Consumer(broker.port)
    consumer.wait_results("press", 1)
    assert running.pid_of("ramp") != before
    consumer.close()


def test_restart_starts_a_pipeline_that_has_ended_or_failed(broker: Mosquitto, tmp_path: Path) -> None:
    text = (
        CONFIGURATION.replace("press-07", "press-09")
        .replace("loop = true", "")
        .replace("rate = 20", "rate = 1000")
    )
    crossed = text[text.index("[sources.ramp]") : text.index("[pipelines.oil]")]
    for old, new in (("ramp", "crossed"), ("press", "unfit"), ("dense.tflite", "crossed.tflite")):
        crossed = crossed.replace(old, new)
    models.dense(tmp_path / "crossed.tflite", inputs=4, outputs=3)
    path = write(tmp_path, broker.url, text + crossed)
    consumer = Consumer(broker.port)
    topics = ["limpet/press-09/#"]
    with daemon(path) as running, caller(broker.port, topics=topics, device="press-09") as operator:
        for name, event in (("press", "finished"), ("unfit", "failed")):
            wait_until(lambda name=name, event=event: consumer.events(name, event))
            wait_until(lambda: "limpet:" not in "".join(running.descendants().values()))
            assert operator.call("restart", pipeline=name)["ok"]
            wait_until(lambda name=name, event=event: len(consumer.events(name, event)) == 2)
        wait_until(lambda: len([one for one in consumer.results("press") if one["device"] == "press-09"]) == 200)
    consumer.close()


@pytest.mark.parametrize(
    ("command", "payload", "says"),
    [
        ("explode", b"", "there is no command 'explode'"),
        ("ping", b"{", "not what 'ping' takes"),
        ("ping", b'{"loud": true}', "ping.loud: unknown key"),
        ("restart", b"{}", "restart.pipeline is missing; use text in quotes"),
        ("restart", b'{"pipeline": 7}', "restart.pipeline is 7; use text in quotes"),
        ("threshold", b'{"pipeline": "press", "value": "high"}', 'threshold.value is "high"; use a number'),
        ("restart", b'{"pipeline": "boiler"}', "no pipeline 'boiler'"),
        ("capture", b'{"pipeline": "boiler"}', "no pipeline 'boiler'"),
        ("ping", b"\xff\x00", "not what 'ping' takes"),
        ("ping", b'{"\xff":1}', "not what 'ping' takes"),
        ("ping", b'{"\\ud800":1}', "not what 'ping' takes"),
        ("ping", b'{"a":' * 100_000, "not what 'ping' takes"),
        ("ping", b"[" * 1_000_000, "not what 'ping' takes"),
        ("threshold", b'{"pipeline": "press", "value": NaN}', "not what 'threshold' takes"),
        ("threshold", b'{"pipeline": "press", "value": 1e999}', "not what 'threshold' takes"),
        ("log_level", b'{"level": "\xff"}', "not what 'log_level' takes"),
    ],
)
def test_what_cannot_be_done_is_answered_so(
    operator: Caller, running: Daemon, command: str, payload: bytes, says: str
) -> None:
    answer = valid("reply", operator.call(command, payload))
    assert not answer["ok"]
    assert says in answer["error"]
    assert f"command {command!r}" in running.log
    assert answer["error"].splitlines()[0] in running.log


def test_a_reply_is_planted_on_no_topic_of_a_device(operator: Caller, running: Daemon) -> None:
    for topic in ("x/#", "limpet/press-07/status", "limpet/press-08/command/restart", "homeassistant/s/x/config"):
        operator.send("ping", b"{}", response_topic=topic)
    wait_until(lambda: "no reply may go to its response topic" in running.log)
    wait_until(lambda: operator.call("ping")["ok"])
    health = operator.call("health")["result"]["reporters"]["mqtt"]
    assert health["ignored"] == {"response topic": 4}
    assert not [m for m in operator.heard if m.topic == "limpet/press-07/status" and b'"command"' in m.payload]


def test_a_retained_command_is_not_obeyed(operator: Caller, running: Daemon, broker: Mosquitto) -> None:
    pid = running.pid_of("ramp")
    # A live delivery of it has no retain flag; what a later subscriber gets has.
    operator.send("log_level", b'{"level": "INFO"}', retain=True)
    broker.stop()
    broker.start()
    wait_until(lambda: "a retained command is ignored" in running.log, 20)
    assert running.pid_of("ramp") == pid


def test_too_many_commands_are_refused_and_later_ones_obeyed(broker: Mosquitto, running: Daemon) -> None:
    wait_until(lambda: running.log.count("connected with MQTT") >= 1)
    with caller(broker.port) as flood:
        for _ in range(int(4 * AT_ONCE)):
            flood.send("ping", b"")
        wait_until(lambda: len(flood.heard) == 4 * AT_ONCE)
        refused = [m for m in flood.heard if b"too many commands" in m.payload]
        assert AT_ONCE <= len(refused) < 4 * AT_ONCE  # what tests before have used up is refused, too
        wait_until(lambda: flood.call("ping")["ok"])


def test_mosquitto_rr_gets_its_answer(broker: Mosquitto, running: Daemon) -> None:
    assert running.process.poll() is None
    command = ["mosquitto_rr", "-p", str(broker.port), "-V", "5", "-t", "limpet/press-07/command/ping"]
    command += ["-e", "answers/me", "-m", "{}", "-W", "10"]

    def answered() -> bool:
        done = subprocess.run(command, check=True, capture_output=True, timeout=20)
        return json.loads(done.stdout)["ok"] is True

    wait_until(answered)  # the tests before may have used up the commands of this second


def test_without_any_command_nothing_is_subscribed_to(tmp_path: Path) -> None:
    commands = '["ping", "health", "restart", "log_level", "threshold", "capture"]'
    with (
        serving(Rules) as listening,
        daemon(write(tmp_path, listening.url, CONFIGURATION.replace(commands, "[]"))),
    ):
        wait_until(lambda: listening.results()["press"], 20)
    assert listening.subscriptions == []


def test_every_command_has_a_schema() -> None:
    assert {f"command-{name}" for name in REQUESTS} <= set(schemas.KINDS)


def test_what_is_not_allowed_is_answered_so(broker: Mosquitto, tmp_path: Path) -> None:
    others = CONFIGURATION.replace("press-07", "press-08").replace(
        '["ping", "health", "restart", "log_level", "threshold", "capture"]', '["ping"]'
    )
    consumer = Consumer(broker.port, "limpet/press-08/#")
    with daemon(write(tmp_path, broker.url, others)) as shy, caller(broker.port, device="press-08") as connected:
        consumer.wait_results("oil", 1)
        assert connected.call("ping")["ok"]
        answer = connected.call("health")
        assert (answer["ok"], "not allowed" in answer["error"]) == (False, True)
        assert "WARNING" in next(line for line in shy.log.splitlines() if "not allowed" in line)
    consumer.close()
