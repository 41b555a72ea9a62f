from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.client import RefusedError, UnavailableError, stream
from limpet.client.http import Collector, Conversation, End, Request, Response
from limpet.client.refusals import refusal
from limpet.errors import LimpetError

GET = Request("GET", "/api/device")
EVENT = {
    "topic": "event/press",
    "message": {
        "device": "d",
        "boot": "b",
        "time": "2026-01-01T00:00:00Z",
        "event": "started",
        "pipeline": "press",
    },
}
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def line(message: object) -> bytes:
    return b"data: " + json.dumps(message).encode() + b"\n\n"


def answered(*parts: bytes) -> tuple[Response | None, Collector]:
    conversation, collector = Conversation(), Collector()
    conversation.send(GET)
    response = None
    for part in parts:
        response = collector.add(conversation.take(part))
    return response, collector


def subscribed(*parts: bytes) -> stream.Reader[object]:
    reader: stream.Reader[object] = stream.Reader(stream.events(["press"]))
    reader.begin()
    for part in parts:
        reader.feed(part)
    return reader


def test_a_request_has_its_body_in_one_piece_if_that_is_small() -> None:
    sent = Conversation().send(Request("POST", "/x", (), (b"ab", memoryview(b"cd"))))
    assert len(sent) == 1
    assert bytes(sent[0]).endswith(b"Content-Length: 4\r\n\r\nabcd")


def test_large_parts_are_sent_without_a_copy() -> None:
    large = memoryview(bytes(1 << 20))
    sent = Conversation().send(Request("POST", "/x", (), (b"ab", large)))
    assert [len(part) for part in sent[1:]] == [2, 1 << 20]
    assert sent[2] is large


def test_an_answer_may_come_in_any_pieces() -> None:
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-One: two\r\n\r\nhello"
    response, collector = answered(*(whole[at : at + 3] for at in range(0, len(whole), 3)))
    assert response == Response(200, {"content-length": "5", "x-one": "two"}, bytearray(b"hello"))
    assert isinstance(collector.end, End)
    assert collector.end.reusable


def test_a_connection_that_ends_too_early_is_no_answer() -> None:
    for parts in ([b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", b""], [b""]):
        with pytest.raises(UnavailableError, match="closed"):
            answered(*parts)


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_whatever_the_other_end_sends_is_an_answer_or_one_kind_of_error(parts: list[bytes]) -> None:
    try:
        answered(*parts)
    except LimpetError:
        return


@given(st.binary(max_size=300), st.sampled_from([100, 400, 404, 500, 999]))
def test_the_reason_of_a_refusal_may_be_anything(body: bytes, status: int) -> None:
    error = refusal(Response(status, {}, body))
    assert isinstance(error, RefusedError)
    assert error.status == status
    assert str(error).isprintable()


def test_messages_come_once_their_line_is_complete() -> None:
    data = line(EVENT)
    reader = subscribed(HEAD, chunk(data[:20]))
    assert reader.begun
    assert reader.take() is None
    reader.feed(chunk(data[20:] + b":\n\nevent: pulse\ndata:\n\n" + line({"missed": 7})))
    message = reader.take()
    assert message is not None
    assert reader.take() is None
    assert reader.missed == 7


def test_messages_that_came_before_the_end_are_not_lost() -> None:
    reader = subscribed(HEAD + chunk(line(EVENT)) + b"0\r\n\r\n")
    assert reader.take() is not None
    with pytest.raises(UnavailableError, match="ended the stream"):
        reader.take()


def test_a_refused_subscription_says_why() -> None:
    body = b'{"error": "no pipeline is called press"}'
    reader = subscribed(b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    with pytest.raises(RefusedError, match="no pipeline is called press"):
        assert reader.begun


@given(st.binary(max_size=200))
def test_a_damaged_message_ends_the_stream_with_one_kind_of_error(data: bytes) -> None:
    reader = subscribed(HEAD, chunk(b"data: " + data.replace(b"\n", b"") + b"\n\n"))
    try:
        reader.take()
    except LimpetError:
        return
