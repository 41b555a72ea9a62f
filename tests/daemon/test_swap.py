"""A changed pipeline is swapped between two windows: no result is lost or doubled, each is of one model."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from limpet import config
from limpet.doctor.check import inspect
from support import models
from support.broker import wait_until
from support.bundles import bundle, golden
from support.daemon import Daemon, daemon
from support.ptys import Board

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CONFIG = """
[device]
id = "press-07"
state = "state"
health_interval = 0.5

[jsonl]
path = "{folder}/lines.jsonl"
flush_age = 0

[sources.line]
kind = "serial"
port = "{folder}/line"
channels = ["n"]
framing = "csv"
"""
SINGLE = """
[pipelines.single]
source = "line"
model = "models/{model}"
decoder = {{ kind = "regress" }}
{options}
"""
WINDOWS = """
[pipelines.windows]
source = "line"
model = "models/{model}"
window = {{ size = 4, hop = 2 }}
decoder = {{ kind = "regress" }}
"""
ROWS_PER_SECOND = 2000
REASONS = [
    "single 2 is not used, single 1 goes on: wrong outputs for its golden vectors: off by 1",
    "not a TFLite model, or damaged",
    "has shape [1, 3], but its source, window and transforms give [1, 1]",
    "it did not open within 0.5 s",
]


class Lines:
    """What a daemon wrote with ``[jsonl]``, read as it grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._messages: list[dict[str, Any]] = []

    def read(self) -> list[dict[str, Any]]:
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
            whole = data[: data.rfind(b"\n") + 1]
            self._offset += len(whole)
            self._messages += map(json.loads, whole.splitlines())
        return self._messages

    def results(self, pipeline: str) -> list[dict[str, Any]]:
        return [one for one in self.read() if one["type"] == "result" and one["pipeline"] == pipeline]

    def events(self, pipeline: str, event: str) -> list[str]:
        return [
            one["reason"]
            for one in self.read()
            if one["type"] == "event" and one.get("pipeline") == pipeline and one["event"] == event
        ]

    def wait_event(self, pipeline: str, event: str, count: int = 1) -> str:
        wait_until(lambda: len(self.events(pipeline, event)) >= count, 30)
        return self.events(pipeline, event)[count - 1]

    def wait_results(self, pipeline: str, count: int) -> None:
        wanted = len(self.results(pipeline)) + count
        wait_until(lambda: len(self.results(pipeline)) >= wanted, 30)

    def health(self, pipeline: str) -> dict[str, Any]:
        said = [one for one in self.read() if one["type"] == "pipeline-health" and one["pipeline"] == pipeline]
        return said[-1]


class Counting(threading.Thread):
    """A board that sends 0, 1, 2, ..., as many a second as it is told, in bursts as serial adapters do."""

    def __init__(self, board: Board, rate: int) -> None:
        super().__init__()
        self._board = board
        self._rate = rate
        self._ended = threading.Event()
        self.sent = 0

    def run(self) -> None:
        begin = time.monotonic()
        while not self._ended.wait(0.005):
            due = int((time.monotonic() - begin) * self._rate)
            self._board.send("".join(f"{n}\n" for n in range(self.sent, due)).encode())
            self.sent = max(self.sent, due)

    def stop(self) -> int:
        self._ended.set()
        self.join()
        return self.sent


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


@pytest.fixture
def lines(tmp_path: Path) -> Lines:
    return Lines(tmp_path / "lines.jsonl")


def made(store: Path, name: str, version: int, make: Callable[..., Path], **fields: Any) -> str:
    """Write a bundle, and return its file's name."""
    model = make(store / "made.tflite").read_bytes()
    (store / "made.tflite").unlink()
    members = {"model.tflite": model, **fields.pop("members", {})}
    return bundle(store / f"{name}-{version}.limpet", members, name=name, version=version, **fields).name


def plain(path: Path) -> Path:
    """The number itself."""
    return models.same(path, (1, 1), "float32")


def plus_five(path: Path) -> Path:
    return models.offset(path, size=1)


def vectors(offset: float) -> dict[str, Any]:
    """Golden vectors of a model that adds ``offset``."""
    inputs = [[[float(n)]] for n in range(4)]
    outputs = [[[n + offset]] for n in range(4)]
    return {"members": {"golden.npz": golden([inputs], [outputs])}, "golden": "golden.npz"}


def configured(folder: Path, *parts: str) -> Path:
    path = folder / "limpet.toml"
    path.write_text(CONFIG.format(folder=folder) + "".join(parts))
    return path


