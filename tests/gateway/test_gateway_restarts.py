"""A gateway that ends is started again, and a reload changes it. The pipelines go on."""

from __future__ import annotations

import json
import os
import signal
import socket
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import pytest

from limpet.device.unix_path import reachable
from limpet.gateway.access import tokens
from support.api_daemon import ApiDaemon, api_daemon
from support.broker import free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


SECRET, ENTRY = tokens.new("anna")
OTHER_SECRET, OTHER = tokens.new("berta")
TOKEN, OTHER_TOKEN = ({"Authorization": f"Bearer {secret}"} for secret in (SECRET, OTHER_SECRET))


class Monitor:
    """Reads the monitor socket, as `limpet watch` does."""

    def __init__(self, started: ApiDaemon) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(30)
        with reachable(started.folder / "state" / "monitor.sock") as path:
            self._socket.connect(path)
        self._file = self._socket.makefile("rb")

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def message(self, topic: str, text: str = "", **wanted: Any) -> Any:
        """Return the next message of a topic that has these values, and this text anywhere."""
        while line := self._file.readline():
            found = json.loads(line)
            message = found.get("message", {})
            if found.get("topic") == topic and wanted.items() <= message.items() and text in line.decode():
                return message
        pytest.fail("the daemon has ended")


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiDaemon]:
    folder = tmp_path_factory.mktemp("api")
    (folder / "tokens").write_text(f"{ENTRY.name} {ENTRY.sha256}\n")
    with api_daemon(folder, api='token_file = "tokens"') as running:
        yield running


@pytest.fixture
def monitor(started: ApiDaemon) -> Iterator[Monitor]:
    with closing(Monitor(started)) as reading:
        yield reading


def answers(started: ApiDaemon, port: int, headers: dict[str, str]) -> bool:
    """Whether the gateway accepts this token."""
    with suppress(OSError):
        return started._replace(port=port).request("/api/device", headers=headers).status == 200
    return False


def change(started: ApiDaemon, before: str, after: str) -> None:
    """Change the configuration, and have the daemon read it again."""
    path = started.folder / "limpet.toml"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    started.daemon.process.send_signal(signal.SIGHUP)


def test_a_gateway_that_ends_is_started_again_and_the_pipelines_go_on(
    started: ApiDaemon, monitor: Monitor
) -> None:
    before = monitor.message("health/motion")
    pid = started.gateway_pid
    os.kill(pid, signal.SIGSEGV)
    failed = monitor.message("event", event="api_failed")
    assert failed["reason"].startswith("killed by SIGSEGV; it is started again")
    line = monitor.message("log", "api_failed")
    assert (line["process"], line["level"]) == ("supervisor", "WARNING")
    begun = monitor.message("event", event="api_started")
    assert f"127.0.0.1:{started.port}, {started.socket}" in begun["reason"]
    api = started.request("/api/device", unix=True).json["api"]
    assert (api["state"], api["restarts"], api["problem"]) == ("listening", 1, "")
    health = monitor.message("health/motion")
    assert (health["state"], health["restarts"]) == ("running", 0)
    assert health["results"] > before["results"]
    assert started.gateway_pid != pid


def test_a_reload_starts_it_again_if_one_of_its_files_has_changed(started: ApiDaemon, monitor: Monitor) -> None:
    monitor.message("status")
    pid = started.gateway_pid
    change(started, "rate = 100", "rate = 101")
    wait_until(lambda: started.daemon.log.count("configuration read again") == 1)
    assert started.gateway_pid == pid
    (started.folder / "tokens").write_text(f"{ENTRY.name} {ENTRY.sha256}\n{OTHER.name} {OTHER.sha256}\n")
    assert started.request("/api/device", headers=OTHER_TOKEN).status == 401
    started.daemon.process.send_signal(signal.SIGHUP)
    wait_until(lambda: started.gateway_pid != pid)
    wait_until(lambda: answers(started, started.port, OTHER_TOKEN))


def test_a_reload_moves_it_reports_a_port_that_is_taken_and_ends_it(started: ApiDaemon, monitor: Monitor) -> None:
    port = free_port()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        change(started, f":{started.port}", f":{taken.getsockname()[1]}")
        failed = monitor.message("event", "already in use", event="api_failed")
        assert "it is started again in 15 s" in failed["reason"]
        api = monitor.message("health", '"state":"failed"')["api"]
        assert "already in use" in api["problem"]
        change(started, f":{taken.getsockname()[1]}", f":{port}")
    monitor.message("event", f":{port}", event="api_started")
    assert answers(started, port, TOKEN)
    text = (started.folder / "limpet.toml").read_text()
    change(started, text[text.index("[api]") :], "")
    monitor.message("event", event="api_stopped")
    assert monitor.message("health", api=None)["pipelines"] == {"motion": "running"}
