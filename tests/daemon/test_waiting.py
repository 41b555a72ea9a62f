"""A daemon that gets nothing usable says what came and what is needed."""

from __future__ import annotations

import os
import termios
import threading
from typing import TYPE_CHECKING

from daemon.conftest import Configure, pipeline
from limpet import config
from limpet.doctor import samples
from limpet.doctor.installation import Installation
from support.broker import wait_until
from support.daemon import Consumer, daemon
from support.ptys import Board

if TYPE_CHECKING:
    from pathlib import Path

SERIAL = """
[sources.{name}]
kind = "serial"
port = "{folder}/{name}"
channels = ["ax", "ay", "az"]
"""
CASES = {
    "few": (b"1,2\n", "sends 2 numbers a line. `channels` has 3 (ax, ay, az). Check `channels`"),
    "quiet": (b"", "sends nothing. Check the cable, the power of the board and its program, and `baud`."),
    "away": (None, "is not there; is the device plugged in?"),
}
SOURCES = [*CASES, "changing", "long"]


def test_what_comes_instead_of_samples_is_the_reason(
    configure: Configure, consumer: Consumer, tmp_path: Path
) -> None:
    """One daemon for all cases: each takes some seconds to be sure of its case."""
    path = configure(
        *(SERIAL.format(folder=tmp_path, name=name) for name in SOURCES),
        *(pipeline(name, name) for name in SOURCES[:-1]),
        pipeline("long", "long")
        + 'window = { size = 100000 }\ntransforms = [{ kind = "statistics", features = ["mean"] }]\n',
    )
    boards = {name: Board(tmp_path / name) for name in SOURCES if name != "away"}
    line = os.open(boards["few"].path, os.O_RDWR | os.O_NOCTTY)
    before = termios.tcgetattr(line)
    ended = threading.Event()

    def send() -> None:
        while not ended.wait(0.05):
            boards["few"].send(CASES["few"][0] or b"")
            boards["long"].send(b"1,2,3\n")
            boards["changing"].send(b"1,2\n" if consumer.results("changing") else b"1,2,3\n")

    with daemon(path) as running:
        for board in boards.values():
            board.wait_opened()
        thread = threading.Thread(target=send)
        thread.start()
        try:
            for name in SOURCES:
                wait_until(lambda name=name: consumer.events(name, "waiting"))
            health = {name: consumer.last(f"health/{name}") for name in SOURCES}
            found = list(samples.samples(Installation(path, config.read(path))))
        finally:
            ended.set()
            thread.join()
    assert termios.tcgetattr(line) == before, "the workers left their ports as they were"
    os.close(line)
    for board in boards.values():
        board.unplug()
    for name, (_, seen) in CASES.items():
        assert seen in health[name]["reason"]
        assert f"{name}: waiting: {health[name]['reason']}" in running.log
    assert {each["state"] for each in health.values()} == {"waiting"}
    assert consumer.events("changing", "running")
    assert "sends 2 numbers a line" in health["changing"]["reason"]
    assert health["long"]["reason"].startswith("a window needs 100,000 samples: at ")
    assert {(one.result, one.what) for one in found} == {
        ("bad", f"{name}: {name} is waiting: {each['reason']}") for name, each in health.items()
    }, "the doctor has it from the daemon, which holds the ports"
    assert not consumer.events("away", "running"), "a pipeline whose port is not there never ran"