def single(model: str, options: str = "") -> str:
    return SINGLE.format(model=model, options=options)


def change(running: Daemon, folder: Path, *parts: str) -> None:
    configured(folder, *parts)
    running.signal(signal.SIGHUP)


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    with Board(tmp_path / "line") as plugged:
        yield plugged


def test_swaps_under_load(tmp_path: Path, store: Path, lines: Lines, board: Board) -> None:
    one, two = made(store, "single", 1, plain, **vectors(0)), made(store, "single", 2, plus_five, **vectors(5))
    four = made(store, "windows", 1, lambda path: models.same(path, (1, 4, 1), "float32"))
    twice = made(store, "windows", 2, lambda path: models.column(path, rows=4))
    pairs = [(one, four), (two, twice), (one, four), (two, twice)]
    parts = [(single(first), WINDOWS.format(model=second)) for first, second in pairs]
    with daemon(configured(tmp_path, *parts[0])) as running, counting(board, ROWS_PER_SECOND) as sending:
        lines.wait_results("single", 200)
        worker = running.pid_of("line")
        for count, changed in enumerate(parts[1:], 1):
            change(running, tmp_path, *changed)
            assert lines.wait_event("single", "swapped", count).startswith(f"single {1 + count % 2} on cpu")
            lines.wait_event("windows", "swapped", count)
            lines.wait_results("single", 200)
        sent = sending.stop() - 1  # the line takes the first one for the rest of another
        wait_until(lambda: len(lines.results("single")) >= sent)
        assert running.pid_of("line") == worker
        assert len(mapped(worker)) == 2, "the old models are still in memory"
        assert running.stop() == 0
    results = lines.results("single")
    assert whole(results, step=1)
    assert len(results) == sent
    assert [version for version, _ in groupby(one["version"] for one in results)] == [1, 2, 1, 2]
    assert all(number(one) == one["sample"] + (1 if one["version"] == 1 else 6) for one in results)
    windows = lines.results("windows")
    assert whole(windows, step=2)
    assert len(windows) == (sent - 2) // 2
    assert [version for version, _ in groupby(one["version"] for one in windows)] == [1, 2, 1, 2]
    for one in windows:
        last = one["sample"] + 1
        assert values(one) == [one["version"] * n for n in range(last - 3, last + 1)]
    assert lines.health("single")["errors"] == 0
    assert lines.health("single")["results"] == sent
    assert (lines.health("single")["model"], lines.health("single")["version"]) == ("single", 2)


def test_a_successor_that_is_wrong_damaged_slow_or_missing_does_not_take_over(
    tmp_path: Path, store: Path, lines: Lines, board: Board
) -> None:
    made(store, "single", 1, plain, **vectors(0))
    made(store, "single", 2, plus_five, **vectors(4))
    damaged = made(store, "single", 3, lambda path: path.write_bytes(b"TFL3" * 100) and path)
    crossed = made(store, "single", 4, lambda path: models.dense(path, inputs=3, outputs=3))
    endless = made(store, "single", 5, models.endless)
    with daemon(configured(tmp_path, single("single-1.limpet"))) as running, counting(board, 200) as sending:
        lines.wait_results("single", 20)
        worker = running.pid_of("line")
        tried = [single("single-2.limpet"), single(damaged), single(crossed), single(endless, "opening = 0.5")]
        for count, text in enumerate(tried, 1):
            change(running, tmp_path, text)
            lines.wait_event("single", "swap_failed", count)
            lines.wait_results("single", 20)
            assert lines.health("single")["version"] == 1
            assert lines.health("single")["state"] == "running"
        change(running, tmp_path, single("absent-1.limpet"))
        assert "there is no file" in lines.wait_event("single", "skipped")
        lines.wait_results("single", 20)
        assert lines.health("single")["state"] == "running"
        assert running.pid_of("line") == worker
        sent = sending.stop() - 1
        wait_until(lambda: len(lines.results("single")) >= sent)
        running.stop()
    for reason, why in zip(lines.events("single", "swap_failed"), REASONS, strict=True):
        assert why in reason
    assert whole(lines.results("single"), step=1)
    assert {one["version"] for one in lines.results("single")} == {1}


