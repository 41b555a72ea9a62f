"""A real daemon whose main model fails, crashes or is slow: its backup takes over, and it comes back."""

from __future__ import annotations

import hashlib
import json
import signal
import threading
import time
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pytest

from daemon.test_swap import CONFIG, SINGLE, Lines, made, plain
from support import models
from support.broker import wait_until
from support.daemon import daemon
from support.ptys import Board

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IN_A_ROW = 10
"""Failed windows after which a pipeline is failed."""


class Numbers(threading.Thread):
    """A board that sends 0 to 99 in turn, 200 numbers a second. While ``bad`` is set, they are 1000 more."""

    def __init__(self, board: Board) -> None:
        super().__init__()
        self._board = board
        self._ended = threading.Event()
        self.bad = threading.Event()

    def run(self) -> None:
        sent, begin = 0, time.monotonic()
        while not self._ended.wait(0.005):
            due = int((time.monotonic() - begin) * 200)
            more = 1000 if self.bad.is_set() else 0
            self._board.send("".join(f"{n % 100 + more}\n" for n in range(sent, due)).encode())
            sent = max(sent, due)

    def stop(self) -> None:
        self._ended.set()
        self.join()


@contextmanager
def sending(board: Board) -> Iterator[Numbers]:
    board.wait_opened()
    numbers = Numbers(board)
    numbers.start()
    try:
        yield numbers
    finally:
        numbers.stop()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


@pytest.fixture
def lines(tmp_path: Path) -> Lines:
    return Lines(tmp_path / "lines.jsonl")


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    with Board(tmp_path / "line") as plugged:
        yield plugged


def configured(folder: Path, main: str, backup: str) -> Path:
    path = folder / "limpet.toml"
    text = SINGLE.format(model=main, options=f"backup = {{ {backup} }}")
    path.write_text(CONFIG.format(folder=folder) + text)
    return path


def turns(results: list[dict[str, Any]]) -> list[str]:
    """Return the models that gave results, in turn."""
    return [model for model, _ in groupby(one["model"] for one in results)]


def test_a_main_model_that_fails_gives_way_and_comes_back_and_no_result_is_lost_or_doubled(
    tmp_path: Path, store: Path, lines: Lines, board: Board
) -> None:
    main, small = made(store, "single", 1, models.limited), made(store, "small", 1, plain)
    path = configured(tmp_path, main, f'model = "models/{small}", retry_after = 0.5')
    with daemon(path) as running, sending(board) as numbers:
        lines.wait_results("single", 50)
        numbers.bad.set()
        reason = lines.wait_event("single", "backup")
        wait_until(lambda: turns(lines.results("single")) == ["single", "small"])
        wait_until(lambda: lines.health("single")["model"] == "small")
        health = lines.health("single")
        assert (health["state"], health["degraded"]) == ("running", True)
        assert "backup model: " in health["reason"]
        reported = [one for one in lines.read() if one["type"] == "model-reported"][-1]
        assert (reported["model"], reported["degraded"]) == ("small", True)
        refused = lines.wait_event("single", "swap_failed")  # it is tried again, and fails again
        lines.wait_event("single", "backup", 2)
        lines.wait_results("single", 20)
        numbers.bad.clear()
        wait_until(lambda: turns(lines.results("single"))[-1] == "single")
        lines.wait_results("single", 50)
        wait_until(lambda: not lines.health("single")["degraded"])
        assert running.stop() == 0
    assert reason.endswith("; runs small-1.limpet on cpu")
    assert refused.startswith("single 1 is not used, small 1 goes on")
    results = lines.results("single")
    assert turns(results) == ["single", "small", "single"]
    assert [one["sequence"] for one in results] == list(range(1, len(results) + 1))
    samples = [one["sample"] for one in results]
    assert samples == sorted(set(samples))
    assert {one["degraded"] for one in results if one["model"] == "small"} == {True}
    assert {one["degraded"] for one in results if one["model"] == "single"} == {False}
    failed = samples[-1] - samples[0] + 1 - len(samples)
    assert failed == lines.health("single")["errors"] >= IN_A_ROW  # every other window has its result
    assert len({one["sample"] - one["sequence"] for one in results}) == 2  # they were missing in one place
    assert {"degraded", "recovered"} <= {one["event"] for one in lines.read() if one["type"] == "event"}


