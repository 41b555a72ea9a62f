"""A gateway that hangs is started again, and one that is stopped while clients flood it holds up nothing."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from support.api_daemon import ApiDaemon, api_daemon
from support.broker import wait_until

if TYPE_CHECKING:
    from pathlib import Path


def _results(started: ApiDaemon) -> int:
    return int(started.request("/api/pipelines/motion", unix=True).json["health"]["results"])


def test_a_gateway_that_hangs_is_killed_and_started_again(tmp_path: Path) -> None:
    with api_daemon(tmp_path) as started:
        before, pid = _results(started), started.gateway_pid
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: "it has not answered for 30 s" in started.daemon.log, 90)
        wait_until(lambda: started.daemon.log.count("api_started") == 2, 30)
        assert started.gateway_pid != pid
        health = started.request("/api/pipelines/motion").json["health"]
        assert (health["state"], health["restarts"]) == ("running", 0)
        assert health["results"] > before + 2000  # 100 a second while it hung
        assert started.request("/api/device").json["api"]["restarts"] == 1


def test_clients_that_flood_the_gateway_cost_the_pipelines_nothing(tmp_path: Path) -> None:
    with api_daemon(tmp_path) as started:
        ended = threading.Event()

        def flood(path: str) -> None:
            while not ended.is_set():
                with suppress(OSError):  # refused: too many
                    started.request(path)

        paths = ["/api/device", "/api/pipelines/motion/results?last=100", "/api/pipelines/motion/picture.jpg"] * 3
        clients = [threading.Thread(target=flood, args=(path,)) for path in paths]
        before = _results(started)
        for client in clients:
            client.start()
        wait_until(lambda: _results(started) > before + 500, 60)
        ended.set()
        for client in clients:
            client.join()
        health = started.request("/api/pipelines/motion").json["health"]
        assert (health["state"], health["dropped"]) == ("running", {})
        assert "api_failed" not in started.daemon.log
