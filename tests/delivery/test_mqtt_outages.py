"""The MQTT reporter while the broker is away, comes back, or turns it down."""

from __future__ import annotations

import itertools
import socket
import subprocess
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from limpet.delivery.outbox.rules import EventRules, OutboxRules, ResultRules
from limpet.reporters import mqtt
from support import certificates, reports
from support.broker import Mosquitto, listener, mosquitto, wait_until
from support.gate import gate
from support.wire import wire

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def reporting(
    url: str, directory: Path, reconnect_max: float = 0.1, **options: Any
) -> Iterator[reports.Fed[mqtt.MqttReporter]]:
    config = mqtt.Config(url=url, reconnect_max=reconnect_max, **options)
    with reports.opened(mqtt, config, directory) as reporter:
        yield reporter


def test_a_broker_killed_under_load_costs_nothing(tmp_path: Path) -> None:
    count = 6000
    with (
        mosquitto(tmp_path / "broker") as broker,
        listener(broker.port, lasting=True) as heard,
        reporting(broker.url, tmp_path, batch_count=5) as reporter,
    ):
        broker.save()

        def load() -> None:
            for sequence in range(count):
                reporter.report(reports.result(sequence, ("motion", "camera")[sequence % 2]))
                time.sleep(0.0004)

        loader = threading.Thread(target=load)
        loader.start()
        for _ in range(4):
            time.sleep(0.3)
            wait_until(lambda: reporter.health()["connected"] and heard.connected.is_set())
            broker.kill()
            broker.start()
        loader.join()
        wait_until(lambda: reporter.health()["outbox_depth"] == 0, 20)
        wait_until(lambda: sum(len({r["id"] for r in rs}) for rs in heard.results().values()) == count)
        assert reporter.health()["reconnects"] >= 4
        assert reporter.health()["shed"] == {}
    for found in heard.results().values():
        first_seen = list(dict.fromkeys(r["sequence"] for r in found))
        assert first_seen == sorted(first_seen)


def test_a_frozen_broker_is_left_and_found_again(tmp_path: Path) -> None:
    with (
        mosquitto(tmp_path / "broker") as broker,
        listener(broker.port) as heard,
        reporting(broker.url, tmp_path, keepalive=1, batch_count=1) as reporter,
    ):
        wait_until(lambda: reporter.health()["connected"])
        broker.freeze()
        for message in reports.results(100):
            reporter.report(message)
        wait_until(lambda: not reporter.health()["connected"])
        assert "stopped answering" in reporter.health()["last_disconnect"]
        broker.thaw()
        wait_until(lambda: len({r["id"] for r in heard.results()["motion"]}) == 100)
        wait_until(lambda: reporter.health()["outbox_depth"] == 0)


def test_memory_is_bounded_while_the_broker_is_away_and_what_is_shed_is_counted(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path / "broker")
    small = OutboxRules(memory_bytes=65_536, events=EventRules(keep="memory"), results=ResultRules(keep="memory"))
    with (
        wire(broker.port) as line,
        reporting(line.url, tmp_path, outbox=small, batch_age=0.001, batch_count=7) as reporter,
    ):
        line.fault = "refuse"
        reporter.report(reports.event())
        for count, message in enumerate(reports.results(5000)):
            reporter.report(message)
            if count % 100 == 0:
                wait_until(lambda: reporter.health()["outbox_bytes"] <= 65_536)
        broker.start()
        try:
            with listener(broker.port) as heard:
                line.fault = "none"
                wait_until(lambda: reporter.health()["connected"] and reporter.health()["outbox_depth"] == 0, 30)
                health = reporter.health()
        finally:
            broker.stop()
    received = heard.results()["motion"]
    assert health["shed"]["results, outbox full"] == 5000 - len(received) > 3000
    assert [r["sequence"] for r in received] == list(range(5000 - len(received), 5000))


def test_a_broker_that_welcomes_and_kicks_is_not_stormed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with gate(0, "kick") as kicker, reporting(kicker.url, tmp_path, reconnect_max=60) as reporter:
        wait_until(lambda: len(kicker.visits) == 4, 20)
        reporter.report(reports.result())
        pauses = [later - sooner for sooner, later in itertools.pairwise(kicker.visits)]
    assert all(pause >= floor for pause, floor in zip(pauses, (0.5, 1.0, 2.0), strict=True))
    assert len([r for r in caplog.records if "the connection broke" in r.getMessage()]) == 1


def test_a_silent_broker_holds_up_nobody(tmp_path: Path) -> None:
    with gate(0, "mute") as mute, reporting(mute.url, tmp_path) as reporter:
        wait_until(lambda: mute.visits)
        for message in reports.results(1000):
            reporter.report(message)
        assert not reporter.health()["connected"]


