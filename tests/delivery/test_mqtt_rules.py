"""Brokers that close connections over what they do not take: what is found out, given up, counted and named."""

from __future__ import annotations

import socket
import struct
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from limpet.contracts.messages import Reply
from limpet.delivery.mqtt.incoming_commands import MOST
from limpet.errors import ConfigError
from limpet.reporters import mqtt
from support import reports
from support.broker import listener, mosquitto, wait_until
from support.hostile import Hello, Rules, Said, Visit, length, packet, publish, serving, text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.contracts.reporter import Command


@contextmanager
def reporting(url: str, directory: Path, **options: Any) -> Iterator[reports.Fed[mqtt.MqttReporter]]:
    config = mqtt.Config(url=url, reconnect_max=0.05, **options)
    with reports.opened(mqtt, config, directory, lambda _command: None) as reporter:
        yield reporter


class OnePoison(Rules):
    """Closes the connection over any message with the result 200, as one of MQTT 3.1.1 does."""

    def takes(self, said: Said) -> bool:
        return "/result/" not in said.topic or all(item["sequence"] != 200 for item in said.items)


def test_one_result_that_ends_the_connection_is_refused_and_all_others_arrive(tmp_path: Path) -> None:
    with serving(OnePoison) as broker, reporting(broker.url, tmp_path, protocol="3.1.1") as reporter:
        for message in reports.results(310):
            reporter.report(message)
        wait_until(lambda: reporter.health()["outbox_depth"] == 0 and len(broker.results()["motion"]) >= 309, 30)
        assert broker.results()["motion"] == set(range(310)) - {200}
        assert reporter.health()["refused"] == {"closes connection": 1}
        assert len(broker.visits) <= 8
        reporter.report(reports.result(310))
        wait_until(lambda: 310 in broker.results()["motion"])


def test_batches_and_a_result_that_are_too_large_for_mosquitto(tmp_path: Path) -> None:
    """In MQTT 3.1.1 mosquitto says nothing of the largest packet, and closes the connection over a larger one."""
    with (
        mosquitto(tmp_path / "broker", settings="allow_anonymous true\nmax_packet_size 5000") as broker,
        listener(broker.port) as heard,
        reporting(broker.url, tmp_path, protocol="3.1.1", batch_age=0.05) as reporter,
    ):
        for sequence in range(310):
            output = {"label": "x" * 8000} if sequence == 200 else None
            reporter.report(reports.result(sequence, output=output))
        wait_until(lambda: len({r["sequence"] for r in heard.results()["motion"]}) == 309, 40)
        wait_until(lambda: reporter.health()["outbox_depth"] == 0)
        health = reporter.health()
    assert health["refused"] == {"closes connection": 1}
    assert health["reconnects"] <= 12


class SomePoison(OnePoison):
    """Closes over two results and over a state."""

    def takes(self, said: Said) -> bool:
        if said.topic.endswith("/model/motion/reported"):
            return False
        return "/result/" not in said.topic or not {5, 90} & {item["sequence"] for item in said.items}


def test_several_results_and_a_state_that_end_the_connection_are_refused(tmp_path: Path) -> None:
    with serving(SomePoison) as broker, reporting(broker.url, tmp_path, protocol="3.1.1") as reporter:
        reporter.report(reports.model_reported())
        for message in reports.results(100):
            reporter.report(message)
        wait_until(lambda: reporter.health()["outbox_depth"] == 0 and len(broker.results()["motion"]) == 98, 60)
        assert broker.results()["motion"] == set(range(100)) - {5, 90}
        reporter.report(reports.device_health())
        wait_until(lambda: broker.on("limpet/press-07/health"))
        refused = reporter.health()["refused"]
    assert refused["closes connection"] == 3


class NoBirths(Rules):
    """Closes over a birth of Sparkplug, which has QoS 0 and comes with every connection."""

    def takes(self, said: Said) -> bool:
        return "/NBIRTH/" not in said.topic


