"""A pipeline on an accelerator is swapped: its successor opens there beside it, and takes over."""

from __future__ import annotations

import os
import signal
from itertools import groupby
from typing import TYPE_CHECKING

import pytest

from accel import phases
from support import models
from support.broker import wait_until
from support.daemon import Consumer, Daemon, daemon
from support.delegate import build

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("delegate"))


def executors(running: Daemon) -> list[int]:
    return [pid for pid, name in running.descendants().items() if name.startswith("limpet+")]


def test_another_delegate_and_other_options_of_it_take_over_without_a_lost_window(
    tmp_path: Path, library: Path
) -> None:
    with phases.board(tmp_path, library) as (path, _, consumer), daemon(path) as running:
        before = path.read_text()
        wait_until(lambda: phases.on(consumer, "board"), 20)
        (first,) = executors(running)
        worker = running.pid_of("line")
        path.write_text(before.replace("options = {", 'options = { fault = "",'))
        running.signal(signal.SIGHUP)
        wait_until(lambda: consumer.events("fast", "swapped"))
        wait_until(lambda: executors(running) and first not in executors(running))
        consumer.wait_results("fast", 20)
        path.write_text(before.replace('delegates = ["board"]', 'delegates = ["cpu"]'))
        running.signal(signal.SIGHUP)
        wait_until(lambda: len(consumer.events("fast", "swapped")) == 2)
        wait_until(lambda: not executors(running))
        consumer.wait_results("fast", 20)
        path.write_text(before)
        running.signal(signal.SIGHUP)
        wait_until(lambda: len(consumer.events("fast", "swapped")) == 3)
        consumer.wait_results("fast", 20)
        assert running.pid_of("line") == worker
        running.stop()
        results = consumer.results("fast")
        assert not phases.lost(results)
        first_on_board = next(one["sample"] for one in results if one["delegate"] == "board")
        delegates = [one["delegate"] for one in results if one["sample"] >= first_on_board]
        assert [delegate for delegate, _ in groupby(delegates)] == ["board", "cpu", "board"]
        assert [event["reason"] for event in consumer.events("fast", "swapped")] == [
            "dense on board took over",
            "dense on cpu took over",
            "dense on board took over",
        ]


def test_after_a_failed_swap_the_old_delegate_still_fails_over_and_comes_back(
    tmp_path: Path, library: Path
) -> None:
    (tmp_path / "models").mkdir()
    models.dense(tmp_path / "models/dense.tflite", inputs=3, outputs=3)
    models.dense(tmp_path / "models/wide.tflite", inputs=4, outputs=4)
    with phases.board(tmp_path, library) as (path, _, consumer):
        path.write_text(path.read_text().replace('"dense.tflite"', '"models/dense.tflite"'))
        with daemon(path) as running:
            fail_over_after_a_failed_swap(running, path, consumer)
        assert {one["model"] for one in consumer.results("fast")} == {"dense"}
        assert not phases.lost(consumer.results("fast"))


def fail_over_after_a_failed_swap(running: Daemon, path: Path, consumer: Consumer) -> None:
    wait_until(lambda: phases.on(consumer, "board"), 20)
    (executor,) = executors(running)
    path.write_text(path.read_text().replace("models/dense", "models/wide", 1))
    running.signal(signal.SIGHUP)
    wait_until(lambda: consumer.events("fast", "swap_failed"), 20)
    consumer.wait_results("fast", 20)
    assert executors(running) == [executor]
    os.kill(executor, signal.SIGSEGV)
    wait_until(lambda: consumer.events("fast", "degraded"))
    wait_until(lambda: consumer.events("fast", "recovered"))
    before = len(phases.on(consumer, "board"))
    wait_until(lambda: len(phases.on(consumer, "board")) > before, 20)
    running.stop()
