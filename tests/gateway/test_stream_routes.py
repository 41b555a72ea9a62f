"""Streams have the same messages over server-sent events and WebSocket, filtered as the client asks."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.contracts.api import Kind
from limpet.gateway.api.streams import StreamQuery, filter_of
from limpet.gateway.feed import Item
from support.api_daemon import ApiDaemon, api_daemon
from support.streams import events, websocket

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

KINDS: tuple[Kind, ...] = get_args(Kind)
SECOND = """
[sources.other]
kind = "replay"
path = "recording.csv"
rate = 20
loop = true

[pipelines.second]
source = "other"
model = "dense.tflite"
decoder = { kind = "regress" }
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiDaemon]:
    with api_daemon(tmp_path_factory.mktemp("api"), rate=20, more=SECOND) as started:
        yield started


def until(messages: Iterable[dict[str, Any]], *wanted: str) -> list[dict[str, Any]]:
    """Return messages up to the one with which all wanted topics have come."""
    found, missing = [], set(wanted)
    for message in messages:
        found.append(message)
        missing.discard(message.get("topic", ""))
        if not missing:
            return found
    raise AssertionError(f"the stream ended without {missing}")


@pytest.mark.parametrize("unix", [False, True])
def test_a_stream_begins_with_the_status_and_has_all_kinds_but_the_log(running: ApiDaemon, *, unix: bool) -> None:
    topics = ["health", "health/motion", "model/motion/reported", "input/imu", "result/motion", "result/second"]
    with events(running, unix=unix) as messages:
        found = until(messages, *topics)
    assert found[0]["topic"] == "status"
    assert not [each for each in found if each["topic"] == "log"]
    result = next(each["message"] for each in found if each["topic"] == "result/motion")
    assert (result["device"], result["pipeline"], len(result["output"]["values"])) == ("press-07", "motion", 3)


def test_a_websocket_has_the_same_messages(running: ApiDaemon) -> None:
    with websocket(running) as socket:
        assert until(socket, "health/second", "input/imu", "result/motion")[0]["topic"] == "status"


def test_results_of_one_pipeline_are_all_that_comes_if_nothing_else_is_wanted(running: ApiDaemon) -> None:
    query = "kind=result&pipeline=second"
    with events(running, query) as messages, websocket(running, query) as socket:
        found, also = list(islice(messages, 6)), list(islice(socket, 6))
    assert {each["topic"] for each in [*found, *also]} == {"result/second"}
    sequences = [each["message"]["sequence"] for each in found]
    assert sequences == list(range(sequences[0], sequences[0] + 6))


def test_messages_of_a_pipeline_include_the_input_of_its_source(running: ApiDaemon) -> None:
    with events(running, "pipeline=second") as messages:
        found = until(messages, "health/second", "model/second/reported", "input/other", "result/second")
    assert not {each["topic"] for each in found} & {"health", "health/motion", "input/imu", "result/motion"}


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("kind=other", 400, 'query.kind[0] is "other"; use "'),
        ("pipeline=other", 404, "the pipelines are: motion, second"),
        ("pipeline=motion&pipeline=..", 404, "the pipelines are: motion, second"),
        ("pipelines=motion", 400, "pipelines"),
        ("kind=log", 403, "control"),
    ],
)
def test_a_stream_that_is_not_possible_is_refused(running: ApiDaemon, query: str, status: int, words: str) -> None:
    answer = running.request(f"/api/stream?{query}")
    assert answer.status == status
    assert words in answer.json["error"]
    with websocket(running, query) as socket:
        assert socket.status == status


def test_a_client_that_sends_a_message_over_websocket_is_disconnected(running: ApiDaemon) -> None:
    with websocket(running, "kind=status") as socket:
        assert next(iter(socket))["topic"] == "status"
        socket.send("{}")
        assert list(socket) == []
        assert socket.code == 1008


@pytest.mark.parametrize(
    ("host", "headers"),
    [("evil.example", {}), ("localhost", {"Origin": "http://evil.example"}), ("localhost", {"Origin": "null"})],
)
def test_a_page_of_another_site_gets_no_websocket(running: ApiDaemon, host: str, headers: dict[str, str]) -> None:
    with websocket(running, host=host, headers=headers) as socket:
        assert socket.status == 403


def test_a_page_of_the_device_gets_a_websocket(running: ApiDaemon) -> None:
    host = f"127.0.0.1:{running.port}"
    with websocket(running, host=host, headers={"Origin": f"http://{host}"}) as socket:
        assert next(iter(socket))["topic"] == "status"


_ITEMS = st.builds(
    Item,
    st.sampled_from(KINDS),
    st.just("topic"),
    st.just(b"{}"),
    st.lists(st.sampled_from("abc"), max_size=2).map(tuple),
)


@given(st.lists(st.sampled_from("abc")), st.lists(st.sampled_from(KINDS)), _ITEMS)
def test_a_filter_takes_what_is_named_and_the_log_only_by_name(
    pipelines: list[str], kinds: list[Kind], item: Item
) -> None:
    wanted = filter_of(StreamQuery(pipelines, kinds))(item)
    assert wanted == (
        (item.kind in kinds or (not kinds and item.kind != "log"))
        and (not pipelines or any(name in pipelines for name in item.pipelines))
    )
