"""``limpet watch`` on a real terminal and in a pipe, over the socket and over MQTT, also over a restart."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from paho.mqtt import publish

from daemon.conftest import Configure, pipeline, replay
from support.broker import Mosquitto, wait_until
from support.daemon import Daemon, daemon
from support.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WATCH = (sys.executable, "-m", "limpet", "watch")


@pytest.fixture
def running(configure: Configure, tmp_path: Path) -> Iterator[Daemon]:
    path = configure(replay("left"), pipeline("one", "left"), pipeline("two", "left"))
    with daemon(path) as started:
        wait_until((tmp_path / "state" / "monitor.sock").is_socket)
        yield started


def outputs(*commands: tuple[str | Path, ...]) -> list[str]:
    """Return what watchers print that run at the same time."""
    watching = [
        subprocess.Popen([*WATCH, *command, "--seconds", "1.5"], stdout=subprocess.PIPE, text=True)
        for command in commands
    ]
    found = [one.communicate(timeout=30)[0] for one in watching]
    assert [one.returncode for one in watching] == [0] * len(commands)
    return found


def test_on_a_terminal_it_shows_values_results_and_rates_and_leaves_the_terminal_as_it_was(
    running: Daemon, tmp_path: Path
) -> None:
    picture = tmp_path / "watch.svg"
    with (
        Terminal([*WATCH, running.path, "--svg", picture], rows=30, columns=100) as terminal,
        Terminal([*WATCH, running.path], rows=15, columns=40) as small,
    ):
        for text in (
            "press-07",
            "running",
            "samples/s",
            "results/s",
            "ax ",
            "output[0]",
            "queue ",
            "one: running",
        ):
            terminal.wait_text(text)
        assert terminal.settings[3] != terminal.before[3]
        small.wait_text("output[0]")
        written = len(terminal.text)
        terminal.resize(20, 60)
        wait_until(lambda: "q quit" in terminal.text[written:])
        terminal.press("q")
        small.press("\x03")
        assert (terminal.wait(), small.wait()) == (0, 0)
        assert terminal.settings == terminal.before
        wait_until(lambda: terminal.raw.endswith("\x1b[?1049l"))
        assert terminal.raw.count("\x1b[?25l") <= terminal.raw.count("\x1b[?25h")
    assert "one" in picture.read_text()
    assert "@font-face" not in picture.read_text()


def test_a_daemon_that_is_killed_and_started_again_is_shown_again(running: Daemon) -> None:
    with Terminal([*WATCH, running.path, "--plain"]) as terminal:
        terminal.wait_text("one: output[0]")
        running.process.kill()
        running.wait()
        terminal.wait_text("the daemon has stopped; connecting again")
        written = len(terminal.text)
        running.start()
        wait_until(lambda: "connected again" in terminal.text[written:])
        wait_until(lambda: "one: output[0]" in terminal.text[written:])
        terminal.press("\x03")
        assert terminal.wait() == 0


def test_in_a_pipe_it_prints_lines_also_of_what_other_devices_publish(running: Daemon, broker: Mosquitto) -> None:
    status = {"device": "pump-2", "boot": "1-a", "version": "1.0", "status": "online"}
    event = {
        "device": "pump-2",
        "boot": "1-a",
        "time": "2026-11-28T12:00:00Z",
        "event": "boo\x1b[2J",
        "pipeline": "",
    }
    publish.single("limpet/pump-2/status", json.dumps(status), retain=True, port=broker.port)
    publish.single("limpet/pump-2/event", json.dumps(event), retain=True, port=broker.port)
    publish.single("limpet/pump-2/health", b"\xff{", retain=True, port=broker.port)
    publish.single("limpet/press-08/status", json.dumps(status), retain=True, port=broker.port)
    local, remote, one = outputs((running.path,), (broker.url,), (broker.url, "--device", "press-07"))
    assert "one: running" in local
    assert any("samples/s" in line for line in local.splitlines() if line.startswith("one: output[0]"))
    assert any(line.startswith("press-07/two: output[0]") for line in remote.splitlines())
    assert "pump-2/boo\\x1b[2J" in remote
    assert "press-08" not in remote
    assert any(line.startswith("two: output[0]") for line in one.splitlines())
    assert "pump-2" not in one


def test_without_a_daemon_or_a_broker_it_says_what_to_do(configure: Configure, tmp_path: Path) -> None:
    path = configure(replay("left"), pipeline("one", "left"))
    for arguments, status, said in (
        (
            [path],
            1,
            f"no daemon runs with {path} (no monitor socket at {tmp_path}/state/monitor.sock). Run: limpet run",
        ),
        (["mqtt://127.0.0.1:1"], 1, "nothing listens on port 1"),
        (["mqtt://ada:pw@localhost"], 2, "write no password in the URL; use --password-file FILE"),
        (["http://localhost"], 2, "must start with one of mqtt://"),
        ([path, "--device", "x"], 2, "--device goes with a URL"),
        (["mqtt://localhost", "--device", "a/+"], 2, "an id has no '/'"),
    ):
        done = subprocess.run([*WATCH, *arguments], capture_output=True, text=True, check=False, timeout=30)
        assert (done.returncode, said in done.stderr) == (status, True), done.stderr
        assert "Traceback" not in done.stderr
