"""``limpet record`` as a process, with boards on pseudo-terminals."""

from __future__ import annotations

import contextlib
import math
import os
import resource
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from limpet import cli, config
from limpet.recordings import folder
from limpet.reporters import mqtt
from limpet.sources import replay
from recordings.test_folder import recording
from support import reports
from support.broker import mosquitto, wait_until
from support.caller import caller
from support.microphone import NAME, Microphone, ramp
from support.ptys import Board
from support.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.recordings.folder import Recording

LIMPET = (sys.executable, "-m", "limpet")
HEAD = '[device]\nid = "press"\nstate = "state"\n'
BOARD = '[sources.imu]\nkind = "serial"\nport = "board"\nchannels = ["ax", "ay"]\nrate = 100\n'
BOARD_OPTIONS = ("--channels", "ax,ay", "--baud", "115200", "--framing", "csv")
TAIL = '[pipelines.p]\nsource = "imu"\nmodel = "none.limpet"\n'


def configured(path: Path, sources: str = BOARD, more: str = "") -> None:
    text = HEAD + sources.replace('port = "board"', f'port = "{path}/board"') + TAIL + more
    (path / "limpet.toml").write_text(text)


def played(path: Path, rows: int = 300, **options: Any) -> None:
    """A configuration with a recording as its source."""
    lines = [f"{n / 100:.2f},{math.sin(n / 20):.4f},{n % 7},{n // 100}" for n in range(rows)]
    (path / "imu.csv").write_text("\n".join(["time,ax,ay,code", *lines]) + "\n")
    keys = {"path": f'"{path}/imu.csv"', "speed": '"flat-out"', **options}
    configured(
        path, '[sources.imu]\nkind = "replay"\n' + "".join(f"{key} = {value}\n" for key, value in keys.items())
    )


def run(path: Path, *arguments: object, code: int = 0, **options: Any) -> str:
    done = subprocess.run(
        [*LIMPET, "record", *map(str, arguments)],
        cwd=path,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
        timeout=60,
        **options,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def recorded(path: Path) -> list[Recording]:
    return folder.read(path / "recordings").recordings


@contextlib.contextmanager
def sending(board: Board, text: bytes = b"%d,0.5\n") -> Iterator[None]:
    """Have a board send 100 samples a second."""
    stop = threading.Event()

    def send() -> None:
        count = 0
        while not stop.wait(0.01):
            with contextlib.suppress(OSError, AssertionError):
                board.send(text % count if b"%" in text else text)
            count += 1

    os.set_blocking(board.fileno(), False)
    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)


def test_a_source_is_recorded_with_times_units_and_one_label(tmp_path: Path) -> None:
    played(tmp_path, channels='["ax", "ay"]')
    out = run(tmp_path, "--label", "walk", "--units", "g,m/s2")
    assert "300 samples, 3.0 s" in out
    assert "Next: limpet label recordings" in out
    (one,) = recorded(tmp_path)
    assert (one.source, one.kind, one.channels, one.units) == ("imu", "replay", ["ax", "ay"], ["g", "m/s2"])
    assert (one.samples, one.seconds, one.rate, one.complete, one.gaps) == (300, 3.0, 100.0, True, [])
    assert one.spans == [folder.Span("walk", 0, 3.0)]
    lines = (tmp_path / "recordings" / one.file).read_text().splitlines()
    assert lines[:3] == ["time,ax,ay", "0.000000,0.0,0.0", "0.010000,0.05,1.0"]
    assert len(lines) == 301


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--label", "a/b"], "--label: 'a/b' is no label"),
        (["--label-channel", "code"], "name the labels for its values"),
        (["--source", "imv"], "no source 'imv' (did you mean 'imu'?)"),
        (["--mqtt"], "has no table [mqtt]"),
        (["--port", "x"], "--channels: missing"),
        (["--channels", "a,b"], "--channels: needs --port. With a configuration, its source has this setting"),
        (["nowhere.toml"], "nowhere.toml: there is no such file"),
        (["--output", "damaged"], "recordings.json could not be read"),
    ],
    ids=str,
)
def test_what_cannot_be_recorded_is_said_before_the_source_is_opened(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    problem: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "recordings.json").write_text("{")
    played(tmp_path)
    assert cli.main(["record", *arguments]) in {1, 78}
    assert problem in capsys.readouterr().err
    assert not list(tmp_path.glob("recordings/*.csv"))


