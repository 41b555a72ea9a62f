"""TLS: certificates that are replaced at run time, ALPN, and what a bad certificate costs."""

from __future__ import annotations

import itertools
import shutil
import ssl
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest

from limpet.delivery.mqtt import broker_settings
from limpet.delivery.mqtt.broker_settings import tls_context
from limpet.reporters import mqtt
from support import certificates, reports
from support.broker import Mosquitto, free_port, listener, mosquitto, wait_until
from support.wire import wire

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def secured(directory: Path, ca: Path, **server: Any) -> Iterator[tuple[Mosquitto, str]]:
    """Run a broker that listens in plain text for us, and wants TLS with a client certificate of all others."""
    cert, key = certificates.certificate(ca, "server", **server)
    port = free_port()
    options = (
        f"listener {port} 127.0.0.1\ncertfile {cert}\nkeyfile {key}\ncafile {ca}\n"
        "require_certificate true\nuse_identity_as_username true"
    )
    with mosquitto(directory / "broker", options, "allow_anonymous true\nlog_type all") as broker:
        yield broker, f"mqtts://localhost:{port}"


def test_a_replaced_certificate_is_taken_up_without_a_last_will(tmp_path: Path) -> None:
    ca = certificates.authority(tmp_path)
    certificates.certificate(ca, "first")
    certificates.certificate(ca, "second")
    cert, key = tmp_path / "device.crt", tmp_path / "device.key"
    shutil.copy(tmp_path / "first.pem", cert)
    shutil.copy(tmp_path / "first.key", key)
    with (
        secured(tmp_path, ca) as (broker, url),
        listener(broker.port) as heard,
        reports.opened(mqtt, mqtt.Config(url=url, ca_file=ca, cert_file=cert, key_file=key), tmp_path) as reporter,
    ):
        wait_until(lambda: "u'first'" in broker.log)
        for message in reports.results(100):
            reporter.report(message)
        # As a renewal does: the key first, and then the certificate, each in one step.
        for name, path in (("second.key", key), ("second.pem", cert)):
            shutil.copy(tmp_path / name, tmp_path / "new")
            (tmp_path / "new").replace(path)
        wait_until(lambda: "u'second'" in broker.log, 2 * broker_settings.SECRETS_INTERVAL + 5)
        wait_until(lambda: reporter.health()["connected"])
        reporter.report(reports.result(100))
        wait_until(lambda: len({r["id"] for r in heard.results()["motion"]}) == 101)
        assert [m.json["status"] for m in heard.on("status")] == ["online", "online"]
        assert heard.on("event") == []
        assert reporter.health()["reconnects"] == 1
        assert reporter.health()["last_disconnect"] == "a secret was replaced"


# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("trouble", ["authority", "host", "expired"])
def test_a_bad_certificate_is_one_line_and_one_event_and_no_storm(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, trouble: str
) -> None:
    ca = certificates.authority(tmp_path)
    trusted = certificates.authority(tmp_path, "other") if trouble == "authority" else ca
    server: dict[str, Any] = {"host": {"host": "elsewhere.example"}, "expired": {"days": -1}}.get(trouble, {})
    with (
        secured(tmp_path, ca, **server) as (_, url),
        wire(int(url.rpartition(":")[2])) as line,
    ):
        config = mqtt.Config(url=f"mqtts://localhost:{line.port}", ca_file=trusted)
        with reports.opened(mqtt, config, tmp_path) as reporter:
            wait_until(lambda: len(line.visits) == 4)
            assert reporter.health()["outbox_depth"] == 1  # the event
        pauses = [later - sooner for sooner, later in itertools.pairwise(line.visits)]
    assert all(pause >= floor for pause, floor in zip(pauses, (0.5, 1.0, 2.0), strict=True))
    lines = [r for r in caplog.records if r.name == "limpet.delivery.mqtt.sender"]
    assert len(lines) == 1
    assert "certificate" in lines[0].getMessage() or "authority" in lines[0].getMessage()


def test_alpn_is_offered(tmp_path: Path) -> None:
    ca = certificates.authority(tmp_path)
    cert, key = certificates.certificate(ca, "server")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cert, key)
    server.set_alpn_protocols(["http/1.1", "x-amzn-mqtt-ca"])
    client = tls_context(mqtt.Config(url="mqtts://localhost:443", ca_file=ca, alpn=["x-amzn-mqtt-ca"]))
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname="localhost")
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(3):
        for end in (ours, theirs):
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
    assert ours.selected_alpn_protocol() == theirs.selected_alpn_protocol() == "x-amzn-mqtt-ca"
