"""Pipelines that come and go with a reload, while a broker retains requests for them."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import TYPE_CHECKING, Any

from daemon.test_remote_updates import TOPIC, configured, request, server, signed
from support.broker import Mosquitto, wait_until
from support.daemon import Consumer, daemon

if TYPE_CHECKING:
    from pathlib import Path

    from daemon.conftest import Configure
    from support.web_server import WebServer

__all__ = ["server"]
DOOR = '\n[pipelines.door]\nsource = "imu"\nmodel = "motion-1.limpet"\n'


def test_a_pipeline_that_a_reload_adds_takes_what_was_retained_and_keeps_its_serial_if_it_is_removed(
    configure: Configure, consumer: Consumer, broker: Mosquitto, tmp_path: Path, server: WebServer
) -> None:
    config = configured(configure, tmp_path, server)
    two = signed(tmp_path, 2)
    server.files["/bundle"] = two
    sources = [{"url": server.url()}]

    def retain(serial: int) -> None:
        where = ["-h", "127.0.0.1", "-p", str(broker.port), "-q", "1", "-r", "-t", TOPIC.replace("motion", "door")]
        payload = request(two, 2, serial, pipeline="door", sources=sources)
        subprocess.run(["mosquitto_pub", *where, "-s"], input=payload, check=True, timeout=20)

    def said() -> dict[str, Any]:
        payload = consumer.on("model/door/reported")[-1].payload if consumer.on("model/door/reported") else b""
        return dict((json.loads(payload)["update"] or {}) if payload else {})

    retain(4)
    with daemon(config) as running:
        consumer.wait_results("motion", 5)
        before = config.read_text()
        config.write_text(before + DOOR)
        running.signal(signal.SIGHUP)
        wait_until(lambda: said().get("stage") == "good", 20)
        config.write_text(before)
        running.signal(signal.SIGHUP)
        state = tmp_path / "state/updates.json"
        kept = {"pipeline": "door", "serial": 4}
        wait_until(lambda: json.loads(state.read_text())["pipelines"].get("door") == kept)
        wait_until(lambda: not list((tmp_path / "state/deployed").iterdir()))
        retain(3)
        config.write_text(before + DOOR)
        running.signal(signal.SIGHUP)
        wait_until(lambda: said().get("stage") == "failed", 20)
        assert said()["reason"] == "The request has serial 3. This device has seen 4. Send a higher serial."
        assert running.stop() == 0