def test_a_birth_that_ends_the_connection_holds_up_no_results(tmp_path: Path) -> None:
    dialects: Any = {"json": {}, "sparkplug": {}}
    with (
        serving(NoBirths) as broker,
        reporting(broker.url, tmp_path, protocol="3.1.1", dialects=dialects) as reporter,
    ):
        for message in reports.results(20):
            reporter.report(message)
        wait_until(lambda: len(broker.results()["motion"]) == 20, 30)
        wait_until(lambda: reporter.health()["refused"].get("closes connection"))


class KicksEverybody(Rules):
    """Welcomes, and closes every connection half a second later, as an overloaded broker does."""

    def acknowledge(self, visit: Visit, mid: int) -> None:  # noqa: ARG002
        time.sleep(0.2)
        visit.sock.shutdown(socket.SHUT_RDWR)


def test_a_broker_that_closes_every_connection_costs_no_result(tmp_path: Path) -> None:
    with serving(KicksEverybody) as broker, reporting(broker.url, tmp_path, protocol="3.1.1") as reporter:
        for message in reports.results(20):
            reporter.report(message)
        wait_until(lambda: len(broker.visits) >= 7, 30)
        broker.acknowledge = Visit.acknowledge  # type: ignore[method-assign]  # it has recovered
        wait_until(lambda: reporter.health()["outbox_depth"] == 0 and len(broker.results()["motion"]) == 20, 30)
        assert "results" not in str(reporter.health()["shed"])


class NoRetain(Rules):
    """Says with MQTT 5 that it keeps no messages; in 3.1.1 it closes without a word."""

    properties = b"\x25\x00"

    def welcome(self, visit: Visit, hello: Hello) -> bool:
        if hello.will and hello.will.retain:
            if hello.version == 5:
                visit.send(packet(2, b"\0\x9a\0"))
            return False
        return super().welcome(visit, hello)

    def takes(self, said: Said) -> bool:
        return not said.retain


class QualityZero(Rules):
    """Takes QoS 0 alone."""

    properties = b"\x24\x00"

    def welcome(self, visit: Visit, hello: Hello) -> bool:
        if hello.will and hello.will.qos:
            if hello.version == 5:
                visit.send(packet(2, b"\0\x9b\0"))
            return False
        return super().welcome(visit, hello)

    def takes(self, said: Said) -> bool:
        return said.qos == 0


class NoWill(Rules):
    """Closes over any last will, without a word."""

    def welcome(self, visit: Visit, hello: Hello) -> bool:
        return hello.will is None and super().welcome(visit, hello)