def said(caplog: pytest.LogCaptureFixture, url: str, directory: Path, **options: Any) -> str:
    """Try to connect several times; return what was logged, which is one line."""
    caplog.clear()
    with reporting(url, directory, reconnect_max=0.01, **options):
        wait_until(lambda: caplog.records)
        time.sleep(0.3)
    lines = [r.getMessage() for r in caplog.records if r.name == "limpet.delivery.mqtt.sender"]
    assert len(lines) == 1
    return lines[0]


def test_nothing_listening_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as held:
        # Taken, so that none of the attempts is made from this very port and reaches itself.
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        line = said(caplog, f"mqtt://127.0.0.1:{port}", tmp_path)
    assert line == f"127.0.0.1:{port}: nothing listens on port {port}; is the broker running, is the port right?"


def test_a_name_that_does_not_resolve_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert "broker.invalid cannot be resolved" in said(caplog, "mqtt://broker.invalid", tmp_path)


@pytest.mark.parametrize("protocol", ["auto", "3.1.1"])
def test_password_from_a_file(tmp_path: Path, caplog: pytest.LogCaptureFixture, protocol: Any) -> None:
    passwords, secret = tmp_path / "passwords", tmp_path / "secret"
    subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "press", "hush"], check=True)
    secret.write_text("hush\n")
    options = {"username": "press", "password_file": secret, "protocol": protocol}
    with mosquitto(tmp_path / "broker", "", f"allow_anonymous false\npassword_file {passwords}") as broker:
        with reporting(broker.url, tmp_path, **options) as reporter:
            wait_until(lambda: reporter.health()["connected"])
        secret.write_text("wrong")
        line = said(caplog, broker.url, tmp_path, **options)
    assert "check username" in line
    assert "password_file" in line


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificates.authority(tmp_path_factory.mktemp("certificates"))


@contextmanager
def tls_broker(directory: Path, ca: Path, name: str, host: str = "localhost", days: int = 2) -> Iterator[str]:
    cert, key = certificates.certificate(ca, name, host, days)
    options = f"certfile {cert}\nkeyfile {key}\ncafile {ca}\nrequire_certificate true"
    with mosquitto(directory, options) as broker:
        yield f"mqtts://localhost:{broker.port}"


def test_tls_with_a_client_certificate(tmp_path: Path, ca: Path) -> None:
    cert, key = certificates.certificate(ca, "client")
    with (
        tls_broker(tmp_path / "broker", ca, "server") as url,
        reporting(url, tmp_path, ca_file=ca, cert_file=cert, key_file=key, batch_count=10) as reporter,
    ):
        wait_until(lambda: reporter.health()["connected"])
        for message in reports.results(1000):
            reporter.report(message)
        wait_until(lambda: reporter.health()["acknowledged"] > 100 and reporter.health()["outbox_depth"] == 0)


# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize(
    ("server", "says"),
    [
        ({"name": "other"}, "signed by an authority that ca_file does not hold"),
        ({"host": "elsewhere.example"}, "for another host name"),
        ({"days": -1}, "has expired"),
    ],
)
def test_a_certificate_that_does_not_do_is_said_once(
    tmp_path: Path, ca: Path, caplog: pytest.LogCaptureFixture, server: dict[str, Any], says: str
) -> None:
    trust = certificates.authority(tmp_path, "other") if server.get("name") == "other" else ca
    with tls_broker(tmp_path / "broker", ca, **({"name": "server"} | server)) as url:
        assert says in said(caplog, url, tmp_path, ca_file=trust)


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_missing_client_certificate_is_said(tmp_path: Path, ca: Path, caplog: pytest.LogCaptureFixture) -> None:
    with tls_broker(tmp_path / "broker", ca, "server") as url, reporting(url, tmp_path, ca_file=ca):
        wait_until(lambda: "cert_file" in caplog.text)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_two_devices_with_one_client_id_are_told_so_and_lose_nothing(tmp_path: Path, protocol: str) -> None:
    count = 400
    with (
        mosquitto(tmp_path / "broker") as broker,
        listener(broker.port, "+/#") as heard,
        reporting(broker.url, tmp_path / "a", topic="a", protocol=protocol) as first,
        reporting(broker.url, tmp_path / "b", topic="b", protocol=protocol) as second,
    ):
        for message in reports.results(count):
            first.report(message)
            second.report(message)
            time.sleep(0.005)
        for reporter in (first, second):
            wait_until(lambda reporter=reporter: "same client_id" in reporter.health()["last_disconnect"])
            wait_until(lambda reporter=reporter: reporter.health()["outbox_depth"] == 0, 30)
            assert (reporter.health()["refused"], reporter.health()["shed"]) == ({}, {})
            assert "limpet-press-07" in reporter.health()["last_disconnect"]

        def ids(root: str) -> set[str]:
            batches = [m.json for m in heard.messages if m.topic.startswith(f"{root}/") and "/result/" in m.topic]
            return {one["id"] for batch in batches for one in (batch if isinstance(batch, list) else [batch])}

        wait_until(lambda: len(ids("a")) == len(ids("b")) == count)