def test_a_folder_that_cannot_be_made_is_named_with_the_reason(tmp_path: Path) -> None:
    played(tmp_path)
    wanted = tmp_path / "imu.csv"
    assert run(tmp_path, "--output", wanted, code=1) == f"limpet: {wanted}: File exists\n"


def test_without_a_configuration_record_names_both_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    if config.usual().exists():
        pytest.skip(f"this machine has {config.usual()}")
    assert cli.main(["record"]) == 78
    assert (
        "Run: limpet init. Or name the board: --port /dev/ttyUSB0 --channels ax,ay,az" in capsys.readouterr().err
    )


def test_an_error_of_the_source_is_said_and_leaves_no_recording(tmp_path: Path) -> None:
    played(tmp_path)
    assert "1 units for 3 channels" in run(tmp_path, "--units", "g", code=78)
    assert not list(tmp_path.glob("recordings/*.csv"))


def test_keys_choose_labels_and_the_terminal_gets_its_mode_back(tmp_path: Path) -> None:
    configured(tmp_path)
    with (
        Board(tmp_path / "board") as board,
        sending(board),
        Terminal([*LIMPET, "record", "--labels", "sit,walk"], cwd=tmp_path) as terminal,
    ):
        terminal.wait_for("label   (none)")
        terminal.wait_for("ay")
        terminal.press("2")
        terminal.wait_for("label   walk")
        terminal.press("1")
        terminal.wait_for("label   sit")
        terminal.press("0")
        terminal.wait_for("label   (none)")
        terminal.press("\x03")
        assert terminal.wait() == 0
        assert terminal.settings == terminal.before
        terminal.wait_for("Ended with Ctrl-C.")
    (one,) = recorded(tmp_path)
    assert [span.label for span in one.spans] == ["walk", "sit"]
    assert one.spans[0].begin > 0
    assert one.spans[0].end == one.spans[1].begin
    assert one.spans[1].end < one.seconds


def test_an_unplugged_board_leaves_a_gap_and_the_recording_goes_on(tmp_path: Path) -> None:
    configured(tmp_path)
    with Board(tmp_path / "board") as board:
        command = [*LIMPET, "record", "--label", "walk"]
        with Terminal(command, cwd=tmp_path) as terminal:
            with sending(board):
                terminal.wait_for("ay")
            board.unplug()
            terminal.wait_for("no samples: ")
            board.plug()
            with sending(board):
                terminal.wait_for("gaps 1")
            terminal.process.send_signal(signal.SIGTERM)
            assert terminal.wait() == 0
    (one,) = recorded(tmp_path)
    assert len(one.gaps) == 1
    assert one.dropped["disconnected"] == 1
    lines = (tmp_path / "recordings" / one.file).read_text().splitlines()[1:]
    assert one.gaps[0] in [float(line.split(",")[0]) for line in lines]


def test_below_nohup_a_recording_goes_on_when_the_terminal_is_gone(tmp_path: Path) -> None:
    configured(tmp_path)
    with Board(tmp_path / "board") as board, sending(board):
        command = ["nohup", *LIMPET, "record", "--label", "walk"]
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: any(f.stat().st_size > 1200 for f in tmp_path.glob("recordings/*.csv")))
        (file,) = tmp_path.glob("recordings/*.csv")
        process.send_signal(signal.SIGHUP)
        size = file.stat().st_size
        wait_until(lambda: file.stat().st_size > size + 1200)
        process.terminate()
        assert process.wait(20) == 0


