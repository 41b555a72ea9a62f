"""Streams of the local API over a longer time: clients that are slow, quiet or many. Run by ``make api``."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import time
from contextlib import ExitStack
from itertools import islice
from typing import TYPE_CHECKING

from support.api_daemon import api_daemon
from support.broker import wait_until
from support.streams import events, websocket

if TYPE_CHECKING:
    from pathlib import Path

    from support.api_daemon import ApiDaemon

SLOW = 12
"""Seconds that a client does not read, or that nothing comes: more than a request may take."""
MANY = 60
TOKEN = "of-the-tester"  # noqa: S105 - of a daemon that the test starts


def results(served: ApiDaemon) -> int:
    found: int = served.request("/api/pipelines/motion").json["health"]["results"]
    return found


def test_a_client_that_is_slow_misses_messages_and_nobody_else_does(tmp_path: Path) -> None:
    with api_daemon(tmp_path, rate=2000) as served, socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.settimeout(30)
        slow.connect(("127.0.0.1", served.port))
        slow.sendall(b"GET /api/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        before = results(served)
        with events(served, "kind=event&kind=health") as messages:
            until = time.monotonic() + SLOW
            for message in messages:
                assert "missed" not in message
                if time.monotonic() > until:
                    break
        assert results(served) > before
        lines = iter(slow.makefile("rb"))
        missed = next(json.loads(line[6:]) for line in lines if line.startswith(b'data: {"missed"'))
        assert missed["missed"] > 0
        topics = (json.loads(line[6:])["topic"] for line in lines if line.startswith(b'data: {"topic"'))
        assert "health/motion" in islice(topics, 5000)


def test_a_stream_goes_on_for_longer_than_a_request_may_take(tmp_path: Path) -> None:
    with (
        api_daemon(tmp_path, rate=20) as served,
        websocket(served, "kind=health&pipeline=motion") as watched,
        events(served, "kind=health&pipeline=motion") as also,
    ):
        until = time.monotonic() + SLOW
        for stream in (watched, also):
            for message in stream:
                assert message["topic"] == "health/motion"
                if time.monotonic() > until:
                    break
        assert time.monotonic() > until
        assert watched.code == 0


def test_streams_of_a_browser_end_with_its_session(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(f"tester {hashlib.sha256(TOKEN.encode()).hexdigest()}\n")
    with api_daemon(tmp_path, api='token_file = "tokens"') as served:
        login = served.request("/api/login", "POST", json.dumps({"token": TOKEN}).encode())
        cookie = {"Cookie": login.headers["set-cookie"].partition(";")[0]}
        with (
            events(served, "kind=log&kind=health", headers=cookie) as messages,
            websocket(served, headers=cookie) as watched,
        ):
            assert next(messages)
            assert served.request("/api/logout", "POST", headers=cookie).status == 204
            assert list(messages)
            assert list(watched)
            assert watched.code == 1008


def test_a_quiet_stream_has_pulses(tmp_path: Path) -> None:
    with api_daemon(tmp_path) as served, socket.create_connection(("127.0.0.1", served.port), 40) as client:
        client.sendall(b"GET /api/stream?kind=status HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert any(line == b"event: pulse\n" for line in client.makefile("rb"))


def test_many_clients_get_the_same_results(tmp_path: Path) -> None:
    with api_daemon(tmp_path, rate=50) as served, ExitStack() as stack:
        streams = [stack.enter_context(events(served, "kind=result")) for _ in range(MANY)]
        found: list[list[int]] = [[] for _ in streams]

        def read(at: int) -> None:
            found[at] = [message["message"]["sequence"] for message in islice(streams[at], 50)]

        threads = [threading.Thread(target=read, args=(at,)) for at in range(MANY)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for sequences in found:
            assert sequences == list(range(sequences[0], sequences[0] + 50))
        wait_until(lambda: results(served) > max(map(max, found)))
