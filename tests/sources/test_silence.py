"""Ports that are open and give no samples, and boards that must be opened with care."""

from __future__ import annotations

import contextlib
import os
import socket
import termios
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from limpet import config
from limpet.deployment.assignments import sources_alone
from limpet.filling import fill
from limpet.inference.planning import plan_source
from limpet.inference.reader import Expected, Reader
from limpet.sources import _recognition, serial
from support.ptys import Board

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from limpet.contracts.data import Samples


def configured(port: object, **options: Any) -> serial.Config:
    problems: list[str] = []
    table = {"port": str(port), "channels": ["a", "b"], **options}
    filled = fill(serial.Config, table, "sources.node", Path(), problems)
    assert filled is not None, problems
    return filled


@contextlib.contextmanager
def server(*answers: bytes) -> Iterator[tuple[str, list[socket.socket]]]:
    """A network port: to each connection it sends the next answer, then stalls."""
    taken: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            for answer in answers:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                taken.append(connection)
                time.sleep(0.1)  # what comes while a port is being opened is old, and thrown away
                connection.sendall(answer)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield f"socket://127.0.0.1:{listening.getsockname()[1]}", taken
        finally:
            with contextlib.suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            for connection in taken:
                connection.close()
    thread.join(10)


def reading(reader: Reader) -> Generator[Samples, None, None]:
    yield from reader


def until(reader: Reader, samples: Iterator[Samples], away: str | None) -> list[Samples]:
    """Read until ``away`` is, or begins, as expected; return the blocks with samples."""
    blocks = []
    for _, block in zip(range(2000), samples, strict=False):
        if len(block):
            blocks.append(block)
        if reader.away is None if away is None else (reader.away or "").startswith(away):
            return blocks
    raise AssertionError(reader.away)


def test_a_network_port_that_stalls_is_away_and_is_opened_again() -> None:
    dropped: Counter[str] = Counter()
    with server(b"\n1,2\n", b"", b"\n3,4\n") as (url, taken):
        reader = Reader(serial, configured(url), dropped, Expected(0.3))
        with contextlib.closing(reading(reader)) as samples:
            assert until(reader, samples, "no sample for 0.3 s")[0].values.tolist() == [[1, 2]]
            (block, *_) = until(reader, samples, None)
        assert block.values.tolist() == [[3, 4]]
        assert (block.index, block.gap) == (1, True)
        assert len(taken) == 3  # the second connection was silent too, and stayed away
    assert dropped["disconnected"] == 2


def test_without_samples_an_open_port_stays_away() -> None:
    with server(b"\n1,2\n", b"") as (url, taken):
        reader = Reader(serial, configured(url), Counter(), Expected(0.2))
        with contextlib.closing(reading(reader)) as samples:
            until(reader, samples, "no sample")
            while len(taken) < 2:
                next(samples)
            for _ in range(3):
                next(samples)
                assert reader.away == "no sample for 0.2 s"


def test_the_reason_names_what_was_dropped_instead() -> None:
    dropped = Counter({"out_of_range": 7})
    with server(b"\n5,6\n7,8\n") as (url, _):
        reader = Reader(serial, configured(url, range=[0, 1]), dropped, Expected(0.3))
        with contextlib.closing(reading(reader)) as samples:
            until(reader, samples, "no sample for 0.3 s: dropped 2 out_of_range")


def test_a_dead_connection_is_found_by_the_kernel() -> None:
    with server(b"") as (url, _), serial.open(configured(url), Counter()):
        # Linux shows the timers of its sockets: 02 is that of keep-alive.
        port = f":{int(url.rpartition(':')[2]):04X}"
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        (ours,) = [row for row in rows if row[2].endswith(port) and row[3] == "01"]
        assert ours[5].startswith("02:")


@pytest.mark.parametrize(
    ("value", "silence"), [("", 60.0), ("rate = 0.1\n", 200.0), ("silence = 3\n", 3.0), ("silence = 0\n", 0.0)]
)
def test_how_long_a_source_may_be_silent(tmp_path: Path, value: str, silence: float) -> None:
    assert (
        plan_source(
            sources_alone(
                written(tmp_path, f'kind = "serial"\nport = "/dev/x"\nchannels = ["a"]\n{value}'), ["s"]
            ),
            "s",
        ).silence
        == silence
    )