def test_a_main_model_that_crashes_its_worker_too_often_gives_way(
    tmp_path: Path, store: Path, lines: Lines, board: Board
) -> None:
    crashing = made(store, "single", 1, lambda path: models.crashing(path, size=1))
    small = made(store, "small", 1, plain)
    path = configured(tmp_path, crashing, f'model = "models/{small}"')
    with daemon(path) as running, sending(board):
        reason = lines.wait_event("single", "backup")
        lines.wait_results("single", 20)
        assert running.stop() == 0
    assert "crashed too often" in reason
    assert turns(lines.results("single")) == ["small"]


def test_a_main_model_that_is_too_slow_gives_way_by_a_swap_that_loses_nothing(
    tmp_path: Path, store: Path, lines: Lines, board: Board
) -> None:
    main, small = made(store, "single", 1, models.limited), made(store, "small", 1, plain)
    backup = f'model = "models/{small}", slower_than_ms = 1e-6, windows = 50, retry_after = 600'
    with daemon(configured(tmp_path, main, backup)) as running, sending(board):
        reason = lines.wait_event("single", "backup")
        wait_until(lambda: turns(lines.results("single")) == ["single", "small"])
        lines.wait_results("single", 20)
        assert running.stop() == 0
    assert "ms in 95 % of" in reason
    assert "slower_than_ms is 1e-06" in reason
    samples = [one["sample"] for one in lines.results("single")]
    assert samples == list(range(samples[0], samples[0] + len(samples)))
    assert not lines.events("single", "failed")


def test_a_model_that_fails_on_trial_is_rolled_back_and_the_backup_stays_out(
    tmp_path: Path, store: Path, lines: Lines, board: Board
) -> None:
    main, small = made(store, "single", 1, plain), made(store, "small", 1, plain)
    data = (store / made(store, "single", 8, models.limited)).read_bytes()
    wanted = {"model": "single", "version": 8, "sha256": hashlib.sha256(data).hexdigest(), "length": len(data)}
    order = {"order": "update", "desired": {**wanted, "policy": {"trial_windows": 1_000_000}}}
    requests = tmp_path / "state" / "requests"
    requests.mkdir(parents=True)
    path = configured(tmp_path, main, f'model = "models/{small}"')
    with daemon(path) as running, sending(board) as numbers:
        lines.wait_results("single", 20)
        (requests / "single.limpet").write_bytes(data)
        (requests / "single.json").write_text(json.dumps(order))
        running.signal(signal.SIGHUP)
        wait_until(lambda: lines.results("single")[-1]["version"] == 8)
        numbers.bad.set()
        lines.wait_event("single", "update_rolled_back")
        wait_until(lambda: lines.results("single")[-1]["version"] == 1)
        lines.wait_results("single", 20)
        assert running.stop() == 0
    results = lines.results("single")
    assert [(model, version) for (model, version), _ in groupby((r["model"], r["version"]) for r in results)] == [
        ("single", 1),
        ("single", 8),
        ("single", 1),
    ]
    assert lines.events("single", "backup") == []
    journal = [json.loads(line) for line in (tmp_path / "state" / "audit.jsonl").read_bytes().splitlines()]
    noted = [(one["event"], one["what"].get("version")) for one in journal if one.get("pipeline") == "single"]
    assert [version for event, version in noted if event == "activated"] == [1, 8, 1]
    assert [event for event, _ in noted if event in {"update_wanted", "update_trial", "update_rolled_back"}] == [
        "update_wanted",
        "update_trial",
        "update_rolled_back",
    ]
    failed = results[-1]["sample"] - results[0]["sample"] + 1 - len(results)
    assert failed == lines.health("single")["errors"] >= IN_A_ROW
