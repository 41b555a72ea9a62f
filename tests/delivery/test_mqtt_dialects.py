"""Several dialects through one reporter and a real broker: each hears all, and nothing is forgotten early."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from limpet.contracts.dialect import Publish
from limpet.reporters import mqtt
from support import dialects, reports
from support.broker import Listener, Mosquitto, mosquitto, wait_until
from support.wire import Wire, wire

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EVERY: dict[str, dict[str, Any]] = {
    "json": {},
    "msgpack": {},
    "homeassistant": {},
    "cloudevents": {},
    "sparkplug": {"qos": 1},
}
PREFIXES = {
    "json": "limpet/press-07/result/",
    "msgpack": "limpet/press-07/msgpack/",
    "cloudevents": "limpet/press-07/cloudevents/",
    "sparkplug": "spBv1.0/",
}
COMPLETE = ("json", "msgpack", "cloudevents", "sparkplug")
"""Those that tell every result; Home Assistant is told the newest."""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path / "broker") as running:
        yield running


@pytest.fixture
def heard(broker: Mosquitto) -> Iterator[Listener]:
    """Listen in a session that outlives the broker."""
    listening = Listener(broker.port, "#", lasting=True)
    yield listening
    listening.close()


def open_all(broker: Mosquitto | Wire, directory: Path, *kinds: str) -> Any:
    tables = {kind: EVERY[kind] for kind in kinds or EVERY}
    config = mqtt.Config(url=broker.url, reconnect_max=0.2, batch_age=0.01, dialects=tables)
    config.replay.jitter = 0.05
    return reports.opened(mqtt, config, directory)


def ids(kind: str, heard: Listener) -> set[str]:
    said = [
        Publish(m.topic, m.payload, 1)
        for m in list(heard.messages)
        if m.topic.startswith(PREFIXES[kind]) and not m.retained
    ]
    return {result.id for result in dialects.received(kind, said)}


def test_each_dialect_is_told_the_same_results(broker: Mosquitto, heard: Listener, tmp_path: Path) -> None:
    every = {f"press-07/motion/boot1/{sequence}" for sequence in range(50)}
    with open_all(broker, tmp_path) as reporter:
        for message in reports.results(50):
            reporter.report(message)
        reporter.report(reports.device_health())
        for kind in COMPLETE:
            wait_until(lambda kind=kind: ids(kind, heard) == every)  # type: ignore[misc]
        wait_until(lambda: reporter.health()["outbox_depth"] == 0)
    topics = {m.topic for m in heard.messages}
    assert "homeassistant/device/press-07/config" in topics
    assert any(topic.startswith("limpet/press-07/homeassistant/") for topic in topics)


def test_without_json_only_the_presence_is_in_json(broker: Mosquitto, heard: Listener, tmp_path: Path) -> None:
    with open_all(broker, tmp_path, "msgpack") as reporter:
        for message in reports.one_of_each():
            reporter.report(message)
        wait_until(lambda: ids("msgpack", heard))
        wait_until(lambda: reporter.health()["outbox_depth"] == 0)
    topics = {m.topic for m in heard.messages}
    assert {topic for topic in topics if "/msgpack/" not in topic} == {"limpet/press-07/status"}


def test_nothing_is_forgotten_before_every_dialect_has_it(
    broker: Mosquitto, heard: Listener, tmp_path: Path
) -> None:
    """Stop the broker again and again between the messages that one result becomes."""
    kinds = ("json", "msgpack", "cloudevents")
    every = {f"press-07/motion/boot1/{sequence}" for sequence in range(400)}
    with open_all(broker, tmp_path, *kinds) as reporter:
        for sequence in range(400):
            reporter.report(reports.result(sequence))
            if sequence % 100 == 50:
                # Stopped, not killed: what it has acknowledged it saves, else its loss would be counted as ours.
                broker.stop()
                wait_until(lambda: not reporter.health()["connected"])
                broker.start()
                wait_until(heard.connected.is_set)
                wait_until(lambda: reporter.health()["connected"])
        for kind in kinds:
            wait_until(lambda kind=kind: ids(kind, heard) == every, 30)  # type: ignore[misc]
        wait_until(lambda: reporter.health()["outbox_depth"] == 0)
        assert reporter.health()["reconnects"] >= 3


def test_sparkplugs_death_is_the_will_and_the_next_birth_follows(
    broker: Mosquitto, heard: Listener, tmp_path: Path
) -> None:
    def kinds() -> list[str]:
        return [m.topic.split("/")[2] for m in list(heard.messages) if m.topic.startswith(PREFIXES["sparkplug"])]

    with wire(broker.port) as line, open_all(line, tmp_path, "json", "sparkplug") as reporter:
        reporter.report(reports.result())
        wait_until(lambda: "NDATA" in kinds())
        before = len(kinds())
        line.cut()
        wait_until(lambda: kinds()[before : before + 2] == ["NDEATH", "NBIRTH"])
    wait_until(lambda: heard.on("status")[-1].json["status"] == "offline")
    assert kinds()[-1] == "NDEATH"
