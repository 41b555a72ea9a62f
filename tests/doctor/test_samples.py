"""Whether samples come from the configured sensors: by listening, and by a running daemon."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet import config
from limpet.doctor import running_daemon, samples
from limpet.doctor.installation import Installation
from limpet.errors import LimpetError
from limpet.filling import fill
from limpet.sources import serial
from support.microphone import NAME, Microphone
from support.patients import only
from support.ptys import Board

if TYPE_CHECKING:
    from pathlib import Path

FILE = """
[device]
id = "d"
state = "state"
[sources.node]
kind = "serial"
port = "{port}"
channels = ["a", "b", "c"]
[pipelines.p]
source = "node"
model = "m"
"""


def installation(folder: Path) -> Installation:
    path = folder / "limpet.toml"
    path.write_text(FILE.format(port=folder / "node"))
    return Installation(path, config.read(path))


@pytest.mark.parametrize(
    ("line", "result", "what"),
    [
        (b"1,2,3\n", "ok", " samples of 3 channels in 1."),
        (b"1,2\n", "bad", "/node at 115200 baud sends 2 numbers a line. `channels` has 3 (a, b, c). Check"),
    ],
)
def test_the_doctor_listens_to_the_port(tmp_path: Path, line: bytes, result: str, what: str) -> None:
    ended = threading.Event()
    with Board(tmp_path / "node") as board:

        def send() -> None:
            while not ended.wait(0.02):
                board.send(line)

        thread = threading.Thread(target=send)
        thread.start()
        try:
            found = only(samples.samples, installation(tmp_path))
        finally:
            ended.set()
            thread.join()
    assert (found.check, found.result) == ("samples", result)
    assert what in found.what


def test_a_port_that_does_not_exist_is_left_to_the_check_of_ports(tmp_path: Path) -> None:
    assert only(samples.samples, installation(tmp_path)).result == "skip"


def test_a_daemon_that_has_no_room_for_one_more_reader_is_quoted(tmp_path: Path) -> None:
    wanted = installation(tmp_path)
    (tmp_path / "state").mkdir()

    def refuse() -> None:
        connection, _ = server.accept()
        with connection:
            connection.sendall(b'{"refused": "8 others watch already"}\n')

    with socket.create_server(str(tmp_path / "state" / "monitor.sock"), family=socket.AF_UNIX) as server:
        thread = threading.Thread(target=refuse)
        thread.start()
        found = only(samples.samples, wanted)
        thread.join()
    assert (found.result, found.what) == ("skip", "the daemon refuses: 8 others watch already")


@given(st.binary() | st.binary().map(lambda data: b'{"topic":"health/p","message":' + data + b"}\n"))
def test_what_a_daemon_sends_can_be_anything(data: bytes) -> None:
    try:
        states = list(running_daemon.states(running_daemon.read(data)))
    except LimpetError:
        return
    assert all(isinstance(one.pipeline, str) for one in states)


def test_a_port_in_use_is_not_the_boards_fault(tmp_path: Path) -> None:
    found = installation(tmp_path)
    assert found.config is not None
    table = found.config.sources["node"]
    options = fill(serial.Config, table.options, "sources.node", tmp_path, [])
    assert options is not None
    with Board(tmp_path / "node"), serial.open(options, Counter()):
        (finding,) = samples.samples(found)
    assert finding.what == f"node: {tmp_path}/node: is in use by another program"
    assert finding.fix == f"stop the other program; `sudo fuser -v {tmp_path}/node` names it"


@pytest.mark.parametrize(
    ("sound", "result", "what"),
    [
        (np.tile([[3277], [-3277]], (800, 1)), "ok", " at -20 dB of full scale"),
        (np.zeros((1600, 1)), "warn", ", all the same"),
        (np.tile([[32767], [-32768]], (800, 1)), "warn", " at -0 dB of full scale"),
    ],
    ids=["good", "muted", "clipped"],
)
def test_the_doctor_listens_to_a_microphone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sound: Any, result: str, what: str
) -> None:
    for name, value in Microphone(tmp_path / "mic", sound.astype("<i2")).environment.items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "limpet.toml"
    of_microphone = f'kind = "audio"\ndevice = "{NAME}"\n'
    path.write_text(FILE.partition("kind")[0] + of_microphone + '[pipelines.p]\nsource = "node"\nmodel = "m"\n')
    found = only(samples.samples, Installation(path, config.read(path)))
    assert (found.check, found.result) == ("samples", result)
    assert what in found.what
