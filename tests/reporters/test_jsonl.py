"""The jsonl reporter on real files and pipes."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from limpet.delivery.bus import Bus
from limpet.errors import ConfigError
from limpet.reporters import jsonl
from support import reports
from support.broker import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_message_is_a_line_with_its_type(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text('{"type":"before"}\n')
    with reports.opened(jsonl, jsonl.Config(path=path), tmp_path) as reporter:
        for message in reports.one_of_each():
            reporter.report(message)
    assert [line["type"] for line in lines(path)] == [
        "before", "result", "event", "event", "health", "pipeline-health", "model-reported",
    ]  # fmt: skip
    assert lines(path)[1]["output"] == {"label": "idle", "score": 0.93}
    assert reporter.health()["written"] == 6


def test_a_dash_is_standard_output() -> None:
    code = (
        "from pathlib import Path; from support import reports; from limpet.reporters import jsonl\n"
        "opened = reports.opened(jsonl, jsonl.Config(path=Path('/x/-')), Path())\n"
        "with opened as reporter: reporter.report(reports.event())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    assert json.loads(done.stdout)["event"] == "degraded"


def test_a_file_that_cannot_be_opened_is_a_config_error(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match=r"^path: .*No such file"),
        reports.opened(jsonl, jsonl.Config(path=tmp_path / "absent" / "out"), tmp_path),
    ):
        pass


READ_ONLY = """
import subprocess, sys
from pathlib import Path
from limpet.reporters import jsonl
from support import reports
from support.broker import wait_until
directory = Path(sys.argv[1])
def mount(*options): subprocess.run(["mount", "-t", "tmpfs", "-o", *options, "none", directory], check=True)
mount("ro")
config = jsonl.Config(path=directory / "out", flush_age=0)
with reports.opened(jsonl, config, directory) as reporter:
    for count in (1, 2, 3):
        reporter.report(reports.result(count))
        wait_until(lambda: reporter.health()["failed"] == count)
    health = reporter.health()
    assert (health["written"], "Read-only" in health["last_error"]) == (0, True), health
    mount("remount,rw")
    reporter.report(reports.result(4))
    wait_until(lambda: reporter.health()["written"] == 1)
    assert reporter.health()["last_error"] == ""
assert (directory / "out").read_bytes().count(b"\\n") == 1
"""


def test_a_disk_that_is_read_only_for_a_while_ends_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        ["unshare", "-Urm", sys.executable, "-c", READ_ONLY, tmp_path],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    assert done.returncode == 0, done.stderr


def test_a_reader_that_does_not_read_costs_the_oldest_lines_only(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    config = jsonl.Config(path=pipe, flush_age=0)
    with reports.opened(jsonl, config, tmp_path, bus=Bus(most_messages=500)) as reporter:
        reporter.report(reports.result(0))
        wait_until(lambda: reporter.health()["written"])
        for message in reports.results(5000):
            reporter.report(message)
            # The pipe holds 64 KiB, a few hundred lines, and the thread what it read at once.
        assert reporter.health()["missed"] > 1000
        os.set_blocking(reader, True)
        text = b""
        while text.count(b"\n") < 5001 - reporter.health()["missed"]:
            text += os.read(reader, 65536)
    os.close(reader)
    found = [json.loads(line) for line in text.splitlines()]
    assert found[-1]["sequence"] == 4999
    assert len(found) == reporter.health()["written"] == 5001 - reporter.health()["missed"]


@contextmanager
def small_files(most: int) -> Iterator[None]:
    """Let no file of this process, its output included, grow beyond so many bytes, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_failing_write_is_counted_and_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "out.jsonl"
    config = jsonl.Config(path=path, flush_age=0)
    with small_files(10_000), reports.opened(jsonl, config, tmp_path) as reporter:
        for sequence in range(100):
            reporter.report(reports.result(sequence))
        wait_until(lambda: reporter.health()["failed"])
        reporter.report(reports.result(100))
        health = reporter.health
        wait_until(lambda: health()["written"] + health()["failed"] == 101)
        path.write_text("")
        reporter.report(reports.result(101))
    assert path.stat().st_size < 10_000
    whole = [line for line in path.read_text().splitlines() if line]
    assert [json.loads(line)["sequence"] for line in whole] == [101]
    assert len([r for r in caplog.records if "File too large" in r.getMessage()]) == 1
    assert health()["failed"] > 50