def test_a_recording_is_never_silent(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("time,a\n0,1\n3600,2\n")
    assert (
        plan_source(sources_alone(written(tmp_path, 'kind = "replay"\npath = "r.csv"\n'), ["s"]), "s").silence
        is None
    )
    with pytest.raises(config.ConfigError, match=r"sources\.s\.silence: a source that waits for the model"):
        plan_source(
            sources_alone(
                written(tmp_path, 'kind = "replay"\npath = "r.csv"\nspeed = "flat-out"\nsilence = 3\n'), ["s"]
            ),
            "s",
        )


@pytest.mark.parametrize("value", ["-1", '"3 s"', "true", "inf", "nan"])
def test_a_silence_that_cannot_be(tmp_path: Path, value: str) -> None:
    with pytest.raises(config.ConfigError, match=r"sources\.s\.silence is .*; use seconds, or 0 for never"):
        written(tmp_path, f'kind = "serial"\nport = "/dev/x"\nchannels = ["a"]\nsilence = {value}\n')


def written(folder: Path, source: str) -> config.Config:
    path = folder / "limpet.toml"
    path.write_text(f'[device]\nid = "d"\n[sources.s]\n{source}[pipelines.p]\nsource = "s"\nmodel = "m"\n')
    return config.read(path)


def test_the_start_command_is_sent_and_what_came_before_is_thrown_away(tmp_path: Path) -> None:
    with Board(tmp_path / "node") as board:

        def restart() -> None:
            board.send(b"\n7,7\n")  # what it was at before it restarted
            assert board.receive(64) == b"stream on\r\n"
            board.send(b"\n1,2\n")

        options = {"settle": 0.6, "start": "stream on\r\n"}
        with serial.open(configured(board.path, **options), Counter()) as samples:
            thread = threading.Thread(target=restart, daemon=True)
            thread.start()
            block = next(block for block in samples if len(block))
            thread.join(10)
        assert block.values.tolist() == [[1, 2]]


def test_flow_control_is_set(tmp_path: Path) -> None:
    options = {"xonxoff": True, "rtscts": True, "dsrdtr": True, "dtr": False, "rts": False}
    with Board(tmp_path / "node") as board, serial.open(configured(board.path, **options), Counter()):
        line = os.open(board.path, os.O_RDWR | os.O_NOCTTY)
        iflag, _, cflag, *_ = termios.tcgetattr(line)
        os.close(line)
    assert iflag & termios.IXON
    assert cflag & termios.CRTSCTS


def settings_of(board: Board) -> list[Any]:
    line = os.open(board.path, os.O_RDWR | os.O_NOCTTY)
    try:
        return termios.tcgetattr(line)
    finally:
        os.close(line)


def test_a_port_is_left_with_the_settings_that_it_had(tmp_path: Path) -> None:
    with Board(tmp_path / "node") as board:
        before = settings_of(board)
        with serial.open(configured(board.path), Counter()) as samples:
            next(samples)
            assert settings_of(board) != before
        assert settings_of(board) == before


def test_what_comes_instead_of_samples_is_said(tmp_path: Path) -> None:
    with Board(tmp_path / "node") as board:
        reader = Reader(serial, configured(board.path, channels=["a", "b", "c"]), Counter(), Expected(60))
        samples = iter(reader)
        next(samples)
        board.send(b"\n1,2\n3,4\n5,6\n")
        until(reader, samples, f"{board.path} at 115200 baud sends 2 numbers a line. `channels` has 3 (a, b, c).")
        board.send(b"1,2,3\n4,5,6\n")
        assert until(reader, samples, None)[-1].values[-1].tolist() == [4, 5, 6]


CHANNELS = ("ax", "ay", "az")


@pytest.mark.parametrize(
    ("data", "kind", "seen"),
    [
        (
            b"x\n1,2\n3,4\n5,6\n",
            "csv",
            "sends 2 numbers a line. `channels` has 3 (ax, ay, az). Check `channels`",
        ),
        (
            b"x\n1,2,3,4\n3,4,5,6\n",
            "csv",
            "sends 4 numbers a line. `channels` has 3 (ax, ay, az). Name all columns",
        ),
        (b'x\n{"ax":1,"ay":2,"az":3}\n' * 3, "csv", 'sends samples as json. Set framing = "json".'),
        (b"x\n1,2,3\n4,5,6\n", "json", 'sends samples as csv. Set framing = "csv".'),
        (b'x\n{"x":1,"v":{"y":2}}\n{"x":1,"v":{"y":2}}\n', "json", "sends JSON with the keys x, v.y."),
        (b'x\n{"a\\nb\\u001b[2J":1,"y":2}\n' * 2, "json", r"sends JSON with the keys 'a\nb\x1b[2J', y."),
        (b'x\n{"x":1,"v":{"y":2}}\n{"x":1,"v":{"y":2}}\n', "csv", 'Set framing = "json", and name'),
        (b"x\nx:1 y:2 z:3\nx:1 y:2 z:3\n", "csv", "sends the names x, y, z. The channels are ax, ay, az."),
        (
            b"x\nDATA,1,2,3\nDATA,4,5,6\n",
            "csv",
            "sends 4 columns a line. `channels` has 3 (ax, ay, az). Name all",
        ),
        (b"x\n1,5,2,5,3,5\n1,5,2,5,3,5\n", "csv", 'If each number has a decimal comma, set decimal = ","'),
        (b'x\n{\n"ax": 1,\n"ay": 2\n}\n', "json", "sends JSON over several lines."),
        (
            b"x\r\nV\t12800\r\nI\t-300\r\nCE\t---\r\nChecksum\t\xd8" * 5 + b"\r\n",
            "csv",
            "sends each value on its own line (V, I). The channels are ax, ay, az. Send all values of",
        ),
        (
            b"x\nax: 1.5\nay: 2\naz: 3,5 C\n\nax: 1.5\nay: 2\naz: 3,5 C\n",
            "csv",
            "sends each value on its own line (ax, ay, az).",
        ),
        (b'x\n{"ax":1,"ay":2,"az":3}{"ax":1,"ay":2,"az":3}\n', "json", "sends several objects a line."),
        (b'x\n{"ax":"left","ay":2,"az":3}\n', "json", "sends objects with values that are no numbers, such as"),
        (b"x\nhello\nwelt\n", "csv", "sends text without samples, such as 'welt'. Check `baud` and `framing`."),
        (bytes(range(128, 256)) * 4, "csv", "sends bytes that are no text. Check `baud`, `parity` and `framing`."),
        (b"x" * 2000, "csv", "sends text without line ends. Check `framing`, and its `max_line`"),
    ],
)
def test_what_a_board_sends_is_described(data: bytes, kind: str, seen: str) -> None:
    assert seen in _recognition.describe(data, CHANNELS, kind)


@pytest.mark.parametrize("data", [b"", b"1,2", b"1,2\n", b"x\n1,2,3\n"])
def test_what_may_yet_become_a_sample_is_not_described(data: bytes) -> None:
    assert _recognition.describe(data, CHANNELS, "csv") == ""
