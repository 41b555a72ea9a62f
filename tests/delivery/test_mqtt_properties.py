"""What MQTT 5 has besides topic and payload, as a subscriber and the wire see it, and sessions that last."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from limpet.contracts.messages import Reply
from limpet.reporters import mqtt
from support import reports
from support.broker import Mosquitto, listener, mosquitto, wait_until
from support.caller import caller
from support.gate import WELCOME_5
from support.wire import wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from limpet.contracts.reporter import Command


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path / "broker", "max_topic_alias 10", "allow_anonymous true\nlog_type all") as running:
        yield running


@contextmanager
def reporting(
    url: str, directory: Path, obey: Callable[[Command], None] = reports.deaf, **options: Any
) -> Iterator[reports.Fed[mqtt.MqttReporter]]:
    config = mqtt.Config(url=url, reconnect_max=0.1, **options)
    with reports.opened(mqtt, config, directory, obey) as reporter:
        yield reporter


def test_a_subscriber_sees_type_expiry_and_properties(broker: Mosquitto, tmp_path: Path) -> None:
    dialects: Any = {"json": {}, "cloudevents": {}}
    outbox = mqtt.Config(url="mqtt://b").outbox
    outbox.results.max_age = 1000.0
    with (
        caller(broker.port, topics=["limpet/#"]) as subscriber,
        reporting(broker.url, tmp_path, dialects=dialects, outbox=outbox) as reporter,
    ):
        reporter.report(reports.result())
        reporter.report(reports.device_health())

        def said(topic: str) -> Any:
            return next((m for m in subscriber.heard if m.topic == f"limpet/press-07/{topic}"), None)

        wait_until(lambda: said("result/motion") and said("cloudevents/result/motion") and said("health"))
        native = said("result/motion").properties
        assert native.ContentType == "application/json"
        assert 990 <= native.MessageExpiryInterval <= 1000
        assert not hasattr(native, "UserProperty")
        event = dict(said("cloudevents/result/motion").properties.UserProperty)
        assert event["specversion"] == "1.0"
        assert event["id"] == "press-07/motion/boot1/0"
        assert not hasattr(said("health").properties, "MessageExpiryInterval")


def test_a_topic_is_written_once_and_then_by_its_alias(broker: Mosquitto, tmp_path: Path) -> None:
    with (
        wire(broker.port, record=True) as line,
        listener(broker.port) as heard,
        reporting(line.url, tmp_path, batch_count=1) as reporter,
    ):
        for sequence in range(200):
            reporter.report(reports.result(sequence))
            if sequence in {0, 100}:
                wait_until(lambda count=sequence: len(heard.results()["motion"]) > count)  # type: ignore[misc]
        wait_until(lambda: len(heard.results()["motion"]) == 200)
        assert [r["sequence"] for r in heard.results()["motion"]] == list(range(200))
        wait_until(lambda: reporter.health()["outbox_depth"] == 0)
        # Written once or, while its first message was under way, a few times; not two hundred.
        assert 1 <= line.sent.count(b"limpet/press-07/result/motion") < 30
        # The broker knows no aliases of a connection that is gone.
        line.cut()
        wait_until(lambda: reporter.health()["reconnects"] >= 1)
        reporter.report(reports.result(200))
        wait_until(lambda: any(r["sequence"] == 200 for r in heard.results()["motion"]))


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_command_sent_while_the_device_is_away_arrives(broker: Mosquitto, tmp_path: Path, protocol: Any) -> None:
    obeyed: list[Command] = []
    with reporting(broker.url, tmp_path, protocol=protocol) as reporter:
        wait_until(lambda: reporter.health()["connected"])
    with caller(broker.port, protocol) as operator:
        operator.send("ping", b"{}")
        with reporting(broker.url, tmp_path, obeyed.append, protocol=protocol):
            wait_until(lambda: obeyed)
            obeyed[0].reply(Reply(device="press-07", command="ping", ok=True))
            wait_until(lambda: operator.heard)
    assert (obeyed[0].name, obeyed[0].payload) == ("ping", b"{}")


def test_a_session_that_does_not_last_forgets(broker: Mosquitto, tmp_path: Path) -> None:
    obeyed: list[Command] = []
    with reporting(broker.url, tmp_path, session_expiry=0) as reporter:
        wait_until(lambda: reporter.health()["connected"])
    with caller(broker.port) as operator:
        operator.send("health", b"{}")
        with reporting(broker.url, tmp_path, obeyed.append, session_expiry=0) as reporter:
            wait_until(lambda: reporter.health()["connected"])
            operator.send("ping", b"{}")
            wait_until(lambda: obeyed)
    assert [command.name for command in obeyed] == ["ping"]


def test_online_is_said_once_commands_are_heard(broker: Mosquitto, tmp_path: Path) -> None:
    obeyed: list[Command] = []
    with listener(broker.port, "limpet/+/status") as heard, caller(broker.port) as operator:

        def send_when_online() -> None:
            wait_until(lambda: heard.messages)
            operator.send("ping", b"{}")

        sender = threading.Thread(target=send_when_online)
        sender.start()
        with reporting(broker.url, tmp_path, obeyed.append, session_expiry=0):
            wait_until(lambda: obeyed)
        sender.join()
    log = broker.log
    subscribed = log.index("Sending SUBACK to limpet-press-07")
    assert subscribed < log.index("Received PUBLISH from limpet-press-07")


def refuse_subscriptions(server: socket.socket) -> None:
    """Take one client, and refuse what it subscribes to as MQTT 5 says it."""
    client, _ = server.accept()
    with client:
        client.recv(4096)
        client.sendall(WELCOME_5)
        subscribe = client.recv(4096)
        client.sendall(bytes([0x90, 4, *subscribe[2:4], 0, 0x87]))
        while client.recv(4096):
            pass


def test_a_refused_subscription_is_said_and_results_go_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        broker = threading.Thread(target=refuse_subscriptions, args=(server,))
        broker.start()
        with reporting(f"mqtt://127.0.0.1:{server.getsockname()[1]}", tmp_path) as reporter:
            wait_until(lambda: reporter.health()["published"])
        broker.join()
    assert "refuses our subscription to limpet/press-07/command/+ (Not authorized)" in caplog.text
