"""What a container's health check sees of the daemon."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from daemon.conftest import Configure, pipeline, replay
from limpet.device import liveness
from limpet.errors import LimpetError
from support.broker import wait_until
from support.daemon import Consumer, daemon

if TYPE_CHECKING:
    from pathlib import Path


def alive(runtime: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "limpet", "alive", *options]
    environment = {**os.environ, "RUNTIME_DIRECTORY": str(runtime)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_sign_of_life_ends_while_pipelines_are_frozen_for_good(
    configure: Configure, consumer: Consumer, tmp_path: Path
) -> None:
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    # Whoever restarts the service by a watchdog wants its sign more often than by itself.
    surroundings = {"RUNTIME_DIRECTORY": str(runtime), "WATCHDOG_USEC": "1000000"}
    path = configure(replay("left"), pipeline("one", "left"))
    with daemon(path, surroundings) as running:
        consumer.wait_results("one", 10)
        wait_until(lambda: alive(runtime, "--ready").returncode == 0)
        assert alive(runtime, "--within", "3").stdout.startswith("ready, ")

        frozen = [running.pid_of("limpet-fork"), running.pid_of("left")]
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: alive(runtime, "--within", "3").returncode == 1, 20)
        assert "no sign of life" in alive(runtime, "--within", "3").stderr
        assert running.process.poll() is None

        os.kill(frozen[0], signal.SIGCONT)  # it buries the worker, which was killed meanwhile
        wait_until(lambda: alive(runtime, "--within", "3", "--ready").returncode == 0, 20)
        consumer.wait_results("one", 10)
        assert running.stop() == 0


def test_alive_is_not_ready(tmp_path: Path) -> None:
    liveness.beat(tmp_path, ready=False)
    assert alive(tmp_path).returncode == 0
    refused = alive(tmp_path, "--ready")
    assert (refused.returncode, refused.stderr) == (1, "limpet: pipelines are being loaded\n")
    liveness.beat(tmp_path, ready=True)
    assert alive(tmp_path, "--ready").returncode == 0


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "not what a daemon writes"),
        ("ready", "not what a daemon writes"),
        ("soon ready", "not what a daemon writes"),
        ("nan ready", "earlier boot"),
        (f"{time.monotonic() + 1000} ready", "earlier boot"),
        ("-5 ready", "no sign of life"),
    ],
)
def test_another_file_is_no_sign_of_life(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / liveness.NAME).write_text(content)
    with pytest.raises(LimpetError, match=reason):
        liveness.look(tmp_path, 1.0, ready=False)


def test_without_a_daemon_or_a_directory(tmp_path: Path) -> None:
    assert "no daemon has started" in alive(tmp_path).stderr
    environment = {key: value for key, value in os.environ.items() if key != "RUNTIME_DIRECTORY"}
    command = [sys.executable, "-m", "limpet", "alive"]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stderr[:37]) == (1, "limpet: RUNTIME_DIRECTORY is not set.")


def test_a_directory_that_cannot_be_written_to_harms_nobody(tmp_path: Path) -> None:
    liveness.beat(tmp_path / "missing", ready=True)
    assert list(tmp_path.iterdir()) == []
