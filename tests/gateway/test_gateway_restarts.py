"""A gateway that ends is started again, and a reload changes it. The pipelines go on."""

from __future__ import annotations

import json
import os
import signal
import socket
from contextlib import closing
from typing import TYPE_CHECKING, Any

from limpet.device.unix_path import reachable
from support.api_daemon import ApiDaemon, api_daemon
from support.broker import free_port, wait_until

if TYPE_CHECKING:
    from pathlib import Path


class Monitor:
    """Reads the monitor socket, as `limpet watch` does."""

    def __init__(self, started: ApiDaemon) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(20)
        with reachable(started.folder / "state" / "monitor.sock") as path:
            self._socket.connect(path)
        self._file = self._socket.makefile("rb")

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def message(self, topic: str, **wanted: Any) -> Any:
        """Return the next message of a topic with these values."""
        while line := json.loads(self._file.readline()):
            message = line.get("message", {})
            if line.get("topic") == topic and wanted.items() <= message.items():
                return message
        return None


def results(started: ApiDaemon) -> int:
    return int(started.request("/api/pipelines/motion", unix=True).json["health"]["results"])


def test_a_gateway_that_ends_is_started_again_and_the_pipelines_go_on(tmp_path: Path) -> None:
    with api_daemon(tmp_path) as started, closing(Monitor(started)) as monitor:
        begun = monitor.message("event", event="api_started")
        assert f"127.0.0.1:{started.port}" in begun["reason"]
        before, pid = results(started), started.gateway_pid
        os.kill(pid, signal.SIGSEGV)
        failed = monitor.message("event", event="api_failed")
        assert failed["reason"].startswith("killed by SIGSEGV; it is started again")
        monitor.message("event", event="api_started")
        api = started.request("/api/device").json["api"]
        assert (api["state"], api["restarts"], api["problem"]) == ("listening", 1, "")
        assert str(started.socket) in "".join(api["addresses"])
        health = monitor.message("health/motion")
        assert health["state"] == "running"
        assert health["restarts"] == 0
        assert health["results"] > before
        assert started.gateway_pid != pid


def test_a_reload_moves_the_gateway_and_ends_it(tmp_path: Path) -> None:
    with api_daemon(tmp_path) as started, closing(Monitor(started)) as monitor:
        pid, config = started.gateway_pid, tmp_path / "limpet.toml"
        text, other = config.read_text(), free_port()
        started.daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "configuration read again" in started.daemon.log)
        assert started.gateway_pid == pid  # nothing of it changed
        config.write_text(text.replace(f":{started.port}", f":{other}"))
        started.daemon.process.send_signal(signal.SIGHUP)
        while f"127.0.0.1:{other}" not in monitor.message("event", event="api_started")["reason"]:
            pass  # the first one is of the start
        moved = started._replace(port=other)
        assert moved.request("/api/device").json["api"]["state"] == "listening"
        config.write_text(text[: text.index("[api]")])
        started.daemon.process.send_signal(signal.SIGHUP)
        monitor.message("event", event="api_stopped")
        assert monitor.message("health", api=None)["pipelines"] == {"motion": "running"}


def test_a_port_that_another_program_has_is_reported(tmp_path: Path) -> None:
    with api_daemon(tmp_path) as started, closing(Monitor(started)) as monitor, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        config = tmp_path / "limpet.toml"
        config.write_text(config.read_text().replace(f":{started.port}", f":{taken.getsockname()[1]}"))
        started.daemon.process.send_signal(signal.SIGHUP)
        failed = monitor.message("event", event="api_failed")
        assert "Address already in use" in failed["reason"]
        assert "it is started again in 15 s" in failed["reason"]
        api = monitor.message("health")["api"]
        while api["state"] != "failed":
            api = monitor.message("health")["api"]
        assert "Address already in use" in api["problem"]