def test_a_large_file_makes_room_for_another_and_the_one_before_goes(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    config = jsonl.Config(path=path, flush_age=0, max_bytes=4096)
    with reports.opened(jsonl, config, tmp_path) as reporter:
        for sequence in range(100):
            reporter.report(reports.result(sequence))
            wait_until(lambda: reporter.health()["written"] > sequence)  # noqa: B023 - called before the next turn
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out.jsonl", "out.jsonl.1"]
    assert 4096 <= (tmp_path / "out.jsonl.1").stat().st_size < 8192
    kept = [line["sequence"] for line in lines(tmp_path / "out.jsonl.1") + lines(path)]
    assert kept == list(range(kept[0], 100))
    assert kept[0] > 0


def test_a_file_that_somebody_else_moved_away_or_deleted_is_begun_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "folder" / "out.jsonl"
    path.parent.mkdir()
    with reports.opened(jsonl, jsonl.Config(path=path, flush_age=0), tmp_path) as reporter:

        def report(sequence: int) -> None:
            reporter.report(reports.result(sequence))
            wait_until(lambda: reporter.health()["written"] == sequence + 1)

        report(0)
        path.rename(tmp_path / "moved")
        report(1)
        path.unlink()
        report(2)
        path.parent.rename(tmp_path / "away")
        for sequence in range(3, 6):
            report(sequence)
        assert "lines still go to the file that had this name" in reporter.health()["last_error"]
        path.parent.mkdir()
        report(6)
        wait_until(lambda: not reporter.health()["last_error"])
    files = tmp_path / "moved", tmp_path / "away" / "out.jsonl", path
    assert [[line["sequence"] for line in lines(file)] for file in files] == [[0], [2, 3, 4, 5], [6]]
    assert len([r for r in caplog.records if "No such file" in r.getMessage()]) == 1


def test_a_file_that_cannot_be_replaced_grows_and_that_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "out.jsonl"
    (tmp_path / "out.jsonl.1").mkdir()
    config = jsonl.Config(path=path, flush_age=0, max_bytes=4096)
    with reports.opened(jsonl, config, tmp_path) as reporter:
        for sequence in range(100):
            reporter.report(reports.result(sequence))
            wait_until(lambda: reporter.health()["written"] > sequence)  # noqa: B023 - called before the next turn
    assert [line["sequence"] for line in lines(path)] == list(range(100))
    assert len([r for r in caplog.records if "cannot be replaced" in r.getMessage()]) == 1


def test_a_link_is_refused_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    (tmp_path / "out").symlink_to(tmp_path / "precious")
    opened = reports.opened(jsonl, jsonl.Config(path=tmp_path / "out"), tmp_path)
    with pytest.raises(ConfigError, match=r"^path: .*out: is a symbolic link; name the file"), opened:
        pass
    assert (tmp_path / "precious").read_text() == "x"


def test_a_link_that_comes_at_a_rotation_is_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "out"
    (tmp_path / "precious").write_text("x")
    path.write_text(" " * 4096 + "\n")
    with reports.opened(jsonl, jsonl.Config(path=path, flush_age=0, max_bytes=4096), tmp_path) as reporter:
        path.rename(tmp_path / "moved")
        path.symlink_to(tmp_path / "precious")
        reporter.report(reports.result(0))
        wait_until(lambda: "symbolic link" in reporter.health()["last_error"] or reporter.health()["last_error"])
    assert (tmp_path / "precious").read_text() == "x"
    assert path.is_symlink()


def test_a_fifo_that_nobody_reads_holds_up_nothing_and_its_next_reader_gets_lines(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    config = jsonl.Config(path=pipe, flush_age=0)
    with reports.opened(jsonl, config, tmp_path) as reporter:
        for count in range(1, 4):
            reporter.report(reports.result(count))
            wait_until(lambda: reporter.health()["failed"] == count)  # noqa: B023 - called before the next turn
        assert "nothing reads from this FIFO" in reporter.health()["last_error"]
        for written in (1, 2):
            reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
            reporter.report(reports.result(10))
            wait_until(lambda: reporter.health()["written"] == written)  # noqa: B023
            assert json.loads(os.read(reader, 65536))["sequence"] == 10
            os.close(reader)
            failed = reporter.health()["failed"]
            reporter.report(reports.result(11))
            wait_until(lambda: reporter.health()["failed"] > failed)  # noqa: B023
    assert reporter.health()["failed"] == 5


def test_a_directory_is_refused(tmp_path: Path) -> None:
    opened = reports.opened(jsonl, jsonl.Config(path=tmp_path), tmp_path)
    with pytest.raises(ConfigError, match="Is a directory"), opened:
        pass