def test_a_bad_newer_bundle_does_not_keep_changed_options_from_the_version_that_works(
    tmp_path: Path, lines: Lines, board: Board
) -> None:
    store = tmp_path / "state" / "models"
    store.mkdir(parents=True)
    made(store, "single", 0, plain, **vectors(0))
    text = SINGLE.format(model="", options="").replace("models/", "single")
    with daemon(configured(tmp_path, text)) as running, counting(board, 200):
        lines.wait_results("single", 20)
        made(store, "single", 2, plus_five, **vectors(4))
        change(running, tmp_path, text + "every = 2\n")
        assert lines.wait_event("single", "swap_failed").startswith("single 2 is not used, single 0 goes on")
        assert lines.wait_event("single", "swapped") == "single 0 on cpu took over"
        (why,) = lines.events("single", "skipped")
        assert why.startswith("single-2.limpet: wrong outputs")
        assert why.endswith("; runs single-0.limpet")
        lines.wait_results("single", 20)
        running.stop()
    last, before = lines.results("single")[-1], lines.results("single")[-2]
    assert (last["version"], last["sample"] - before["sample"]) == (0, 2)


def test_a_successor_that_hangs_does_not_hold_up_the_next_change(
    tmp_path: Path, store: Path, lines: Lines, board: Board
) -> None:
    made(store, "single", 1, plain)
    endless = made(store, "single", 2, models.endless)
    made(store, "single", 3, plus_five)
    with daemon(configured(tmp_path, single("single-1.limpet"))) as running, counting(board, 200):
        lines.wait_results("single", 20)
        worker = running.pid_of("line")
        for model, step in (("single-3.limpet", "swapped"), ("single-1.limpet", "swap_failed")):
            before = threads(worker)
            change(running, tmp_path, single(endless))
            wait_until(lambda before=before: threads(worker) > before)
            change(running, tmp_path, single(model))
            reason = lines.wait_event("single", step)
        assert reason.endswith(
            "single 3 goes on: 2 earlier successors still open; the command `restart` ends them"
        )
        lines.wait_results("single", 20)
        assert running.pid_of("line") == worker
        assert running.stop() == 0
    assert [version for version, _ in groupby(one["version"] for one in lines.results("single"))] == [1, 3]


def test_a_worker_that_is_killed_in_the_middle_of_a_swap_comes_back_with_what_is_proven(
    tmp_path: Path, store: Path, lines: Lines, board: Board
) -> None:
    made(store, "single", 1, plain)
    endless = made(store, "single", 2, models.endless)
    made(store, "single", 3, plus_five)
    with daemon(configured(tmp_path, single("single-1.limpet"))) as running, counting(board, 200):
        lines.wait_results("single", 20)
        worker = running.pid_of("line")
        before = threads(worker)
        change(running, tmp_path, single(endless))
        wait_until(lambda: threads(worker) > before)
        lines.wait_results("single", 20)
        os.kill(worker, signal.SIGKILL)
        assert lines.wait_event("single", "swap_failed") == (
            "single 2 is not used, single 1 goes on: killed by SIGKILL"
        )
        lines.wait_results("single", 20)
        assert running.pid_of("line") != worker
        running.signal(signal.SIGHUP)  # What failed is not tried again.
        wait_until(lambda: running.log.count("configuration read again") == 2)
        lines.wait_results("single", 20)
        change(running, tmp_path, single("single-3.limpet"))
        assert lines.wait_event("single", "swapped") == "single 3 on cpu took over"
        running.stop()
    assert [version for version, _ in groupby(one["version"] for one in lines.results("single"))] == [1, 3]
    assert len(lines.events("single", "crashed")) == 1
    assert len(lines.events("single", "swap_failed")) == 1


def test_a_successor_that_crashes_its_worker_is_not_tried_again(
    tmp_path: Path, store: Path, lines: Lines, board: Board
) -> None:
    made(store, "single", 1, plain)
    made(store, "other", 1, plus_five)
    crashing = made(store, "single", 2, lambda path: models.crashing(path, size=1))
    other = SINGLE.replace("single", "other").format(model="other-1.limpet", options="")
    with daemon(configured(tmp_path, single("single-1.limpet"), other)) as running, counting(board, 200):
        lines.wait_results("other", 20)
        change(running, tmp_path, single(crashing), other)
        assert "single 1 goes on: killed by SIGSEGV" in lines.wait_event("single", "swap_failed")
        lines.wait_results("single", 40)
        lines.wait_results("other", 40)
        assert lines.health("single")["state"] == lines.health("other")["state"] == "running"
        running.stop()
    assert {one["version"] for one in lines.results("single")} == {1}
    assert len(lines.events("single", "crashed")) == 1
    assert not lines.events("other", "crashed")


