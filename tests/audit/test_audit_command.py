"""``limpet audit``: what it prints, and what it says of a journal that is not whole."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import pytest

from limpet import cli
from limpet.audit import file as journal_file
from limpet.audit.entry import NOTHING, Entry, What, Who, encode, hash_of
from limpet.audit.journal import Journal

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A journal with a line from before the clock was set, and one of each of two days."""
    prev, data = NOTHING, b""
    times = [datetime(1970, 1, 1, 0, 0, 9), datetime(2026, 11, 27, 8), datetime(2026, 11, 28, 8)]  # noqa: DTZ001
    for number, time in enumerate(times, 1):
        entry = Entry(
            seq=number,
            prev=prev,
            time=time.replace(tzinfo=timezone.utc),
            event="installed",
            clock="unsynchronised" if time.year == 1970 else None,
            pipeline="press",
            who=Who(keys=("0123456789abcdef",)),
            what=What(model="motion", version=number, sha256="a" * 64, reason="\x1b[2Jsigned"),
        )
        prev = hash_of(encode(entry))
        data += encode(entry) + b"\n"
    (tmp_path / journal_file.NAME).write_bytes(data)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    status = cli.main([str(argument) for argument in ("audit", *arguments)])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_each_line_is_a_sentence_that_a_terminal_can_only_show(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = run(capsys, "show", "--state", state)
    assert status == 0
    assert out.splitlines()[0].startswith(
        "1970-01-01 00:00:09 (clock not set)  1  press: installed; motion 1; SHA-256 "
    )
    assert "signed by 0123456789abcdef" in out
    assert "\x1b" not in out


def test_since_leaves_out_what_was_before_and_keeps_what_has_no_time(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = run(capsys, "show", "--json", "--since", "2026-11-28", "--state", state)
    assert [json.loads(line)["seq"] for line in out.splitlines()] == [1, 3]
    status, _, err = run(capsys, "show", "--since", "yesterday", "--state", state)
    assert (status, "2026-11-28T12:30" in err) == (2, True)


def test_what_is_wrong_is_said_with_its_line(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = state / journal_file.NAME
    whole = path.read_bytes()
    assert run(capsys, "verify", "--state", state)[0] == 0
    path.write_bytes(whole.replace(b'"version":2', b'"version":7'))
    status, _, err = run(capsys, "verify", "--state", state)
    assert (status, "line 3 of the file: it does not have the hash of line 2" in err) == (1, True)
    path.write_bytes(whole[:-5])
    status, _, err = run(capsys, "verify", "--state", state)
    assert (status, "behind the last line are no line" in err) == (1, True)
    path.write_bytes(b"")
    assert run(capsys, "verify", "--state", state)[0] == 1
    path.unlink()
    status, _, err = run(capsys, "verify", "--state", state)
    assert (status, f"there is no {path}" in err) == (1, True)


def test_the_head_that_the_daemon_published_is_compared_without_an_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = Journal(tmp_path)
    for _ in range(3):
        journal.record("start")
    journal.tend()
    journal.published()
    path = tmp_path / journal_file.NAME
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    status, _, err = run(capsys, "verify", "--state", tmp_path)
    assert (status, "it ends at number 2, and number 3 was published" in err) == (1, True)


def test_a_head_that_is_none_is_refused(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "verify", "--head", "7:abc", "--state", state)[0] == 1
