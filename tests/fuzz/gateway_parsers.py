"""What the gateway sends to the supervisor, what it reads of the daemon's stream, and log lines of any process."""

from __future__ import annotations

import contextlib
import selectors
import socket
from typing import TYPE_CHECKING, Any

import msgspec

from fuzz.registry import Prepared, parser
from limpet.contracts.messages import InputMessage
from limpet.device import log_socket
from limpet.errors import UnreadableError
from limpet.gateway import feed
from limpet.supervision.gateway_line import GatewayLine
from limpet.supervision.health import now
from limpet.supervision.log_lines import level_name
from limpet.wire.border import cleaned
from limpet.wire.gateway_records import (
    Alive,
    FromGateway,
    GetPicture,
    GetRecent,
    Listening,
    Load,
    Obey,
    OpenModel,
    Watch,
)

if TYPE_CHECKING:
    from pathlib import Path


def _framed(record: Any) -> bytes:
    payload = msgspec.msgpack.encode(record)
    return len(payload).to_bytes(4, "little") + payload


@parser("records of the gateway")
def _records(_: Path) -> Prepared:
    records = [
        Listening(["127.0.0.1:7470"]),
        Listening(problem="no"),
        Alive(),
        Watch(1),
        GetRecent(2, "motion", 20),
        GetPicture(3, "motion"),
        OpenModel(4, "mobilenet", 3),
        Load(5, "mobilenet"),
        Obey(6, "restart", b'{"pipeline": "motion"}', "anna"),
    ]

    def take(data: bytes) -> None:
        ours, theirs = socket.socketpair()
        heard: list[FromGateway] = []
        lost: list[str] = []
        with theirs, selectors.PollSelector() as selector:
            line = GatewayLine(ours, selector, heard.append, lost.append)
            theirs.sendall(data[:60_000])
            theirs.shutdown(socket.SHUT_WR)
            while not lost and (ready := selector.select(0)):
                for key, _events in ready:
                    key.data()
            line.close()
        assert len(lost) <= 1
        assert all(text.isprintable() for text in lost)

    return Prepared([*map(_framed, records), b"".join(map(_framed, records))], take)


@parser("lines of the daemon's stream")
def _lines(_: Path) -> Prepared:
    inputs = InputMessage(
        device="d", source="s", pipelines=["p"], time=now(), rate=1.0, shape=[1], channels=["x"], values=[[1.0]]
    )
    corpus = [
        msgspec.json.encode({"topic": "input/s", "message": inputs}),
        b'{"topic":"result/p","message":{"device":"d"}}\n',
        b'{"missed":12}\n',
    ]

    def take(data: bytes) -> None:
        item = feed.parse(data)
        assert item.missed or item.topic

    return Prepared(corpus, take)


@parser("log lines")
def _log_lines(_: Path) -> Prepared:
    def take(data: bytes) -> None:
        reader, writer = log_socket.pair()
        with reader, writer:
            writer.send(data[:60_000])
            with contextlib.suppress(UnreadableError):
                line = log_socket.receive(reader)
                assert line is not None
                level_name(line.level)
                assert cleaned(line.text).isprintable()

    return Prepared([b"20\nlimpet.part\nit runs", b"40\nlimpet\n" + "ü".encode() * 100], take)
