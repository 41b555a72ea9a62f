"""``limpet watch`` on a real terminal and in a pipe, over the socket and over MQTT, also over a restart."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import termios
from typing import TYPE_CHECKING

import pytest
from paho.mqtt import publish

from daemon.conftest import HEAD, pipeline, replay
from limpet import cli
from support import models
from support.broker import Mosquitto, mosquitto, wait_until
from support.daemon import Daemon, daemon
from support.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WATCH = (sys.executable, "-m", "limpet", "watch")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path_factory.mktemp("broker")) as started:
        yield started


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, broker: Mosquitto) -> Iterator[Daemon]:
    """Return a daemon with two pipelines, for all tests here."""
    folder = tmp_path_factory.mktemp("watched")
    models.dense(folder / "dense.tflite", inputs=3, outputs=3)
    (folder / "recording.csv").write_text("ax,ay,az\n" + "".join(f"{n % 7},{n % 5},{n % 3}\n" for n in range(100)))
    path = folder / "limpet.toml"
    path.write_text(
        HEAD.format(url=broker.url) + replay("left") + pipeline("one", "left") + pipeline("two", "left")
    )
    with daemon(path) as started:
        wait_until((folder / "state" / "monitor.sock").is_socket)
        yield started


def outputs(folder: Path, *wanted: tuple[tuple[str | Path, ...], tuple[str, ...]]) -> list[str]:
    """Return what watchers print that run at the same time. Each pair has arguments and beginnings of lines."""
    files = [folder / f"{number}.txt" for number in range(len(wanted))]
    watching = []
    for file, (arguments, _) in zip(files, wanted, strict=True):
        with file.open("w") as out:
            watching.append(subprocess.Popen([*WATCH, *arguments], stdout=out))
    for file, (_, begins) in zip(files, wanted, strict=True):
        for begin in begins:
            wait_until(lambda file=file, begin=begin: f"\n{begin}" in f"\n{file.read_text()}", 20)  # type: ignore[misc]
    for one in watching:
        one.send_signal(signal.SIGINT)
    assert [one.wait(20) for one in watching] == [0] * len(wanted)
    return [file.read_text() for file in files]


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
        running.signal(signal.SIGHUP)
        pages = {"p": "of 2)", "d": "up for", "e": "one: running", "l": "supervisor: configuration read again"}
        for key, text in {**pages, "a": "results/s"}.items():
            written = len(terminal.text)
            terminal.press(key)
            wait_until(lambda text=text, written=written: text in terminal.text[written:])  # type: ignore[misc]
        terminal.press("q")
        small.press("\x03")
        assert (terminal.wait(), small.wait()) == (0, 0)
        assert terminal.settings == terminal.before
        wait_until(lambda: terminal.raw.endswith("\x1b[?1049l"))
        assert terminal.raw.count("\x1b[?25l") <= terminal.raw.count("\x1b[?25h")
    assert "one" in picture.read_text()
    assert "@font-face" not in picture.read_text()


def test_ctrl_z_gives_the_terminal_back_and_fg_draws_again(running: Daemon) -> None:
    with Terminal(["bash", "--norc", "--noprofile", "-i"]) as shell:
        shell.press(f"{shlex.join([*WATCH, str(running.path)])}\n")
        shell.wait_text("q quit")
        shell.press("\x1a")
        shell.wait_text("Stopped")
        assert shell.raw.rindex("\x1b[?1049l") < shell.raw.index("Stopped")
        assert shell.raw.rindex("\x1b[?25h") < shell.raw.index("Stopped")
        written = len(shell.raw)
        shell.press("fg\n")
        wait_until(lambda: "\x1b[?1049h" in shell.raw[written:] and "q quit" in shell.raw[written:])
        assert not shell.settings[3] & termios.ICANON
        shell.press("q")
        wait_until(lambda: shell.raw.count("\x1b[?1049l") >= 2)
        shell.press("echo ended-$?\n")
        shell.wait_text("ended-0")


def test_a_terminal_without_a_movable_cursor_gets_lines(running: Daemon) -> None:
    with Terminal(["env", "TERM=dumb", *WATCH, running.path]) as terminal:
        terminal.wait_text("one: output[0]")
        assert "\x1b" not in terminal.raw


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


def test_in_a_pipe_it_prints_lines_also_of_what_other_devices_publish(
    running: Daemon, broker: Mosquitto, tmp_path: Path
) -> None:
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
    local, remote, one, _ = outputs(
        tmp_path,
        ((running.path,), ("one: output[0]", "two: output[0]")),
        ((broker.url,), ("press-07/one: output[0]", "press-07/two: output[0]", "2 messages that cannot be read")),
        ((broker.url, "--device", "press-07"), ("one: output[0]",)),
        ((broker.url, "--device", "press-70"), ("no message yet. Check --device and --topic",)),
    )
    assert "one: running" in local
    assert any("samples/s" in line for line in local.splitlines())
    assert "pump-2/boo\\x1b[2J" in remote
    assert "press-08" not in remote
    assert "pump-2" not in one


def test_without_a_daemon_or_a_broker_it_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "limpet.toml"
    path.write_text(HEAD.format(url="mqtt://localhost") + replay("left") + pipeline("one", "left"))
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
        assert cli.main(["watch", *map(str, arguments)]) == status
        error = capsys.readouterr().err
        assert said in error
