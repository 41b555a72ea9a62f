"""The serial source on real pseudo-terminals and sockets."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import termios
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from cobs import cobs as stuffing

from limpet.contracts.data import SampleSpec
from limpet.errors import ConfigError, SourceError
from limpet.filling import fill
from limpet.sources import serial
from limpet.sources.framings import cobs
from support.ptys import Board

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.contracts.data import Samples

SEQUENCED = {"kind": "csv", "fields": ["sequence", "a", "b"], "sequence_modulo": 65536}


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    with Board(tmp_path / "node") as plugged:
        yield plugged


def configured(port: object, **options: Any) -> serial.Config:
    problems: list[str] = []
    table = {"port": str(port), "channels": ["a", "b"], **options}
    filled = fill(serial.Config, table, "sources.node", Path(), problems)
    assert not problems
    assert filled is not None
    return filled


def collect(samples: Iterator[Samples], count: int, timeout: float = 20.0) -> list[Samples]:
    """Return the blocks with at least ``count`` samples in all."""
    blocks: list[Samples] = []
    end = time.monotonic() + timeout
    for block in samples:
        assert time.monotonic() < end, f"{sum(map(len, blocks))} samples of {count}"
        if len(block):
            blocks.append(block)
        if sum(map(len, blocks)) >= count:
            return blocks
    raise AssertionError("the source ended")


def heard(
    board: Board, data: bytes, count: int, **options: Any
) -> tuple[list[tuple[Any, int, bool]], Counter[str]]:
    """Send ``data`` and return each run of consecutive samples: its values, first ordinal and gap."""
    dropped: Counter[str] = Counter()
    runs: list[tuple[Any, int, bool]] = []
    with serial.open(configured(board.path, **options), dropped) as samples:
        sender = threading.Thread(target=board.send, args=(data,))  # a pty holds 4 kB
        sender.start()
        blocks = collect(samples, count)
        sender.join()
    for block in blocks:
        if block.gap or not runs:
            runs.append((block.values.tolist(), block.index, block.gap))
        else:
            assert block.index == runs[-1][1] + len(runs[-1][0])
            runs[-1][0].extend(block.values.tolist())
    return runs, dropped


def test_lines_become_samples_with_both_clocks(board: Board) -> None:
    dropped: Counter[str] = Counter()
    with serial.open(configured(board.path, rate=1000), dropped) as samples:
        before = time.monotonic_ns(), time.time_ns()
        board.send(b"\n1,2\n3,4\n5,6\n")
        blocks = collect(samples, 3)
        after = time.monotonic_ns(), time.time_ns()
    assert [row for block in blocks for row in block.values.tolist()] == [[1, 2], [3, 4], [5, 6]]
    assert blocks[0].values.dtype == np.float32
    assert blocks[0].index == 0
    assert not blocks[0].gap
    assert before[0] <= blocks[-1].monotonic_ns[-1] <= after[0]
    assert before[1] <= blocks[-1].wall_ns[-1] <= after[1]
    assert not dropped


@pytest.mark.parametrize(
    ("framing", "data", "cause", "count"),
    [
        ("csv", b"3,4,5\n3\n", "fields", 2),
        ("csv", b"3;4\n", "malformed", 1),
        ("csv", b"3x,4\n3,\n", "malformed", 2),
        ("csv", b"3," * 40_000 + b"\n", "overlong", 1),
        ("csv", b"nan,4\n3,-inf\n", "not_finite", 2),
        ("csv", b"3,1000\n", "out_of_range", 1),
        ("json", b'{"a": 3}\n', "fields", 1),
        ("json", b'{"a": 3, "b"\n', "malformed", 1),
        ("json", b'{"a": 3, "b": null}\n', "not_finite", 1),
    ],
)
def test_each_bad_line_is_counted_and_leaves_a_gap(
    board: Board, framing: str, data: bytes, cause: str, count: int
) -> None:
    good = b"1,2\n" if framing == "csv" else b"[1, 2]\n"
    runs, dropped = heard(board, b"\n" + good + data + good + good, 3, framing=framing, range=[-100, 100])
    assert [(values, gap) for values, _, gap in runs] == [([[1, 2]], False), ([[1, 2], [1, 2]], True)]
    assert dropped == {cause: count}


@pytest.mark.parametrize(
    ("data", "ordinals", "causes"),
    [
        (b"9,1,1\n10,1,1\n", [0], {}),
        (b"9,1,1\n13,1,1\n", [0, 4], {"sequence_gap": 3}),
        (b"9,1,1\n10,1\n11,1,1\n", [0, 2], {"sequence_gap": 1, "fields": 1}),
        (b"65535,1,1\n0,1,1\n", [0], {}),
        (b"9,1,1\n9,1,1\n10,1,1\n", [0], {"duplicate": 1}),
        (b"9,1,1\n~~~\n10,1,1\n", [0], {"not_data": 1}),
        (b"9,1,1\n0,1,1\n", [0, 1], {"restarted": 1}),
    ],
)
def test_sequence_numbers_in_lines(board: Board, data: bytes, ordinals: list[int], causes: dict[str, int]) -> None:
    runs, dropped = heard(board, b"\n" + data, 2, framing=SEQUENCED)
    assert [index for _, index, _ in runs] == ordinals
    assert [gap for _, _, gap in runs] == [False, True][: len(ordinals)]
    assert dropped == causes


def test_binary_frames_with_every_fault(board: Board) -> None:
    def frame(first: int, *rows: list[float]) -> bytes:
        return cobs.encode(np.array(rows or [[first, first]], np.float32), first, first * 1000)

    damaged = bytearray(stuffing.decode(frame(3)[:-1]))
    damaged[9] ^= 0x10
    data = [
        frame(0)[5:],  # the rest of a frame
        frame(1),
        frame(2),
        stuffing.encode(bytes(damaged)) + b"\0",
        frame(4),
        frame(4),  # twice
        frame(5)[:9] + b"\0",  # half of one
        frame(6, [6, 6], [np.nan, 7], [8, 8]),
        b"y" * 5000 + b"\0",
        frame(9, [9, 9], [10, 1000]),
        cobs.encode(np.zeros((1, 3), np.int16), 11, 11_000),
        frame(20),
    ]
    runs, dropped = heard(board, b"".join(data), 7, framing="cobs", range=[-100, 100])
    assert runs == [
        ([[1, 1], [2, 2]], 0, False),
        ([[4, 4]], 3, True),
        ([[6, 6]], 5, True),
        ([[8, 8], [9, 9]], 7, True),
        ([[20, 20]], 19, True),
    ]
    assert dropped == {
        "partial": 1,
        "crc": 1,
        "duplicate": 1,
        "malformed": 1,
        "not_finite": 1,
        "overlong": 1,
        "out_of_range": 1,
        "fields": 1,
        "sequence_gap": 1 + 1 + 9,
    }


def test_the_wrong_baud_rate_looks_like_garbage_and_stops_nothing(board: Board) -> None:
    noise = np.random.default_rng(7).integers(0, 256, 20_000, np.uint8).tobytes()
    runs, dropped = heard(board, noise + b"\n1,2\n", 1)
    assert runs[-1][0] == [[1, 2]]
    assert {"partial", "malformed"} <= set(dropped) <= {"partial", "malformed", "fields", "not_data"}
    assert dropped["partial"] == 1


def test_calibration_is_applied(board: Board) -> None:
    options = {"scale": [0.5, 2], "offset": 1, "range": [[0, 10], [-10, 0]]}
    runs, dropped = heard(board, b"\n4,-2\n20,-2\n18,-2\n", 2, **options)
    assert [values for values, _, _ in runs] == [[[3, -3]], [[10, -3]]]
    assert dropped == {"out_of_range": 1}


def test_a_line_in_pieces_arrives_whole(board: Board) -> None:
    dropped: Counter[str] = Counter()
    with serial.open(configured(board.path), dropped) as samples:
        for piece in (b"\n12", b"3,4", b"56\n"):
            board.send(piece)
            time.sleep(0.03)
        assert collect(samples, 1)[0].values.tolist() == [[123, 456]]
    assert not dropped


def test_it_shows_that_it_is_alive_while_nothing_comes(board: Board) -> None:
    with serial.open(configured(board.path), Counter()) as samples:
        began = time.monotonic()
        assert [len(next(samples)) for _ in range(2)] == [0, 0]
        assert time.monotonic() - began > 0.5


def test_it_shows_that_it_is_alive_while_only_garbage_comes(board: Board) -> None:
    with serial.open(configured(board.path), Counter()) as samples:
        for _ in range(2):
            board.send(b"x")
            assert len(next(samples)) == 0


def test_what_was_sent_before_opening_is_old_and_thrown_away(board: Board) -> None:
    held = os.open(board.path, os.O_RDWR | os.O_NOCTTY)  # a pty without a reader keeps nothing
    try:
        board.send(b"\n1,2\n")
        runs, _ = heard(board, b"\n3,4\n", 1)
    finally:
        os.close(held)
    assert runs[0][0] == [[3, 4]]


def test_unplugged_is_a_source_error_and_plugged_in_again_it_opens(board: Board) -> None:
    with serial.open(configured(board.path), Counter()) as samples:
        board.send(b"\n1,2\n")
        collect(samples, 1)
        board.unplug()
        with pytest.raises(SourceError, match="node: "):
            collect(samples, 1)
    with pytest.raises(SourceError, match="node: is not there"), serial.open(configured(board.path), Counter()):
        pass
    board.plug()
    assert heard(board, b"\n1,2\n", 1)[0] == [([[1, 2]], 0, False)]


def test_a_port_opens_once(board: Board) -> None:
    with (
        serial.open(configured(board.path), Counter()),
        pytest.raises(SourceError, match="in use by another"),
        serial.open(configured(board.path), Counter()),
    ):
        pass
    with serial.open(configured(board.path), Counter()):
        pass


def test_the_line_is_set_as_configured(board: Board) -> None:
    options = {"baud": 921600, "bytesize": 7, "parity": "even", "stopbits": 2, "rtscts": True}
    with serial.open(configured(board.path, **options), Counter()):
        line = os.open(board.path, os.O_RDWR | os.O_NOCTTY)
        _, _, cflag, lflag, _, speed, _ = termios.tcgetattr(line)
        os.close(line)
    assert speed == termios.B921600
    assert cflag & termios.CSTOPB
    assert cflag & termios.CRTSCTS
    assert not lflag & (termios.ICANON | termios.ECHO)


def test_a_custom_baud_rate_is_set(board: Board) -> None:
    with serial.open(configured(board.path, baud=250_000), Counter()):
        line = os.open(board.path, os.O_RDWR | os.O_NOCTTY)
        settings = fcntl.ioctl(line, 0x802C542A, bytes(64))  # TCGETS2
        os.close(line)
    assert struct.unpack_from("=2I", settings, 36) == (250_000, 250_000)


def test_a_port_across_the_network() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        dropped: Counter[str] = Counter()
        url = f"socket://127.0.0.1:{server.getsockname()[1]}"
        with serial.open(configured(url), dropped) as samples:
            peer, _ = server.accept()
            with peer:
                assert len(next(samples)) == 0
                peer.sendall(b"\n1,2\n" + b"3,4\n" * 5000)
                blocks = collect(samples, 5001)
            with pytest.raises(SourceError, match="socket"):
                collect(samples, 1)
    assert sum(map(len, blocks)) == 5001
    assert not dropped


def test_a_network_port_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"socket://127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(SourceError, match="socket://127"), serial.open(configured(url), Counter()):
        pass


def test_describe_needs_no_device() -> None:
    spec = serial.describe(configured("/dev/limpet-is-not-there", rate=50))
    assert spec == SampleSpec((2,), np.dtype(np.float32), ("a", "b"), 50, live=True, patience=60)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"port": "carrier-pigeon://3"}, "port: invalid URL, protocol 'carrier-pigeon' not known"),
        ({"framing": "cvs"}, "framing: 'cvs' is not one of the framings (did you mean 'csv'?)"),
        ({"framing": {"delimiter": ";"}}, "framing.kind: missing (there are: cobs, csv, json)"),
        (
            {"framing": {"kind": "csv", "delimeter": ";"}},
            "framing.delimeter: unknown key (did you mean 'delimiter'?)",
        ),
        ({"framing": {"kind": "csv", "fields": ["a"]}}, "framing.fields: has 'b' 0 times, expected once"),
        (
            {"framing": {"kind": "csv", "delimiter": ",", "decimal": ","}},
            'framing.decimal: "," is the delimiter as well',
        ),
        (
            {"framing": {"kind": "json", "paths": {"c": "x"}}},
            "framing.paths: 'c' is not one of the channels",
        ),
        ({"framing": {"kind": "csv", "delimiter": ",,"}}, 'framing.delimiter is ",,"; use one ASCII character'),
    ],
)
def test_describe_says_what_cannot_be_right(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as error:
        serial.describe(msgspec.structs.replace(configured("/dev/null"), **options))
    assert str(error.value).startswith(problem)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"channels": []}, "channels is an empty list; use a list of texts with at least 1 entry"),
        ({"channels": ["a", "a"]}, "channels: a name appears twice"),
        ({"channels": ["a", "time_us"]}, "channels: 'time_us' is the name of a node's counter"),
        ({"scale": [1, 2, 3]}, "scale: has 3 numbers for 2 channels"),
        ({"range": [1]}, "range: expected [low, high], or 2 such pairs"),
        ({"range": [[0, 1], 2]}, "range: expected [low, high], or 2 such pairs"),
        ({"range": [2, 1]}, "range: expected low below high"),
        ({"range": [[0, 1], [0, 1], [0, 1]]}, "range: expected [low, high], or 2 such pairs"),
        ({"baud": 0}, "baud is 0; use a whole number above 0"),
        ({"parity": "strange"}, 'parity is "strange"; use "even", "mark", "none", "odd" or "space"'),
    ],
)
def test_tables_that_are_refused(options: dict[str, Any], problem: str) -> None:
    problems: list[str] = []
    table = {"port": "/dev/ttyUSB0", "channels": ["a", "b"], **options}
    assert fill(serial.Config, table, "s", Path(), problems) is None
    assert len(problems) == 1
    assert problem in problems[0]
