"""What every reporter must do, third parties' too."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from limpet import plugins
from limpet.filling import fill
from support import reports
from support.broker import free_port

if TYPE_CHECKING:
    from pathlib import Path

MINIMAL: dict[str, dict[str, Any]] = {
    "mqtt": {"url": f"mqtt://127.0.0.1:{free_port()}"},  # nobody listens there
    "jsonl": {"path": "out.jsonl"},
}
REPORTERS = plugins.names("reporters")


def settings(kind: str, directory: Path) -> Any:
    problems: list[str] = []
    filled = fill(plugins.load("reporters", kind).Config, MINIMAL[kind], kind, directory, problems)
    assert not problems
    return filled


@pytest.fixture(params=REPORTERS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_reporters_are_there() -> None:
    assert {"mqtt", "jsonl"} <= set(REPORTERS)


def test_it_says_what_it_is(kind: str) -> None:
    module = plugins.load("reporters", kind)
    assert inspect.getdoc(module)
    assert inspect.getdoc(module.Config)
    assert issubclass(module.Config, msgspec.Struct)
    assert module.Config.__struct_config__.forbid_unknown_fields


def test_it_takes_every_kind_of_message_and_what_cannot_be_written(kind: str, tmp_path: Path) -> None:
    with reports.opened(plugins.load("reporters", kind), settings(kind, tmp_path), tmp_path) as reporter:
        for message in [*reports.one_of_each(), reports.result(output=object())]:
            reporter.report(message)
        assert msgspec.json.encode(reporter.health())


def test_many_messages_at_once_are_taken_while_the_destination_is_away(kind: str, tmp_path: Path) -> None:
    with reports.opened(plugins.load("reporters", kind), settings(kind, tmp_path), tmp_path) as reporter:
        for message in reports.results(30_000):
            reporter.report(message)


def test_it_reads_and_commits_everything_before_it_is_closed(kind: str, tmp_path: Path) -> None:
    with reports.opened(plugins.load("reporters", kind), settings(kind, tmp_path), tmp_path) as reporter:
        for message in [*reports.one_of_each(), *reports.results(2000)]:
            reporter.report(message)
    assert (reporter.cursor.uncommitted, reporter.cursor.missed) == (0, 0)


def test_it_can_be_opened_again_after_it_was_closed(kind: str, tmp_path: Path) -> None:
    for _ in range(2):
        with reports.opened(plugins.load("reporters", kind), settings(kind, tmp_path), tmp_path) as reporter:
            reporter.report(reports.event())


def test_it_brings_no_numpy_into_the_supervisor(kind: str) -> None:
    code = (
        f"import sys; from limpet import plugins; plugins.load('reporters', {kind!r});"
        "print('numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"
