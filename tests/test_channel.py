from __future__ import annotations

import os
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.config import build
from limpet.inference.mailbox import Mailbox
from limpet.processes.channel import Channel
from limpet.records import Assign, Fork, FromWorker, Result, Results, Stop, ToForkServer, ToWorker
from limpet.types import Samples

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def pair(kind: object) -> Iterator[tuple[Channel[object], Channel[object]]]:
    a, b = socket.socketpair()
    with a, b:
        yield Channel(a, kind), Channel(b, kind)


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
    assert received == records


def test_a_configuration_crosses_with_its_paths(tmp_path: Path) -> None:
    tables = {
        "device": {"id": "d", "state": "state"},
        "sources": {"s": {"kind": "replay"}},
        "pipelines": {"p": {"source": "s", "model": "m", "window": {"size": 3}}},
    }
    wanted = build(tables, tmp_path)
    with pair(ToWorker) as (a, b):
        a.send(Assign(wanted))
        assert list(b.receive()) == [Assign(wanted)]


def test_the_end_of_the_other_side_is_told() -> None:
    with pair(ToWorker) as (a, b):
        a.send(Stop())
        a.close()
        assert list(b.receive()) == [Stop()]
        with pytest.raises(EOFError):
            b.receive()


def test_a_file_descriptor_comes_along() -> None:
    read, write = os.pipe()
    with pair(ToForkServer) as (a, b), os.fdopen(read, "rb") as reader:
        a.send(Fork("w"), (write,))
        os.close(write)
        assert list(b.receive()) == [Fork("w")]
        with os.fdopen(b.received_fds.pop(), "wb") as writer:
            writer.write(b"hello")
        assert reader.read() == b"hello"


def test_a_full_mailbox_drops_the_oldest_and_marks_the_gap() -> None:
    mailbox = Mailbox(2, wait=False)
    for index in range(4):
        mailbox.put(samples(10 * index, 10))
    assert mailbox.dropped == 20
    first, second = mailbox.get(0), mailbox.get(0)
    assert first is not None
    assert second is not None
    assert (first.index, first.gap) == (20, True)
    assert (second.index, second.gap) == (30, False)
    assert mailbox.get(0) is None


def test_a_recording_waits_for_the_model() -> None:
    mailbox = Mailbox(2, wait=True)

    def play() -> None:
        for index in range(20):
            mailbox.put(samples(index, 1))
        mailbox.close()

    thread = threading.Thread(target=play)
    thread.start()
    seen = []
    for _ in range(20):
        block = mailbox.get(5)
        assert block is not None
        assert len(mailbox) <= 2
        seen.append(block.index)
    thread.join()
    assert seen == list(range(20))
    with pytest.raises(EOFError):
        mailbox.get(0)
    assert mailbox.dropped == 0
