from __future__ import annotations

import os
import socket
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.contracts.data import Samples
from limpet.errors import UnreadableError
from limpet.wire.channel import Channel
from limpet.wire.fork_records import Fork, ToForkServer
from limpet.wire.records import Assign, FromWorker, RawResult, RawResults, Result, Results, Stop, ToWorker
from limpet.wire.stream import LENGTH
from support.assigned import cells

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def pair(
    kind: object, *, largest: int = 1 << 16, fds: int = 0
) -> Iterator[tuple[Channel[object], Channel[object]]]:
    a, b = socket.socketpair()
    with a, b:
        yield Channel(a, kind), Channel(b, kind, largest=largest, fds=fds)


def samples(index: int, count: int) -> Samples:
    stamps = np.arange(count, dtype=np.int64)
    return Samples(np.zeros((count, 1), np.float32), stamps, stamps, index)


@given(st.lists(st.integers(0, 200), max_size=8), st.integers(1, 50))
def test_records_survive_any_cut_of_the_stream(sizes: list[int], piece: int) -> None:
    a, b = socket.socketpair()
    sender: Channel[object] = Channel(a, FromWorker)
    records = [Results([Result("p", "m", 1, "cpu", False, 1, 2, 3, 4, {"x": "y" * n})]) for n in sizes]
    with a, b:
        for record in records:
            sender.send(record)
        a.shutdown(socket.SHUT_WR)
        stream = b"".join(iter(lambda: b.recv(65536), b""))
    c, d = socket.socketpair()
    receiver: Channel[object] = Channel(d, FromWorker)
    received = []
    with c, d:
        for start in range(0, len(stream), piece):
            c.sendall(stream[start : start + piece])
            received += list(receiver.receive())
    assert [msgspec.msgpack.decode(record.items[0].output) for record in received] == [
        record.items[0].output for record in records
    ]
    assert all(isinstance(record, RawResults) and record.items[0].pipeline == "p" for record in received)


def test_an_assignment_crosses_with_its_paths(tmp_path: Path) -> None:
    tables = {
        "device": {"id": "d", "state": "state"},
        "sources": {"s": {"kind": "replay"}},
        "pipelines": {"p": {"source": "s", "model": "m", "window": {"size": 3}}},
    }
    wanted = cells(tables, tmp_path)["s"]
    with pair(ToWorker) as (a, b):
        a.send(Assign(wanted))
        assert list(b.receive()) == [Assign(wanted)]


def test_the_end_of_the_other_side_is_an_error() -> None:
    with pair(ToWorker) as (a, b):
        a.send(Stop())
        a.close()
        assert list(b.receive()) == [Stop()]
        with pytest.raises(EOFError):
            b.receive()


def test_a_file_descriptor_comes_along() -> None:
    read, write = os.pipe()
    with pair(ToForkServer, fds=1) as (a, b), os.fdopen(read, "rb") as reader:
        a.send(Fork(1, "w"), (write,))
        os.close(write)
        assert list(b.receive()) == [Fork(1, "w")]
        with os.fdopen(b.received_fds.pop(), "wb") as writer:
            writer.write(b"hello")
        assert reader.read() == b"hello"


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("allowed", [0, 1, 2])
def test_more_file_descriptors_than_expected_end_it_and_none_stays_open(allowed: int) -> None:
    with pair(ToForkServer, fds=allowed) as (a, b):
        before = open_files()
        a.send(Fork(1, "w"), tuple([0] * (allowed + 1)))
        with pytest.raises(UnreadableError, match=f"more than {allowed} file descriptors"):
            b.receive()
        assert open_files() == before


def test_file_descriptors_that_nobody_takes_do_not_add_up() -> None:
    with pair(ToForkServer, fds=8) as (a, b):
        before = open_files()
        for _ in range(8):
            a.send(Fork(1, "w"), (0,))
            list(b.receive())
        a.send(Fork(1, "w"), (0,))
        with pytest.raises(UnreadableError):
            b.receive()
        assert open_files() == before


def test_a_record_announced_as_too_large_ends_it_before_it_is_gathered() -> None:
    with pair(FromWorker, largest=1000) as (a, b):
        a.socket.sendall(LENGTH.pack(0xFFFFFFFF) + b"x")
        with pytest.raises(UnreadableError, match="4294967295 bytes; the limit is 1000"):
            list(b.receive())


def test_what_came_before_garbage_is_received() -> None:
    with pair(FromWorker) as (a, b):
        a.send(Results([Result("p", "m", 1, "cpu", False, 1, 2, 3, 4, {})]))
        a.socket.sendall(LENGTH.pack(3) + b"xyz")
        records = b.receive()
        assert isinstance(next(records), RawResults)
        with pytest.raises(UnreadableError, match="a record could not be read"):
            next(records)


@given(st.lists(st.one_of(st.binary(max_size=64), st.recursive(st.none(), st.lists, max_leaves=50)), max_size=8))
def test_whatever_comes_in_is_a_record_or_unreadable(said: list[object]) -> None:
    with pair(FromWorker, largest=2000) as (a, b):
        for one in said:
            data = one if isinstance(one, bytes) else msgspec.msgpack.encode(one)
            a.socket.sendall(LENGTH.pack(len(data)) + data)
        a.socket.shutdown(socket.SHUT_WR)
        try:
            while True:
                list(b.receive())
        except (UnreadableError, EOFError):
            pass


@pytest.mark.parametrize("depth", [100, 2000, 60000])
def test_deep_nesting_is_read_only_where_it_is_needed(depth: int) -> None:
    nested = b"\x91" * depth + b"\xc0"
    with pair(FromWorker) as (a, b):
        header = msgspec.msgpack.encode({"type": "Results"})[1:]
        result = msgspec.msgpack.encode(["p", "m", 1, "cpu", False, 1, 2, 3, 4, None])[:-1] + nested
        data = b"\x82" + header + msgspec.msgpack.encode("items") + b"\x91" + result
        a.socket.sendall(LENGTH.pack(len(data)) + data)
        try:
            (record,) = b.receive()
        except UnreadableError:
            return
        assert isinstance(record, RawResults)
        assert isinstance(record.items[0], RawResult)