@pytest.mark.parametrize("protocol", ["5", "3.1.1", "auto"])
@pytest.mark.parametrize(
    ("rules", "lost"), [(NoRetain, "retained"), (QualityZero, "QoS 1"), (NoWill, "last will")]
)
def test_a_broker_that_gives_less_is_used_and_what_is_lost_is_named(
    tmp_path: Path, rules: type[Rules], lost: str, protocol: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(rules) as broker, reporting(broker.url, tmp_path, protocol=protocol) as reporter:
        for message in [*reports.results(20), reports.device_health()]:
            reporter.report(message)
        wait_until(lambda: len(broker.results()["motion"]) == 20 and broker.on("limpet/press-07/health"), 20)
        wait_until(lambda: reporter.health()["outbox_depth"] == 0)
        health = reporter.health()
    assert lost in "; ".join(health["lost"])
    assert lost in caplog.text
    assert (health["refused"], health["shed"]) == ({}, {})
    assert broker.closed == {}


class KeepsNothingQuietly(Rules):
    """Takes a will, and closes over each retained message."""

    def takes(self, said: Said) -> bool:
        return not said.retain


def test_where_retained_messages_end_the_connection_state_goes_out_without(tmp_path: Path) -> None:
    with serving(KeepsNothingQuietly) as broker, reporting(broker.url, tmp_path, protocol="3.1.1") as reporter:
        reporter.report(reports.device_health())
        reporter.report(reports.result())
        wait_until(lambda: broker.on("limpet/press-07/health") and broker.results()["motion"], 20)
        health = reporter.health()
    assert "retained messages" in "; ".join(health["lost"])
    assert health["refused"] == {}


class Deaf(Rules):
    """Closes over a subscription, as a broker does whose policy does not allow it."""

    def hears(self, topic: str) -> bool:  # noqa: ARG002
        return False


def test_a_broker_that_closes_on_subscribe_is_used_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(Deaf) as broker, reporting(broker.url, tmp_path) as reporter:
        reporter.report(reports.result())
        wait_until(lambda: broker.results()["motion"], 20)
        health = reporter.health()
        assert len(broker.visits) == 3
    assert health["lost"] == ["subscription to limpet/press-07/command/+"]
    assert "subscription to limpet/press-07/command/+" in caplog.text


@pytest.mark.parametrize("refused_by", ["device.commands", "mqtt.commands"])
def test_where_no_command_is_allowed_nothing_is_subscribed_to(tmp_path: Path, refused_by: str) -> None:
    config = mqtt.Config(url="mqtt://127.0.0.1", commands=refused_by == "device.commands")
    with serving(Deaf) as broker:
        config.url = broker.url
        obey = None if config.commands else reports.deaf
        with reports.opened(mqtt, config, tmp_path, obey) as reporter:
            reporter.report(reports.result())
            wait_until(lambda: broker.results()["motion"])
            assert reporter.health()["lost"] == []
    assert broker.subscriptions == []
    assert broker.hellos[0].clean


class NoWildcards(Rules):
    """Takes no subscription with a wildcard, and says so."""

    properties = b"\x28\x00"

    def hears(self, topic: str) -> bool:
        return "+" not in topic


def test_without_wildcards_each_command_has_its_subscription(tmp_path: Path) -> None:
    with serving(NoWildcards) as broker, reporting(broker.url, tmp_path) as reporter:
        wait_until(lambda: reporter.health()["connected"])
    assert "limpet/press-07/command/ping" in broker.subscriptions


class ForgetsFive(Rules):
    """Speaks MQTT 5 at first and then is silent over it, as a proxy is whose broker starts."""

    def welcome(self, visit: Visit, hello: Hello) -> bool:
        return len(self.visits) not in {2, 3, 4} and super().welcome(visit, hello)


def test_mqtt_5_is_kept_once_it_has_worked(tmp_path: Path) -> None:
    with serving(ForgetsFive) as broker, reporting(broker.url, tmp_path) as reporter:
        wait_until(lambda: reporter.health()["connected"])
        broker.drop()
        wait_until(lambda: len(broker.visits) >= 5 and reporter.health()["connected"], 20)
    assert {hello.version for hello in broker.hellos} == {5}


class Small(Rules):
    """Takes packets of 2,000 bytes, and says so."""

    properties = b"\x27" + struct.pack(">I", 2000)

    def takes(self, said: Said) -> bool:
        return said.size <= 2000


def test_the_largest_packet_holds_for_every_message(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dialects: Any = {"json": {}, "homeassistant": {}, "sparkplug": {}, "cloudevents": {}}
    large = reports.event("motion", "large")
    large.reason = "x" * 3000
    with serving(Small) as broker, reporting(broker.url, tmp_path, dialects=dialects, batch_age=0.01) as reporter:
        for message in [*reports.one_of_each(), *reports.results(200), large]:
            reporter.report(message)
        reporter.report(reports.result(200, output={"label": "x" * 3000}))
        reporter.report(reports.result(201))
        wait_until(lambda: 201 in broker.results()["motion"] and reporter.health()["outbox_depth"] == 0, 20)
        health = reporter.health()
        assert len(broker.visits) == 1
    assert broker.results()["motion"] == set(range(202)) - {200}
    assert broker.closed == {}
    assert set(health["refused"]) == {"too large"}
    told = [record.getMessage() for record in caplog.records if "too large" in record.getMessage()]
    assert len(told) == len({line.split()[4] for line in told})


class Says(Rules):
    """Sends a client bytes once it has subscribed."""

    lies: tuple[bytes, ...] = ()

    def subscribed(self, visit: Visit, topic: str) -> None:  # noqa: ARG002
        for lie in self.lies:
            visit.send(lie)
        self.lies = ()


COMMAND = "limpet/press-07/command/ping"
UTF8 = b"limpet/press-07/command/\xff"
BROKEN = {
    "a topic that is not UTF-8": publish(UTF8, b"{}", flags=2, mid=7),
    "a command with more levels": publish(f"{COMMAND}/more", b"{}"),
    "a command with a long name": publish("limpet/press-07/command/" + "x" * 60_000, b"{}"),
    "a topic of somebody else": publish("limpet/press-08/status", b"{}"),
    "a response topic with wildcards": publish(COMMAND, b"{}", b"\x08" + text("answers/#")),
    "a response topic with a NUL": publish(COMMAND, b"{}", b"\x08" + text("answers/\0")),
    "a response topic that is the status": publish(COMMAND, b"{}", b"\x08" + text("limpet/press-07/status")),
    "a response topic of another device": publish(COMMAND, b"{}", b"\x08" + text("limpet/a/command/restart")),
    "a response topic of Home Assistant": publish(COMMAND, b"{}", b"\x08" + text("homeassistant/sensor/a/config")),
    "correlation data of 60 kB": publish(COMMAND, b"{}", b"\x09" + text(b"x" * 30_000)),
    "two response topics": publish(COMMAND, b"{}", 2 * (b"\x08" + text("answers/a"))),
    "50,000 user properties": publish(COMMAND, b"{}", 50_000 * (b"\x26" + text("a") + text("b"))),
    "a message with QoS 2": publish(COMMAND, b"{}", flags=4, mid=7),
    "a message with QoS 3": publish(COMMAND, b"{}", flags=6, mid=7),
    "a packet of 256 MB": b"\x30" + length(268_435_455) + bytes(1 << 20),
    "a length without end": b"\x30\xff\xff\xff\xff\xff",
    "an empty PUBLISH": b"\x30\x00",
    "a PUBLISH without a topic": publish("", b"{}"),
    "acknowledgements of what was not sent": b"".join(
        packet(4, struct.pack(">H", mid)) for mid in range(100, 4000)
    ),
    "an acknowledgement with an unknown reason": packet(4, b"\0\1\x55\0"),
    "a second CONNACK": packet(2, b"\0\0\x03\x21\0\0"),
    "a SUBACK for nothing": packet(9, b"\xff\xff\0\x01"),
    "a SUBACK without codes": packet(9, b"\0\2\0"),
    "a CONNECT": packet(1, text("MQTT") + b"\x05\0\0\0"),
    "a PUBREC": packet(5, b"\0\1"),
    "a redirection": packet(14, b"\x9d\x0e\x1c" + text("evil.example")),
    "a DISCONNECT with an unknown reason": packet(14, b"\x55\0"),
    "an AUTH": packet(15, b"\x18\0"),
    "noise": bytes(range(256)),
}


@pytest.mark.parametrize("lie", BROKEN)
def test_a_hostile_broker_ends_a_connection_at_most(
    tmp_path: Path, lie: str, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(Says) as broker:
        broker.lies = (BROKEN[lie],)
        answered: list[str] = []

        def obey(command: Command) -> None:
            answered.append(command.name)
            command.reply(Reply(device="press-07", command=command.name, ok=True))

        config = mqtt.Config(url=broker.url, reconnect_max=0.05)
        with reports.opened(mqtt, config, tmp_path, obey) as reporter:
            for message in reports.results(50):
                reporter.report(message)
            wait_until(
                lambda: len(broker.results()["motion"]) == 50 and reporter.health()["outbox_depth"] == 0, 20
            )
            assert reporter.health()["refused"] == {}
    assert answered in ([], ["ping"])
    own = {f"limpet/press-07/{name}" for name in ("status", "result/motion", "event", "reply/ping")}
    assert {said.topic for said in broker.said} <= own
    assert all(b'"status"' in said.payload for said in broker.on("limpet/press-07/status"))
    assert "a bug" not in caplog.text


class Poisoned(Rules):
    """Keeps a message that cannot be read in the session, and sends it on each connection."""

    def subscribed(self, visit: Visit, topic: str) -> None:  # noqa: ARG002
        if not self.hellos[-1].clean:
            visit.send(publish(COMMAND, b"{}", b"\x26\xff\xff", flags=2, mid=7))


def test_a_session_with_a_message_that_cannot_be_read_is_given_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(Poisoned) as broker, reporting(broker.url, tmp_path) as reporter:
        wait_until(lambda: any(hello.clean for hello in broker.hellos) and reporter.health()["connected"], 20)
        reporter.report(reports.result())
        wait_until(lambda: broker.results()["motion"])
    assert [hello.clean for hello in broker.hellos[:3]] == [False, False, True]
    assert "is given up" in caplog.text


class Floods(Rules):
    """Sends commands, each of which wants an answer, and acknowledges none of the answers."""

    def subscribed(self, visit: Visit, topic: str) -> None:  # noqa: ARG002
        for number in range(3000):
            visit.send(publish(COMMAND, b"{}", b"\x08" + text("answers/me") + b"\x09" + text(str(number))))

    def acknowledge(self, visit: Visit, mid: int) -> None:
        if "answers/me" not in {said.topic for said in self.said[-1:]}:
            visit.acknowledge(mid)


def test_a_flood_of_commands_is_bounded_and_counted(tmp_path: Path) -> None:
    waiting: list[Command] = []
    with serving(Floods) as broker:
        config = mqtt.Config(url=broker.url, reconnect_max=0.05)
        with reports.opened(mqtt, config, tmp_path, waiting.append) as reporter:
            wait_until(lambda: reporter.health()["ignored"].get("too many", 0) == 3000 - MOST, 30)
            health = reporter.health()
    assert len(waiting) == MOST
    assert health["refused"]["too many replies"] > 2000


def dropped(reporter: reports.Fed[mqtt.MqttReporter]) -> int:
    health = reporter.health()
    return sum(health["shed"].values()) + sum(health["refused"].values())


def test_a_result_for_a_topic_that_cannot_be_published_to_is_counted_and_poisons_nothing(tmp_path: Path) -> None:
    with serving(Rules) as broker:
        config = mqtt.Config(url=broker.url, reconnect_max=0.05)
        for start in range(2):
            with reports.opened(mqtt, config, tmp_path, None) as reporter:
                if start == 0:
                    for pipeline in ("a/#", "a+b", "nul\0", "x" * 70_000, "\ufffe", "c1\x85"):
                        reporter.report(reports.result(0, pipeline))
                        reporter.report(reports.event(pipeline))
                reporter.report(reports.result(start))
                wait_until(lambda count=start + 1: len(broker.results()["motion"]) == count)  # type: ignore[misc]
                counted = 12 if start == 0 else 0
                wait_until(lambda: dropped(reporter) == counted)  # noqa: B023
                wait_until(lambda: reporter.health()["outbox_depth"] == 0)
        assert len(broker.visits) == 2


class AwsIotCore(Rules):
    """Its documented limits: 128 KiB a message, 8 levels, QoS 0 and 1, and a policy of topics."""

    properties = (
        b"\x27" + struct.pack(">I", 149_504) + b"\x21" + struct.pack(">H", 100) + b"\x22" + struct.pack(">H", 8)
    )

    def welcome(self, visit: Visit, hello: Hello) -> bool:
        return hello.client_id == "press-07" and super().welcome(visit, hello)

    def takes(self, said: Said) -> bool:
        levels = said.topic.count("/") < 8 and len(said.topic.encode()) <= 256
        return (
            levels and len(said.payload) <= 131_072 and said.qos < 2 and said.topic.startswith("limpet/press-07/")
        )

    def hears(self, topic: str) -> bool:
        return topic.startswith("limpet/press-07/command/")


class AzureIotHub(Rules):
    """Its documented rules: MQTT 3.1.1, one topic to publish on, its own client id, 256 KiB, QoS 0 and 1."""

    def welcome(self, visit: Visit, hello: Hello) -> bool:
        user = "hub.azure-devices.net/press-07/?api-version=2021-04-12"
        allowed = hello.will is None or hello.will.topic.startswith("devices/press-07/messages/events/")
        known = hello.version == 4 and (hello.client_id, hello.username) == ("press-07", user)
        return known and allowed and super().welcome(visit, hello)

    def takes(self, said: Said) -> bool:
        own = said.topic.startswith("devices/press-07/messages/events/")
        return own and len(said.payload) <= 262_144 and said.qos < 2 and not said.retain

    def hears(self, topic: str) -> bool:
        return topic in {"devices/press-07/messages/devicebound/#", "$iothub/methods/POST/#"}


class AzureEventGrid(Rules):
    """Its documented rules: MQTT 5, no retained messages, QoS 0 and 1, 512 KiB, ten aliases, topic spaces."""

    properties = struct.pack(">BBBIBH", 0x25, 0, 0x27, 524_288, 0x22, 10)

    def welcome(self, visit: Visit, hello: Hello) -> bool:
        if hello.will and hello.will.retain:
            visit.send(packet(2, b"\0\x9a\0"))
            return False
        return hello.username == "press-07" and super().welcome(visit, hello)

    def takes(self, said: Said) -> bool:
        return not said.retain and said.qos < 2 and said.topic.startswith("limpet/press-07/")

    def hears(self, topic: str) -> bool:
        return topic == "limpet/press-07/command/+"


def documented(page: str, broker: Rules) -> mqtt.Config:
    """Return the configuration of a page in docs/how-to/brokers, with this broker and without files of secrets."""
    content = (Path(__file__).parents[2] / "docs" / "how-to" / "brokers" / page).read_text()
    table = msgspec.toml.decode(content.partition("```toml\n")[2].partition("```")[0])["mqtt"]
    assert table["url"].startswith("mqtts://")
    for key in ("ca_file", "cert_file", "key_file", "password_file", "alpn"):
        table.pop(key, None)
    return msgspec.convert(table | {"url": broker.url, "reconnect_max": 0.05}, mqtt.Config)


@pytest.mark.parametrize(
    ("page", "rules"),
    [
        ("aws-iot-core.md", AwsIotCore),
        ("azure-iot-hub.md", AzureIotHub),
        ("azure-event-grid.md", AzureEventGrid),
    ],
)
def test_the_documented_configuration_keeps_to_the_rules_of_the_service(
    tmp_path: Path, page: str, rules: type[Rules]
) -> None:
    with serving(rules) as broker:
        config = documented(page, broker)
        with reports.opened(mqtt, config, tmp_path, lambda _command: None) as reporter:
            for message in [*reports.one_of_each(), *reports.results(500)]:
                reporter.report(message)
            wait_until(lambda: reporter.health()["outbox_depth"] == 0 and len(broker.said) > 7, 20)
            health = reporter.health()
        assert (health["refused"], health["shed"], health["reconnects"]) == ({}, {}, 0)
    assert broker.closed == {}
    results = [item for said in broker.said if b'"sequence"' in said.payload for item in said.items]
    assert {item["sequence"] for item in results} == set(range(500))
    assert any(b'"status":"online"' in said.payload for said in broker.said)
    assert b'"reason":"stopped"' in broker.said[-1].payload


def test_a_dialect_whose_broker_takes_no_other_topics_stands_alone() -> None:
    with pytest.raises(ConfigError, match="remove the other dialects"):
        mqtt.Config(url="mqtt://a", dialects={"json": {}, "azure_iot_hub": {}})