def test_a_crash_of_the_process_that_reads_the_source_ends_the_recording_in_order(tmp_path: Path) -> None:
    configured(tmp_path)
    with Board(tmp_path / "board") as board, sending(board):
        process = subprocess.Popen([*LIMPET, "record"], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        wait_until(lambda: list(tmp_path.glob("recordings/*.running.json")))
        (guard,) = children(process.pid)
        (reader,) = children(guard)
        os.kill(reader, signal.SIGSEGV)
        assert "the process that reads the source was killed by SIGSEGV" in process.communicate(timeout=20)[1]
        assert process.returncode == 1
    (one,) = recorded(tmp_path)
    assert one.samples


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_after_kill_9_the_next_run_recovers_the_recording_and_begins_another(tmp_path: Path) -> None:
    configured(tmp_path)
    with Board(tmp_path / "board") as board, sending(board):
        process = subprocess.Popen([*LIMPET, "record", "--label", "walk"], cwd=tmp_path, stdout=subprocess.DEVNULL)
        wait_until(lambda: any(f.stat().st_size > 1200 for f in tmp_path.glob("recordings/*.csv")))
        process.kill()
        process.wait()
        assert not recorded(tmp_path)
        out = run(tmp_path, "--samples", 10)
    assert "was interrupted. Recovered" in out
    first, second = recorded(tmp_path)
    assert (first.complete, second.complete) == (False, True)
    assert first.spans == [folder.Span("walk", 0, first.seconds)]
    assert len((tmp_path / "recordings" / first.file).read_text().splitlines()) == first.samples + 1
    assert first.samples > 20


def test_a_full_disk_ends_the_recording_and_keeps_it(tmp_path: Path) -> None:
    played(tmp_path, rows=3000)

    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    out = run(tmp_path, "--label", "walk", code=1, preexec_fn=little_room)
    assert "has reached the largest size of a file here" in out
    (one,) = recorded(tmp_path)
    text = (tmp_path / "recordings" / one.file).read_text()
    assert len(text) <= 20_000
    assert text.endswith("\n")
    assert len(text.splitlines()) == one.samples + 1


def test_without_room_for_the_description_the_next_run_adds_the_recording(tmp_path: Path) -> None:
    played(tmp_path, rows=50)
    (tmp_path / "recordings").mkdir()
    with folder.changing(tmp_path / "recordings") as found:
        spans = [folder.Span("walk", n, n + 1) for n in range(0, 200, 2)]
        found.recordings.append(recording("old.csv", spans=spans))

    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))

    out = run(tmp_path, code=1, preexec_fn=little_room)
    assert "is not in recordings.json yet" in out
    out = run(tmp_path, "--samples", "1")
    assert "Recovered 50 samples" in out
    assert [one.samples for one in recorded(tmp_path)] == [100, 50, 1]


def test_a_port_in_use_names_the_daemon_and_leaves_no_recording(tmp_path: Path) -> None:
    configured(tmp_path)
    with Board(tmp_path / "board") as board, sending(board):
        other = subprocess.Popen([*LIMPET, "record", "--output", "other"], cwd=tmp_path, stdout=subprocess.DEVNULL)
        try:
            wait_until(lambda: list(tmp_path.glob("other/*.csv")))
            out = run(tmp_path, code=1)
        finally:
            other.terminate()
            assert other.wait(20) == 0
    assert "in use by another program" in out
    assert "Run: sudo systemctl stop limpet" in out
    assert not recorded(tmp_path)


def test_a_board_with_other_values_is_diagnosed_and_leaves_no_recording(tmp_path: Path) -> None:
    configured(tmp_path)
    with (
        Board(tmp_path / "board") as board,
        sending(board, b"1,2,3\n"),
        Terminal([*LIMPET, "record"], cwd=tmp_path) as terminal,
    ):
        terminal.wait_for("numbers")
        terminal.press("q")
        assert terminal.wait() == 1
    assert "Nothing was recorded." in terminal.text
    assert not list(tmp_path.glob("recordings/*.csv"))


