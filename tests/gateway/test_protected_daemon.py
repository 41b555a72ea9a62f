"""A real daemon with a token: who may do what, and what its gateway can."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from limpet.gateway.access import tokens
from support.api_daemon import ApiDaemon, api_daemon
from support.broker import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET, ENTRY = tokens.new("anna")
TOKEN = {"Authorization": f"Bearer {SECRET}"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiDaemon]:
    folder = tmp_path_factory.mktemp("api")
    (folder / "tokens").write_text(f"{ENTRY.name} {ENTRY.sha256}\n")
    commands = 'commands = ["ping", "restart"]'
    with api_daemon(folder, api='token_file = "tokens"', commands=commands) as started:
        yield started


def test_the_gateway_is_in_its_sandbox_before_it_answers(running: ApiDaemon) -> None:
    assert running.request("/v2/health/live").status == 200
    status = Path(f"/proc/{running.gateway_pid}/status").read_text().splitlines()
    assert {"NoNewPrivs:\t1", "Seccomp:\t2"} <= set(status)


def test_over_tcp_nothing_is_open_but_health_and_the_page(running: ApiDaemon) -> None:
    paths = ("/api/device", "/api/pipelines", "/api/events", "/api/stream", "/metrics", "/openapi.json", "/v2")
    paths += ("/v2/models/motion", "/v2/repository/index", "/api/log", "/api/commands/ping", "/nothing")
    assert {path: running.request(path).status for path in paths} == dict.fromkeys(paths, 401)
    assert running.request("/v2/health/live").status == 200
    assert running.request("/api/device", headers=TOKEN).status == 200


def test_a_command_is_obeyed_and_the_journal_says_who_sent_it(running: ApiDaemon) -> None:
    answer = running.request("/api/commands/ping", "POST", headers=TOKEN)
    assert (answer.status, answer.json["ok"], answer.json["device"]) == (200, True, "press-07")
    body = json.dumps({"pipeline": "motion"}).encode()
    assert running.request("/api/commands/restart", "POST", body, TOKEN).json["ok"]
    journal = running.folder / "state" / "audit.jsonl"
    wait_until(lambda: journal.exists() and "anna at 127.0.0.1, local API" in journal.read_text())


def test_a_command_that_fails_or_is_not_allowed_has_an_error_status(running: ApiDaemon) -> None:
    failed = running.request("/api/commands/restart", "POST", b'{"pipeline": "none"}', TOKEN)
    assert failed.status == 409
    assert "none" in failed.json["error"]
    unknown = running.request("/api/commands/threshold", "POST", b"{}", TOKEN)
    assert unknown.status == 404
    assert "`commands` in [device]" in unknown.json["error"]
    large = running.request("/api/commands/ping", "POST", bytes(3_000_000), TOKEN)
    assert large.status == 413


def test_a_browser_exchanges_the_token_for_a_session_and_ends_it(running: ApiDaemon) -> None:
    before = running.request("/api/session").json
    assert (before["view"], before["login"], before["commands"], before["device"]) == (False, True, [], "")
    refused = running.request("/api/login", "POST", b'{"token": "wrong"}')
    assert (refused.status, refused.json["error"]) == (403, "this token is not valid")
    login = running.request("/api/login", "POST", json.dumps({"token": SECRET}).encode())
    cookie = login.headers["set-cookie"]
    assert login.status == 204
    assert {"HttpOnly", "Path=/", "SameSite=strict"} <= set(cookie.split("; "))
    session = {"Cookie": cookie.partition(";")[0]}
    after = running.request("/api/session", headers=session).json
    assert (after["control"], after["logged_in"], after["commands"]) == (True, True, ["ping", "restart"])
    assert running.request("/api/commands/ping", "POST", headers=session).status == 200
    foreign = {**session, "Origin": "http://evil.example"}
    assert running.request("/api/commands/ping", "POST", headers=foreign).status == 403
    assert running.request("/api/logout", "POST", b"{}", session).status == 204
    assert running.request("/api/device", headers=session).status == 401


def test_a_login_that_is_no_json_or_too_large_is_refused(running: ApiDaemon) -> None:
    assert running.request("/api/login", "POST", b"\xff{").status == 400
    assert running.request("/api/login", "POST", b'{"token": 3}').status == 400
    assert running.request("/api/login", "POST", bytes(5000)).status == 413


def test_the_unix_socket_needs_no_token_and_is_closed_to_others(running: ApiDaemon) -> None:
    assert running.request("/api/session", unix=True).json["control"]
    assert running.socket.stat().st_mode & 0o777 == 0o660
