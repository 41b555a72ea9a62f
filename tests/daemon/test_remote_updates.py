"""Requests over MQTT: signed, fetched from a server or in chunks, and carried out by a real daemon."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from daemon.conftest import Configure, replay
from daemon.test_updates import GOOD, stage, steps, whole
from support import trusting
from support.broker import Mosquitto, wait_until
from support.caller import caller
from support.daemon import Consumer, daemon
from support.trusting import Keys
from support.web_server import WebServer

if TYPE_CHECKING:
    from collections.abc import Iterator

KEYS = Keys()
TABLES = """
[trust]
root = "root.json"

[updates]
allow = ["http://127.0.0.1:{port}/"]

[pipelines.motion]
source = "imu"
model = "motion-1.limpet"
"""
TOPIC = "limpet/press-07/model/motion/desired"


@pytest.fixture
def server() -> Iterator[WebServer]:
    serving = WebServer()
    yield serving
    serving.close()


def signed(folder: Path, version: int) -> bytes:
    """Write a bundle that the maker of models signed, and return its content."""
    return trusting.bundle(folder / f"motion-{version}.limpet", [KEYS.maker], version=version).read_bytes()


def request(content: bytes, version: int, serial: int, **fields: Any) -> bytes:
    """Return a request that an operator signed."""
    wanted = {
        "version": version,
        "sha256": hashlib.sha256(content).hexdigest(),
        "length": len(content),
        "pipeline": "motion",
        "serial": serial,
        "policy": {"trial_windows": 5},
    }
    return trusting.request({**wanted, **fields}, [KEYS.operator])


def publish(broker: Mosquitto, payload: bytes) -> None:
    """Publish a retained desired state with a client that is not ours."""
    where = ["-h", "127.0.0.1", "-p", str(broker.port), "-q", "1", "-r", "-t", TOPIC]
    subprocess.run(["mosquitto_pub", *where, "-s"], input=payload, check=True, timeout=20)


def configured(configure: Configure, folder: Path, server: WebServer) -> Path:
    signed(folder, 1)
    (folder / "root.json").write_bytes(trusting.root(KEYS))
    path = configure(replay("imu"), TABLES.format(port=server.port))
    commands = 'commands = ["ping", "install", "promote", "rollback", "cancel"]'
    path.write_text(path.read_text().replace('state = "state"', f'state = "state"\n{commands}'))
    return path


def test_a_retained_request_is_carried_out_once_and_rolled_back_by_command(
    configure: Configure, consumer: Consumer, broker: Mosquitto, tmp_path: Path, server: WebServer
) -> None:
    config = configured(configure, tmp_path, server)
    two = signed(tmp_path, 2)
    server.files["/bundle"] = two
    with daemon(config) as running:
        consumer.wait_results("motion", 5)
        publish(broker, request(two, 2, 7, id="two", sources=[{"url": server.url()}]))
        wait_until(lambda: stage(consumer) == "good")
        wait_until(lambda: steps(consumer) == GOOD)
        said = consumer.last("model/motion/reported")["update"]
        assert (said["id"], said["serial"], said["good"]["version"]) == ("two", 7, 2)
        assert said["signed_by"] == [KEYS.maker.public_key.keyid]
        maps = Path(f"/proc/{running.process.pid}/maps").read_text()
        assert [name for name in ("cryptography", "zstandard", "libcrypto") if name in maps] == []
        assert running.stop() == 0
        running.start()  # The broker sends its copy again.
        wait_until(lambda: len(consumer.events("motion", "running")) == 2)
        consumer.wait_results("motion", 10)
        assert consumer.results("motion")[-1]["version"] == 2
        with caller(broker.port) as operator:
            assert operator.call("install", pipeline="motion")["error"] == (
                "No model waits to be installed. Send a request first."
            )
            assert "no pipeline 'door'" in operator.call("rollback", pipeline="door")["error"]
            assert operator.call("rollback", pipeline="motion")["ok"]
            wait_until(lambda: consumer.results("motion")[-1]["version"] == 1)
            consumer.wait_results("motion", 5)
        assert running.stop() == 0
    assert steps(consumer) == [*GOOD, "rolled_back"]
    assert whole([one for one in consumer.results("motion") if one["boot"].startswith("1-")])
    assert len(server.requests) == 1
    journal = (tmp_path / "state/audit.jsonl").read_text()
    assert '"update_good"' in journal
    assert KEYS.maker.public_key.keyid in journal


def test_a_bundle_comes_over_mqtt_and_its_progress_is_reported(
    configure: Configure, consumer: Consumer, broker: Mosquitto, tmp_path: Path, server: WebServer
) -> None:
    config = configured(configure, tmp_path, server)
    two = signed(tmp_path, 2)
    command = [sys.executable, "-m", "limpet", "model", "send", "motion-2.limpet"]
    printed = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True, text=True, timeout=60).stdout
    chunks = dict(line.split() for line in printed.splitlines() if len(line.split()) == 2)["chunks"]
    (tmp_path / "desired.json").write_bytes(request(two, 2, 1, sources=[{"chunks": chunks}]))
    with daemon(config) as running:
        consumer.wait_results("motion", 5)
        options = ["--desired", "desired.json", "--pipeline", "motion", "--device", "press-07", "--wait"]
        sent = subprocess.run(
            [*command, broker.url, *options], cwd=tmp_path, capture_output=True, check=False, timeout=60
        )
        assert (sent.returncode, stage(consumer)) == (0, "good"), sent.stdout + sent.stderr
        assert running.stop() == 0
    assert not server.requests
    assert whole(consumer.results("motion"))


def test_attack_requests_that_a_device_must_not_obey_change_nothing(
    configure: Configure, consumer: Consumer, broker: Mosquitto, tmp_path: Path, server: WebServer
) -> None:
    """An older version, a replay, the signature of one who makes models, and noise."""
    config = configured(configure, tmp_path, server)
    two, one = signed(tmp_path, 2), signed(tmp_path, 1)
    server.files["/bundle"] = two
    where = {"sources": [{"url": server.url()}]}
    attacks = {
        "is older than 2": request(one, 1, 8, **where),
        "This device has seen 8": request(two, 2, 3, **where),
        "is known, but not for this": trusting.request({"pipeline": "motion", "serial": 9}, [KEYS.maker]),
        "could not be read": b"\xff{" * 1000,
    }
    with daemon(config) as running:
        consumer.wait_results("motion", 5)
        publish(broker, request(two, 2, 7, **where))
        wait_until(lambda: stage(consumer) == "good" and steps(consumer)[-1:] == ["good"])
        before = steps(consumer)
        for reason, payload in attacks.items():
            publish(broker, payload)
            wait_until(lambda reason=reason: any(reason in text for text in refusals(consumer)))
        consumer.wait_results("motion", 5)
        said = consumer.last("model/motion/reported")
        assert (said["version"], said["update"]["good"]["version"]) == (2, 2)
        assert running.stop() == 0
    assert {*steps(consumer)} - {*before} <= {"refused", "failed"}
    assert len(server.requests) == 1


def refusals(consumer: Consumer) -> list[str]:
    """Return why requests were refused, or could not be carried out."""
    kinds = ("update_refused", "update_failed")
    return [one["reason"] for kind in kinds for one in consumer.events("motion", kind)]
