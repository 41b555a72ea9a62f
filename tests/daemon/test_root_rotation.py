"""New roots of trust over MQTT, by a real daemon and mosquitto_pub. A revoked key stops its model."""

from __future__ import annotations

import signal
import subprocess
from typing import TYPE_CHECKING

from daemon.conftest import Configure, replay
from support import trusting
from support.broker import Mosquitto, wait_until
from support.daemon import Consumer, daemon
from support.trusting import Keys

if TYPE_CHECKING:
    from pathlib import Path

KEYS = Keys()
TABLES = """
[trust]
root = "root.json"

[updates]

[pipelines.motion]
source = "imu"
model = "motion-1.limpet"
"""


def publish(broker: Mosquitto, folder: Path, *roots: bytes) -> None:
    """Publish roots, retained, as people do."""
    payload = folder / "roots.json"
    payload.write_bytes(b"[" + b",".join(roots) + b"]")
    command = ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(broker.port), "-q", "1", "-r", "-f", str(payload)]
    subprocess.run([*command, "-t", "limpet/press-07/trust/desired"], check=True, timeout=30)


def test_a_revoked_key_stops_its_model_and_an_older_root_changes_nothing(
    configure: Configure, consumer: Consumer, broker: Mosquitto, tmp_path: Path
) -> None:
    (tmp_path / "root.json").write_bytes(trusting.root(KEYS))
    trusting.bundle(tmp_path / "motion-1.limpet", [KEYS.maker], version=1)
    config = configure(replay("imu"), TABLES)
    both = trusting.root(KEYS, 2, targets=[KEYS.maker, KEYS.maker2])
    revoking = trusting.root(KEYS, 3, targets=[KEYS.maker2])
    with daemon(config) as running:
        consumer.wait_results("motion", 5)
        said = [one.json for one in list(consumer.messages) if one.topic == "limpet/press-07/health"]
        assert {one["trust"]["models"] for one in said} == {"signed"}
        publish(broker, tmp_path, both)
        wait_until(lambda: consumer.last("health")["trust"].get("root") == 2)
        consumer.wait_results("motion", 5)
        publish(broker, tmp_path, both, revoking)
        wait_until(lambda: consumer.last("model/motion/reported")["state"] == "failed")
        assert "it is revoked" in consumer.last("model/motion/reported")["reason"]
        publish(broker, tmp_path, both)
        wait_until(lambda: consumer.events_of_device("root_refused"))
        assert "root 2 is not newer than root 3" in consumer.events_of_device("root_refused")[-1]["reason"]
        trusting.bundle(tmp_path / "motion-1.limpet", [KEYS.maker2], version=1)
        running.signal(signal.SIGHUP)
        wait_until(lambda: consumer.last("model/motion/reported")["state"] == "running")
        assert running.stop() == 0
    journal = (tmp_path / "state/audit.jsonl").read_text()
    assert '"root_taken"' in journal
