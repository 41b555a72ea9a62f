"""The socket to the gateway: nothing waits for it, and what it may have the supervisor do is limited."""

from __future__ import annotations

import os
import selectors
import socket
import threading
from time import monotonic
from typing import TYPE_CHECKING

import pytest

from limpet.supervision.gateway_line import MOST_OUTGOING, POINTS_AT_ONCE, SENT_PER_POINT, GatewayLine
from limpet.wire.channel import Channel
from limpet.wire.gateway_records import (
    Alive,
    FromGateway,
    GetFigures,
    GetModels,
    Listening,
    Opened,
    Picture,
    Ping,
    ToGateway,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


class Stand:
    """The supervisor's end with a selector, and the gateway's end, which the test plays."""

    def __init__(self, patience: float = 30.0) -> None:
        self.selector = selectors.PollSelector()
        ours, self.theirs = socket.socketpair()
        self.heard: list[FromGateway] = []
        self.lost: list[str] = []
        self.line = GatewayLine(ours, self.selector, self.heard.append, self.lost.append, patience)
        self.gateway: Channel[ToGateway] = Channel(self.theirs, ToGateway, fds=16)

    def turn(self, seconds: float = 0.05) -> None:
        """Do once what the supervisor's loop does."""
        for key, _ in self.selector.select(max(0.0, min(seconds, self.line.next_due() - monotonic()))):
            key.data()
        self.line.tend()

    def close(self) -> None:
        self.line.close()
        self.gateway.close()
        self.selector.close()


@pytest.fixture
def stand() -> Iterator[Stand]:
    one = Stand()
    yield one
    one.close()


def test_large_answers_and_descriptors_arrive_whole_although_nothing_waits_for_the_reader(stand: Stand) -> None:
    jpeg = os.urandom(3_000_000)
    reader, writer = os.pipe()
    stand.line.send(Picture(1, jpeg))
    for number in (2, 3):
        stand.line.send(Opened(number), (reader,))
    os.close(reader)
    received: list[ToGateway] = []
    while len(received) < 3:
        stand.turn(0)
        received += stand.gateway.receive()
    assert received == [Picture(1, jpeg), Opened(2), Opened(3)]
    os.write(writer, b"x")
    first, second = (stand.gateway.received_fds.pop(0) for _ in range(2))
    assert os.read(second, 1) == b"x"
    for descriptor in (first, second, writer):
        os.close(descriptor)
    assert stand.lost == []


def test_a_gateway_that_reads_nothing_is_lost_once_too_much_waits(stand: Stand) -> None:
    for number in range(MOST_OUTGOING // 1_000_000 + 2):
        stand.line.send(Picture(number, bytes(1_000_000)))
    assert stand.lost == ["it does not read what it is sent"]
    stand.line.send(Picture(0, b""))  # one to a gateway that is gone is dropped


def test_requests_wait_while_answers_wait(stand: Stand) -> None:
    stand.line.send(Picture(1, bytes(2_000_000)))
    stand.gateway.send(GetModels(2))
    for _ in range(5):
        stand.turn(0)
    assert stand.heard == []
    received: list[ToGateway] = []
    while not received:
        stand.turn(0)
        received += stand.gateway.receive()
    while not stand.heard:
        stand.turn()
    assert stand.heard == [GetModels(2)]


def test_a_flood_of_requests_is_read_slowly_and_loses_none(stand: Stand) -> None:
    number = int(POINTS_AT_ONCE / 20) + 10
    flood = b"".join(stand.gateway.encode(GetFigures(n)) for n in range(1, number + 1))
    sender = threading.Thread(target=stand.theirs.sendall, args=(flood,))
    sender.start()
    while not stand.heard:
        stand.turn()
    at_first = len(stand.heard)
    while len(stand.heard) < number:
        stand.turn()
    sender.join()
    assert at_first < number
    assert stand.heard == [GetFigures(n) for n in range(1, number + 1)]
    assert stand.lost == []


def test_a_request_waits_after_answers_that_were_much_work(stand: Stand) -> None:
    size = 1 << 20
    number = int(POINTS_AT_ONCE * SENT_PER_POINT / size) + 20
    for each in range(number):
        stand.line.send(Picture(each, bytes(size)))
        read = 0
        while read < size:
            read += len(stand.theirs.recv(1 << 20))
            stand.turn(0)
    stand.gateway.send(GetModels(1))
    stand.turn(0)
    assert stand.heard == []
    while not stand.heard:
        stand.turn()
    assert stand.heard == [GetModels(1)]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xff\xff\xff\xff", "a record of 4294967295 bytes"),
        (b"\x01\x00\x00\x00\xc1", "a record could not be read"),
    ],
)
def test_what_is_no_record_ends_the_gateway_alone(stand: Stand, data: bytes, reason: str) -> None:
    stand.theirs.sendall(data)
    while not stand.lost:
        stand.turn()
    assert reason in stand.lost[0]
    assert len(stand.lost) == 1


def test_a_gateway_says_once_where_it_listens(stand: Stand) -> None:
    for record in (Listening(["127.0.0.1:1"]), GetModels(1), *[Listening(["anywhere"])] * 200, GetModels(2)):
        stand.gateway.send(record)
    while not stand.lost:
        stand.turn(0)
    assert stand.lost == ["it said twice where it listens"]
    assert stand.heard == [Listening(["127.0.0.1:1"]), GetModels(1)]


def test_an_end_of_the_gateway_is_noticed(stand: Stand) -> None:
    stand.theirs.close()
    while not stand.lost:
        stand.turn()
    assert stand.lost == ["it ended"]


def test_a_gateway_that_answers_is_kept_and_one_that_hangs_is_lost() -> None:
    stand = Stand(patience=0.3)
    pings = 0
    while pings < 4:
        stand.turn(0.02)
        stand.theirs.setblocking(False)
        for record in stand.gateway.receive():
            assert isinstance(record, Ping)
            pings += 1
            stand.gateway.send(Alive())
    assert stand.lost == []
    while not stand.lost:
        stand.turn(0.02)
    assert stand.lost == ["it has not answered for 0 s"]
    stand.close()
