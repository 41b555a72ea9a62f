"""``limpet init``, then ``check`` and ``doctor``, with a pseudo-terminal as the sensor."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tomli_w
from hypothesis import example, given, settings
from hypothesis import strategies as st

from limpet import config
from limpet.commands import _new_config, _sensors, init
from limpet.contracts.fields import TensorInfo
from limpet.device.cameras import cameras
from limpet.device.machine import Machine
from limpet.errors import ConfigError, SourceError
from limpet.filling import fill
from limpet.models.manifest import Manifest
from limpet.sources import _recognition, serial
from limpet.sources.framings import cobs
from support import models
from support.broker import mosquitto
from support.certificates import authority
from support.ptys import Board

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BUNDLE = Path(__file__).parents[2] / "agent" / "limpet" / "demo_data" / "shuttle-1.limpet"
NAMES = [f"f{n}" for n in range(1, 10)]


def run(folder: Path, *arguments: object, code: int = 0) -> str:
    command = [sys.executable, "-m", "limpet", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, timeout=60
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


def written(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "limpet.toml").read_text())


@contextlib.contextmanager
def sending(path: Path, frame: Callable[[int], bytes]) -> Iterator[None]:
    """A board that sends frame after frame, ten a second."""
    stop = threading.Event()

    def send(board: Board) -> None:
        count = 0
        while not stop.wait(0.02):
            with contextlib.suppress(OSError):
                board.send(frame(count))
            count += 1

    with Board(path) as board:
        os.set_blocking(board.fileno(), False)
        thread = threading.Thread(target=send, args=(board,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(10)


def frame(count: int) -> bytes:
    return cobs.encode(np.full((2, 9), count, np.int16), 2 * count, 2000 * count)


def line(count: int) -> bytes:
    return (",".join(str(count + n) for n in range(9)) + "\n").encode()


def test_a_fresh_machine(tmp_path: Path) -> None:
    """The way of the README: init, check, doctor, without a file name."""
    sensor = tmp_path / "sensor"
    with mosquitto(tmp_path / "broker") as broker, sending(sensor, frame):
        printed = run(
            tmp_path, "init", "--port", sensor, "--model", BUNDLE, "--url", broker.url, "--state", "state"
        )
        assert "samples of 9 channels as cobs" in printed
        assert run(tmp_path, "check") == "shuttle: sensor -> shuttle 1 on cpu\n"
        found = run(tmp_path, "doctor").splitlines()
    assert f"ok    ports: sensor: {sensor} can be opened" in found
    assert "ok    configuration: shuttle: sensor -> shuttle 1 on cpu" in found
    assert "ok    broker: login with MQTT 5" in found
    source = written(tmp_path)["sources"]["sensor"]
    assert (source["framing"], source["baud"], source["channels"]) == ("cobs", 115200, NAMES)
    assert f"channels = {NAMES}".replace("'", '"') in (tmp_path / "limpet.toml").read_text().splitlines()


def test_arrays_standon_one_line_if_they_fit() -> None:
    tables = {"a": {"short": ["x", "y, ]\n"], "nested": [[1, 2], {"b": [3]}], "long": ["z" * 60] * 2, "none": []}}
    text = init.on_one_line(tomli_w.dumps(tables))
    assert tomllib.loads(text) == tables
    assert 'short = ["x", "y, ]\\n"]' in text.splitlines()
    assert "long = [" in text.splitlines()


def test_the_stores_newest_bundle_by_name(tmp_path: Path) -> None:
    store = tmp_path / "state" / "models"
    store.mkdir(parents=True)
    shutil.copy(BUNDLE, store)
    with sending(tmp_path / "sensor", line):
        run(tmp_path, "init", "--port", tmp_path / "sensor", "--state", tmp_path / "state", "--id", "press-07")
    made = written(tmp_path)
    assert made["pipelines"]["shuttle"]["model"] == "shuttle"
    assert made["device"] == {"id": "press-07", "state": str(tmp_path / "state")}
    assert made["sources"]["sensor"]["framing"] == "csv"
    assert made["mqtt"] == {"url": "mqtt://localhost:1883"}


FLAGS = ("--framing", "json", "--state", "state", "--baud", 9600)


def test_a_sensor_that_is_not_attached_yet(tmp_path: Path) -> None:
    options = ("--port", tmp_path / "none", "--model", BUNDLE, "--state", "state")
    printed = run(tmp_path, "init", *options, code=78)
    assert f"{tmp_path}/none: is not there; is the device plugged in?" in printed
    assert init.NOT_WRITTEN in printed
    assert not (tmp_path / "limpet.toml").exists()
    run(tmp_path, "init", *options, "--framing", "csv", "--baud", 57600)
    assert (
        written(tmp_path)["sources"]["sensor"] | {"baud": 57600, "framing": "csv"}
        == written(tmp_path)["sources"]["sensor"]
    )


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        (b"hello\n", "sends text without samples, such as 'hello'"),
        (b"1,2,3\n", "sends 3 numbers a line. `channels` has 9 (f1 ... f9). Check `channels`, or use a model"),
        (b'{"ax":1,"ay":2}\n', "sends JSON with the keys ax, ay. The channels are f1 ... f9."),
        (b"", "sends nothing. Check the cable, the power of the board and its program, and `baud`."),
        (bytes(range(128, 250)), "sends bytes that are no text. Check `baud`, `parity` and `framing`."),
    ],
)
def test_a_board_that_sends_no_samples_of_the_model_gets_no_file(tmp_path: Path, sent: bytes, seen: str) -> None:
    with sending(tmp_path / "sensor", lambda _: sent):
        printed = run(
            tmp_path,
            *("init", "--port", tmp_path / "sensor", "--model", BUNDLE, "--state", "s", "--listen", 0.15),
            code=78,
        )
    assert f"{tmp_path}/sensor at 115200" in printed
    assert f" baud {seen}" in printed
    assert init.NOT_WRITTEN in printed
    assert not (tmp_path / "limpet.toml").exists()


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--model", BUNDLE], "--port: missing"),
        (["--port", "/dev/none"], "--model: missing: path of a model; there is none in"),
        (["--port", "/dev/none", "--model", "none.limpet"], "--model: there is no file none.limpet"),
        (["--port", "/dev/none", "--model", BUNDLE, "--channels", "a,b"], "and its source has a, b"),
        (["--port", "/dev/none", "--model", BUNDLE, "--url", "http://x"], "url"),
        (["--port", "/dev/none", "--model", BUNDLE, "--id", "a b"], "device.id"),
        (["--port", "/dev/none", "--model", BUNDLE, "--framing", "cbos"], "did you mean 'cobs'"),
    ],
)
def test_what_would_not_pass_check_is_not_written(tmp_path: Path, flags: list[object], problem: str) -> None:
    assert problem in run(tmp_path, "init", *FLAGS, *flags, code=78)
    assert not (tmp_path / "limpet.toml").exists()


def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "limpet.toml").write_text("mine")
    assert "--force" in run(tmp_path, "init", "--port", "/dev/x", "--model", BUNDLE, code=78)
    assert (tmp_path / "limpet.toml").read_text() == "mine"
    run(tmp_path, "init", "--port", "/dev/x", "--model", BUNDLE, "--force", *FLAGS)
    assert written(tmp_path)["sources"]["sensor"]["framing"] == "json"


def test_secrets_are_named_not_copied(tmp_path: Path) -> None:
    secret, ca = tmp_path / "secret", authority(tmp_path)
    secret.write_text("hunter2")
    options = ["--url", "mqtts://b", "--username", "u", "--password-file", secret, "--ca-file", ca]
    run(tmp_path, "init", "--port", "/dev/x", "--model", BUNDLE, *FLAGS, *options)
    assert "hunter2" not in (tmp_path / "limpet.toml").read_text()
    assert written(tmp_path)["mqtt"] == {
        "url": "mqtts://b", "username": "u", "password_file": str(secret), "ca_file": str(ca)
    }  # fmt: skip


def test_asks_on_a_terminal(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "limpet", "init", "--model", BUNDLE, *map(str, FLAGS)]
    answers = {
        b"serial port of the sensor": b"/dev/x\n",
        b"name of this device": b"pump-3\n",
        b"MQTT broker": b"\n",
    }
    printed, code = converse(command, tmp_path, answers)
    assert code == 0, printed
    assert written(tmp_path)["device"]["id"] == "pump-3"
    assert written(tmp_path)["mqtt"]["url"] == "mqtt://localhost:1883"
    assert written(tmp_path)["sources"]["sensor"]["port"] == "/dev/x"


def test_no_more_answers_are_as_no_answer(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "limpet", "init", "--model", BUNDLE, *map(str, FLAGS)]
    printed, code = converse(command, tmp_path, {b"serial port of the sensor": b"\x04"})
    assert code == 78
    assert "--port: missing" in printed
    assert "Traceback" not in printed
    assert not (tmp_path / "limpet.toml").exists()


def converse(command: list[Any], folder: Path, answers: dict[bytes, bytes]) -> tuple[str, int]:
    """Run a program on a terminal of its own and answer its questions."""
    master, slave = pty.openpty()
    with subprocess.Popen(command, cwd=folder, stdin=slave, stdout=slave, stderr=slave) as process:
        os.close(slave)
        said = b""
        while select.select([master], [], [], 30)[0]:
            try:
                said += os.read(master, 4096)
            except OSError:  # the program has ended
                break
            asked = [question for question in answers if re.search(re.escape(question) + rb"[^\r\n]*: ", said)]
            for question in asked:
                os.write(master, answers.pop(question))
        os.close(master)
        return said.decode(), process.wait(30)


def test_of_several_ports_one_must_be_named() -> None:
    assert init.choose_port(["/dev/a"]) == "/dev/a"
    with pytest.raises(ConfigError, match="--port: choose one of /dev/a, /dev/b"):
        init.choose_port(["/dev/a", "/dev/b"])


# --- what is there


def test_serial_ports_and_cameras_of_a_machine(tmp_path: Path) -> None:
    (tmp_path / "dev/serial/by-id").mkdir(parents=True)
    (tmp_path / "dev/serial/by-id/usb-ACME-if00").touch()
    for node, index in ("video0", "0"), ("video1", "1"):
        (tmp_path / f"sys/class/video4linux/{node}").mkdir(parents=True)
        (tmp_path / f"sys/class/video4linux/{node}/name").write_text("HD Webcam\n")
        (tmp_path / f"sys/class/video4linux/{node}/index").write_text(f"{index}\n")
    machine = Machine(tmp_path)
    assert _sensors.serial_ports(machine) == ["/dev/serial/by-id/usb-ACME-if00"]
    assert cameras(machine) == [("/dev/video0", "/dev/video0", "HD Webcam")]
    for folder, name in ("by-path", "pci-0000:00:14.0-usb-0:1:1.0"), ("by-id", "usb-HD_Webcam"):
        (tmp_path / f"dev/v4l/{folder}").mkdir(parents=True)
        (tmp_path / f"dev/v4l/{folder}/{name}-video-index0").symlink_to("../../video0")
        assert [camera.stable for camera in cameras(machine)] == [f"/dev/v4l/{folder}/{name}-video-index0"]
    assert _sensors.serial_ports(Machine(tmp_path / "none")) == []


@pytest.mark.parametrize(
    ("data", "framing"),
    [
        (b"".join(frame(n) for n in range(5))[3:], "cobs"),
        (b"".join(line(n) for n in range(5))[1:], "csv"),
        (b'4}\n{"f1":1' + b"".join(b',"f%d":%d' % (n, n) for n in range(2, 10)) + b"}\n", "json"),
        (b"1,2,3\n" * 50, ""),
        (b"", ""),
        (bytes(range(256)) * 20, ""),
    ],
)
def test_a_framing_is_recognised(data: bytes, framing: str) -> None:
    assert _recognition.recognise(data, NAMES)[0] == framing


@given(data=st.binary(max_size=300), channels=st.integers(1, 4))
def test_noise_never_crashes_it(data: bytes, channels: int) -> None:
    framing, rows = _recognition.recognise(data, NAMES[:channels])
    assert bool(framing) == (rows > 0)


def test_a_port_that_cannot_be_opened_is_a_source_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="none: is not there; is the device plugged in"):
        _sensors.listen(str(tmp_path / "none"), [9600], NAMES, 0.1)


def test_a_port_that_a_daemon_reads_is_left_alone(tmp_path: Path) -> None:
    options = fill(serial.Config, {"port": str(tmp_path / "board"), "channels": ["a"]}, "s", tmp_path, [])
    assert options is not None
    with Board(tmp_path / "board") as board, serial.open(options, Counter()) as blocks:
        with pytest.raises(SourceError, match="board: is in use by another program"):
            _sensors.listen(str(tmp_path / "board"), [9600], NAMES, 0.1)
        board.send(b"1\n2\n3\n")
        assert sum(len(block.values) for block in (next(blocks), next(blocks))) >= 2


# --- what is written


def test_a_bare_model_has_channels_by_number() -> None:
    manifest = Manifest(name="m", version=1, inputs=[TensorInfo(name="x", shape=[1, 128, 6], dtype="int8")])
    assert _new_config.channels_of(manifest) == ["c0", "c1", "c2", "c3", "c4", "c5"]


@settings(max_examples=50)
@example(text='\x7f\\"\n', number=1.0)
@given(text=st.text(max_size=20), number=st.floats(0.001, 1e6))
def test_any_text_comes_through_toml(text: str, number: float) -> None:
    made = _new_config.NewConfig(
        device=text,
        state="",
        broker={"url": text},
        source=_new_config.serial_source(text, 9600, "csv", [text], number),
        model=text,
        pipeline=text,
    )
    read = tomllib.loads(tomli_w.dumps(made.tables()))
    assert read == made.tables()
    assert read["device"] == {"id": text}
    assert read["pipelines"] == {text: {"source": "sensor", "model": text, "delegates": ["cpu"]}}


@given(name=st.text(max_size=80))
def test_any_host_name_makes_an_identifier(name: str) -> None:
    tables = {"id": _new_config.identifier(name)}
    problems: list[str] = []
    assert fill(config.Device, tables, "device", Path(), problems), problems


def test_a_bare_tflite_model(tmp_path: Path) -> None:
    model = models.dense(tmp_path / "m.tflite")
    printed = run(tmp_path, "init", "--port", "/dev/x", "--model", model, *FLAGS, code=78)
    assert "decoder" in printed