def test_a_board_is_recorded_without_a_configuration(tmp_path: Path) -> None:
    with Board(tmp_path / "board") as board, sending(board):
        run(
            tmp_path,
            "--port",
            tmp_path / "board",
            "--channels",
            "ax,ay",
            "--baud",
            115200,
            "--framing",
            "csv",
            "--samples",
            50,
        )
    (one,) = recorded(tmp_path)
    assert (one.kind, one.channels, one.samples) == ("serial", ["ax", "ay"], 50)


def test_commands_over_mqtt_set_labels_and_are_answered(tmp_path: Path) -> None:
    with mosquitto(tmp_path / "broker") as broker, Board(tmp_path / "board") as board, sending(board):
        configured(tmp_path, more=f'[mqtt]\nurl = "{broker.url}"\n')
        process = subprocess.Popen(
            [*LIMPET, "record", "--mqtt", "--labels", "sit,walk"], cwd=tmp_path, stdout=subprocess.DEVNULL
        )
        try:
            wait_until(lambda: list(tmp_path.glob("recordings/*.csv")))
            with caller(broker.port, device="press") as operator:
                assert operator.call("label", label="walk")["result"] == {"label": "walk"}
                assert "'run' is not one of sit, walk" in operator.call("label", label="run")["error"]
                assert 'label.label is "a b"; use letters' in operator.call("label", label="a b")["error"]
                for bad in (b'{"label":"../x"}', b"\xff{", b"[" * 5000, b"{}", b'{"label":1}'):
                    assert not operator.call("label", bad)["ok"]
                assert operator.call("label", label=None)["ok"]
        finally:
            process.terminate()
            assert process.wait(20) == 0
    (one,) = recorded(tmp_path)
    assert [span.label for span in one.spans] == ["walk"]


def test_the_daemon_leaves_the_command_of_the_recorder_alone(tmp_path: Path) -> None:
    heard: list[str] = []
    with mosquitto(tmp_path / "broker") as broker:
        settings = mqtt.Config(url=broker.url)
        with (
            reports.opened(mqtt, settings, tmp_path, lambda command: heard.append(command.name)) as reporter,
            caller(broker.port) as operator,
        ):
            wait_until(lambda: reporter.health()["connected"])
            operator.send("label", b'{"label":"walk"}')
            operator.send("ping", b"{}")
            wait_until(lambda: heard)
            assert heard == ["ping"]
            assert not reporter.health()["ignored"]


def test_no_broker_is_an_error_before_anything_is_recorded(tmp_path: Path) -> None:
    played(tmp_path)
    with (tmp_path / "limpet.toml").open("a") as file:
        file.write('[mqtt]\nurl = "mqtt://127.0.0.1:1"\n')
    assert "no labels over MQTT" in run(tmp_path, "--mqtt", code=1)
    assert not recorded(tmp_path)


def test_a_microphone_is_recorded_as_sound_that_is_labelled_and_played(tmp_path: Path) -> None:
    microphone = Microphone(tmp_path / "mic", ramp())
    configured(tmp_path, f'[sources.imu]\nkind = "audio"\ndevice = "{NAME}"\n')
    environment = {**os.environ, **microphone.environment}
    said = run(tmp_path, "--label", "hum", "--samples", 8000, env=environment)
    assert "8,000 samples" in said
    (one,) = recorded(tmp_path)
    path = tmp_path / "recordings" / one.file
    assert (path.suffix, one.rate, one.channels, one.seconds) == (".wav", 16_000, ["ch1"], 0.5)
    assert [(span.label, span.begin, span.end) for span in one.spans] == [("hum", 0, 0.5)]
    np.testing.assert_array_equal(soundfile.read(path, dtype="float32")[0], ramp()[:8000, 0] / np.float32(32768))
    with replay.open(replay.Config(path=path, speed="flat-out"), Counter()) as samples:
        assert sum(map(len, samples)) == 8000
    listed = subprocess.run(
        [*LIMPET, "label", tmp_path / "recordings", "--list"], capture_output=True, text=True, check=True
    )
    assert f"{one.file}  0.5 s, 8,000 samples: hum 0.5 s" in listed.stdout
