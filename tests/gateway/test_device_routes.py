"""Paths below ``/api`` describe the device and its pipelines, and say what is wrong with a request."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec
import pytest

import schemas
from limpet.contracts.api import PipelineView
from limpet.contracts.messages import DeviceHealth, EventMessage, LogMessage, ResultMessage
from limpet.gateway.api.openapi import document
from support.api_daemon import ApiDaemon, api_daemon
from support.broker import wait_until
from support.streams import events

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiDaemon]:
    commands = 'commands = ["ping", "threshold", "cancel"]'
    with api_daemon(tmp_path_factory.mktemp("api"), api="load = true", commands=commands) as started:
        yield started


def test_the_device_has_its_health(running: ApiDaemon) -> None:
    health = msgspec.json.decode(running.request("/api/device").body, type=DeviceHealth)
    assert list(health.pipelines) == ["motion"]


def test_a_pipeline_has_its_health_and_its_model(running: ApiDaemon) -> None:
    views = msgspec.json.decode(running.request("/api/pipelines").body, type=list[PipelineView])
    view = msgspec.json.decode(running.request("/api/pipelines/motion").body, type=PipelineView)
    assert [each.health.pipeline for each in views] == [view.health.pipeline] == ["motion"]
    assert view.model is not None
    assert view.model.model == view.health.model


def test_the_last_results_of_a_pipeline_come_oldest_first(running: ApiDaemon) -> None:
    def last(count: int) -> list[ResultMessage]:
        answer = running.request(f"/api/pipelines/motion/results?last={count}")
        return msgspec.json.decode(answer.body, type=list[ResultMessage])

    wait_until(lambda: len(last(3)) == 3)
    sequences = [result.sequence for result in last(3)]
    assert sequences == list(range(sequences[0], sequences[0] + 3))


def test_the_last_events_come_oldest_first_with_and_without_a_stream_beside_them(running: ApiDaemon) -> None:
    def last(count: int) -> list[tuple[str, str]]:
        answer = running.request(f"/api/events?last={count}")
        found = msgspec.json.decode(answer.body, type=list[EventMessage])
        return [(event.pipeline, event.event) for event in found]

    wait_until(lambda: ("motion", "running") in last(20))
    assert last(20).index(("motion", "starting")) < last(20).index(("motion", "running"))
    assert last(1) == last(20)[-1:]
    with events(running):
        assert last(1) == last(20)[-1:]


def test_the_log_has_lines_of_several_processes_and_is_for_those_who_control(running: ApiDaemon) -> None:
    def lines(last: int) -> list[LogMessage]:
        return msgspec.json.decode(running.request(f"/api/log?last={last}", unix=True).body, type=list[LogMessage])

    wait_until(lambda: any("motion: running" in line.text for line in lines(100)))
    assert len(lines(1)) == 1
    assert running.request("/api/log").status == 403
    with events(running, "kind=log", unix=True) as messages:
        assert next(messages)["topic"] == "log"


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/api/nothing", 404, "/openapi.json"),
        ("/api/pipelines/other", 404, "the pipelines are: motion"),
        ("/api/pipelines/other/results", 404, "no pipeline 'other'"),
        ("/api/pipelines/other/picture.jpg", 404, "no pipeline 'other'"),
        ("/api/pipelines/motion/picture.jpg", 404, "no picture"),
        ("/api/pipelines/%22%3c/results", 404, "no name of a pipeline"),
        ("/api/pipelines/%2e%2e%2fx", 404, "/openapi.json"),
        ("/api/pipelines/%22%3c", 404, "the pipelines are: motion"),
        ("/api/pipelines/%0a%22", 400, "cannot be printed"),
        ("/api/pipelines/motion/results?last=0", 400, "last"),
        ("/api/pipelines/motion/results?last=101", 400, "query.last is 101; use a whole number from 1 to 100"),
        ("/api/pipelines/motion/results?last=some", 400, 'query.last is "some"; use a whole'),
        ("/api/pipelines/motion/results?last=1&last=2", 400, "last"),
        ("/api/device?last=2", 400, "query.last: unknown key"),
    ],
)
def test_an_error_says_in_json_what_is_wrong(running: ApiDaemon, path: str, status: int, words: str) -> None:
    answer = running.request(path)
    assert (answer.status, answer.headers["content-type"]) == (status, "application/json")
    assert list(answer.json) == ["error"]
    assert words in answer.json["error"]


def test_another_method_is_refused_with_those_that_there_are(running: ApiDaemon) -> None:
    answer = running.request("/api/device", "DELETE")
    assert (answer.status, set(answer.headers["allow"].split(", "))) == (405, {"GET", "HEAD"})
    assert "error" in answer.json


@pytest.mark.parametrize(
    ("name", "payload", "status", "words"),
    [
        ("threshold", b'{"pipeline": "motion"}', 400, "value"),
        ("threshold", b"{", 400, "threshold"),
        ("cancel", b'{"pipeline": "motion"}', 409, "no update"),
        ("restart", b'{"pipeline": "motion"}', 404, "commands"),
    ],
)
def test_a_command_that_is_not_done_has_the_status_of_the_reason(
    running: ApiDaemon, name: str, payload: bytes, status: int, words: str
) -> None:
    answer = running.request(f"/api/commands/{name}", "POST", payload, unix=True)
    assert answer.status == status
    assert words in answer.json["error"]


def test_a_command_that_is_done_has_its_answer(running: ApiDaemon) -> None:
    answer = running.request("/api/commands/ping", "POST", unix=True)
    assert (answer.status, answer.json["ok"]) == (200, True)


@pytest.mark.parametrize("name", ["", ".", "x" * 100, "%ff", "a%20b"])
def test_a_name_that_no_model_can_have_is_not_found_and_harms_nobody(running: ApiDaemon, name: str) -> None:
    before = running.gateway_pid
    for path in ("", "/ready", "/versions/99999999999999999999"):
        assert running.request(f"/v2/models/{name}{path}", unix=True).status in {400, 404}
    for version in (-1, 2**31 + 1, 2**100):
        body = b'{"parameters": {"version": %d}}' % version
        assert running.request(f"/v2/repository/models/{name}/load", "POST", body, unix=True).status in {400, 404}
    assert running.gateway_pid == before


def test_a_running_device_serves_the_document(running: ApiDaemon) -> None:
    assert running.request("/openapi.json", unix=True).json == msgspec.json.decode(schemas.openapi_text())


def test_each_path_of_the_document_exists(running: ApiDaemon) -> None:
    for path, operations in document()["paths"].items():
        concrete = re.sub(r"\{\w+\}", "1", path)
        answer = running.request(concrete, "PATCH", unix=True)
        assert answer.status == 405, path
        allowed = set(answer.headers["allow"].lower().split(", ")) - {"head"}
        assert allowed == set(operations), path