def test_a_model_that_only_a_new_sandbox_can_read_is_proven_there_or_the_old_one_comes_back(
    tmp_path: Path, store: Path, lines: Lines, board: Board
) -> None:
    (tmp_path / "elsewhere").mkdir()
    made(store, "single", 1, plain)
    made(tmp_path / "elsewhere", "single", 2, plus_five, **vectors(4))
    made(tmp_path / "elsewhere", "single", 3, plus_five, **vectors(5))
    with daemon(configured(tmp_path, single("single-1.limpet"))) as running, counting(board, 200):
        lines.wait_results("single", 20)
        change(running, tmp_path, single("../elsewhere/single-2.limpet"))
        assert lines.wait_event("single", "swap_failed").startswith(
            "single 2 is not used, single 1 goes on: wrong"
        )
        lines.wait_results("single", 20)
        assert lines.health("single")["version"] == 1
        change(running, tmp_path, single("../elsewhere/single-3.limpet"))
        wait_until(lambda: lines.health("single")["version"] == 3)
        lines.wait_results("single", 20)
        running.stop()
    assert [version for version, _ in groupby(one["version"] for one in lines.results("single"))] == [1, 3]
    assert not lines.events("single", "failed")
    assert not lines.events("single", "crashed")


def test_a_successor_that_fails_on_its_first_window_gives_it_back(
    tmp_path: Path, store: Path, lines: Lines, board: Board
) -> None:
    made(store, "windows", 1, lambda path: models.column(path, rows=4))
    windows = WINDOWS.format(model="windows-1.limpet")
    fails = windows + 'transforms = [{ kind = "normalise", mean = 0, std = 1e-36 }]\n'
    with daemon(configured(tmp_path, windows)) as running, counting(board, 500) as sending:
        lines.wait_results("windows", 200)
        change(running, tmp_path, fails)
        reason = lines.wait_event("windows", "swap_failed")
        assert reason.startswith("its new options are not used, windows 1 goes on: samples so large that")
        lines.wait_results("windows", 20)
        sent = sending.stop() - 1
        wait_until(lambda: len(lines.results("windows")) == (sent - 2) // 2)
        running.stop()
    assert whole(lines.results("windows"), step=2)
    assert lines.health("windows")["errors"] == 0


@contextlib.contextmanager
def counting(board: Board, rate: int) -> Iterator[Counting]:
    """Send from when the port is open."""
    board.wait_opened()
    sending = Counting(board, rate)
    sending.start()
    try:
        yield sending
    finally:
        sending.stop()


def threads(process: int) -> int:
    return len(list(Path(f"/proc/{process}/task").iterdir()))


def mapped(process: int) -> set[str]:
    """Return the model files that a process has in memory."""
    lines = Path(f"/proc/{process}/maps").read_text().splitlines()
    return {line.split()[-1] for line in lines if line.endswith(".tflite")}


def whole(results: list[dict[str, Any]], step: int) -> bool:
    """Whether no result is missing and none is there twice, by their numbers and by their samples."""
    sequences, samples = [one["sequence"] for one in results], [one["sample"] for one in results]
    count = len(results)
    return sequences == list(range(1, count + 1)) and samples == list(
        range(samples[0], samples[0] + step * count, step)
    )


def values(result: dict[str, Any]) -> list[float]:
    return list(result["output"]["values"].values())


def number(result: dict[str, Any]) -> float:
    (only,) = values(result)
    return only


def test_a_version_that_gives_wrong_outputs_does_not_run_at_a_start_either(
    tmp_path: Path, store: Path, lines: Lines, board: Board
) -> None:
    made(store, "single", 1, plain, **vectors(0))
    path = configured(tmp_path, single("x").replace('"models/x"', '"single"'))
    path.write_text(path.read_text().replace('state = "state"', 'state = "state"\nmodels = "models"'))
    with daemon(path) as running, counting(board, 200):
        lines.wait_results("single", 20)
        made(store, "single", 2, plus_five, **vectors(4))
        running.signal(signal.SIGHUP)
        lines.wait_event("single", "swap_failed")
        lines.wait_results("single", 20)
        running.process.kill()  # as a power cut ends it
        running.wait()
        running.start()
        lines.wait_results("single", 20)
        assert lines.health("single")["version"] == 1
        reason = lines.events("single", "skipped")[-1]
        assert reason.startswith("single-2.limpet: wrong outputs for its golden vectors: off by 1")
        assert reason.endswith("; runs single-1.limpet")
        found = inspect(config.read(path))
        assert not found.problems
        assert found.lines[0] == "single: line -> single 1 on cpu"
        assert found.lines[1].startswith("single: warning: skipped single-2.limpet: wrong outputs")
        assert running.stop() == 0
    assert {one["version"] for one in lines.results("single")} == {1}
