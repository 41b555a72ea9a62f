"""Two boards on two serial lines, in two framings, under one daemon; one is pulled out, one talks nonsense."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING

import numpy as np

from daemon.conftest import Configure, pipeline
from limpet.sources.framings import cobs
from support.broker import wait_until
from support.daemon import Consumer, daemon, missing
from support.ptys import Board

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SERIAL = """
[sources.{name}]
kind = "serial"
port = "{folder}/{name}"
channels = ["ax", "ay", "az"]
framing = "{framing}"
"""


class Sending(threading.Thread):
    """A board that sends a row every 5 ms for as long as it is plugged in."""

    def __init__(self, board: Board, encode: Callable[[int], bytes]) -> None:
        super().__init__()
        self.sent = 0
        self.pause = threading.Event()
        self.paused = threading.Event()
        self._board = board
        self._encode = encode
        self._ended = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._ended.is_set():
            if self.pause.is_set():
                self.paused.set()
            else:
                self.paused.clear()
                self._board.send(self._encode(self.sent))
                self.sent += 1
            time.sleep(0.005)

    def stop(self) -> None:
        self._ended.set()
        self.join()


def cobs_row(number: int) -> bytes:
    return cobs.encode(np.array([[number % 7, 1.0, -1.0]], np.float32), number % 65536, number * 5000 % 2**32)


def csv_row(number: int) -> bytes:
    return f"{number % 7},1.0,-1.0\n".encode()


def test_a_board_is_pulled_out_and_put_back(configure: Configure, consumer: Consumer, tmp_path: Path) -> None:
    path = configure(
        SERIAL.format(folder=tmp_path, name="binary", framing="cobs"),
        SERIAL.format(folder=tmp_path, name="text", framing="csv"),
        pipeline("one", "binary"),
        pipeline("two", "text"),
    )
    with Board(tmp_path / "binary") as binary, Board(tmp_path / "text") as text, daemon(path):
        binary.wait_opened()
        text.wait_opened()
        one, two = Sending(binary, cobs_row), Sending(text, csv_row)
        try:
            consumer.wait_results("one", 50)
            consumer.wait_results("two", 50)
            one.pause.set()
            one.paused.wait()
            binary.unplug()
            wait_until(lambda: consumer.events("one", "waiting"))
            assert consumer.last("health/one")["state"] == "waiting"
            binary.plug()
            binary.wait_opened()
            one.pause.clear()
            consumer.wait_results("one", 50)
            wait_until(lambda: consumer.events("one", "gap"))
        finally:
            one.stop()
            two.stop()
        wait_until(lambda: consumer.last("health/one")["state"] == "running")
    assert consumer.last("health/one")["dropped"]["disconnected"] == 1
    assert consumer.last("health/one")["restarts"] == 0
    assert not missing(consumer.results("one"))
    assert not missing(consumer.results("two"))
    assert not consumer.events("two", "waiting")
    assert not consumer.events("two", "gap")


def test_nonsense_on_the_line_is_counted_by_cause(
    configure: Configure, consumer: Consumer, tmp_path: Path
) -> None:
    path = configure(SERIAL.format(folder=tmp_path, name="text", framing="csv"), pipeline("two", "text"))
    with Board(tmp_path / "text") as text, daemon(path):
        text.wait_opened()
        text.send(
            b"\n1,2,3\n" * 10 + b"1,2\n" + b"nan,1,1\n" + b"\xff\xfe,garbage\x00,1\n" + b"9" * 100_000 + b"\n"
        )
        text.send(b"4,5,6\n" * 10)
        wait_until(lambda: len(consumer.results("two")) == 20)
        wait_until(lambda: sum((consumer.last("health/two") or {"dropped": {}})["dropped"].values()) >= 4)
    dropped = consumer.last("health/two")["dropped"]
    assert {cause: dropped[cause] for cause in ("fields", "not_finite", "malformed", "overlong")} == {
        "fields": 1,
        "not_finite": 1,
        "malformed": 1,
        "overlong": 1,
    }
    assert consumer.events("two", "gap")


def test_a_network_port_that_stalls_is_waiting_and_is_opened_again(
    configure: Configure, consumer: Consumer
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        source = f"""
[sources.far]
kind = "serial"
port = "socket://127.0.0.1:{server.getsockname()[1]}"
channels = ["ax", "ay", "az"]
silence = 0.5
"""
        with daemon(configure(source, pipeline("two", "far"))):
            first, _ = server.accept()
            with first:
                wait_until(lambda: consumer.events("two", "running"))
                first.sendall(b"\n1,2,3\nI (7) wifi: connected\n4,5,6\n")
                wait_until(lambda: len(consumer.results("two")) == 2)
                wait_until(lambda: consumer.events("two", "waiting"))
                second, _ = server.accept()
            with second:
                wait_until(lambda: second.send(b"\n7,8,9\n") and len(consumer.results("two")) > 2)
                wait_until(lambda: len(consumer.events("two", "running")) == 2)
    assert {event["reason"] for event in consumer.events("two", "waiting")} == {"no sample for 0.5 s"}
