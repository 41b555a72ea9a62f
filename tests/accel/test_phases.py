"""A delegate fails in every way that it can, in the real daemon; nothing is lost and it is back by itself."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from accel import phases
from support import models
from support.broker import wait_until
from support.daemon import Daemon, daemon
from support.delegate import build

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("delegate"))


@pytest.mark.parametrize("phase", [*phases.LOADING, *phases.RUNNING])
def test_the_cpu_takes_over_and_gives_back(phase: str, tmp_path: Path, library: Path) -> None:
    outcome = phases.suffer(phase, tmp_path, library)
    assert outcome.recovered_s < 2.0
    assert outcome.lost_windows == 0
    assert outcome.results_equal
    assert outcome.came_back
    assert outcome.others_unbroken
    assert "board" in outcome.cause
    # A hundred windows a second, looked at four times a second.
    assert outcome.wrong_results < (100 if phase == "wrong" else 1)
    assert ("wrong numbers" in outcome.cause) == (phase == "wrong")


def test_placement_is_proven_and_reported(tmp_path: Path, library: Path) -> None:
    with phases.board(tmp_path, library) as (path, _, consumer), daemon(path):
        wait_until(lambda: phases.on(consumer, "board"), 20)
        wait_until(lambda: consumer.last("health/fast")["delegate"] == "board")
        health, reported = consumer.last("health/fast"), consumer.last("model/fast/reported")
        wait_until(lambda: consumer.last("health/beside"))
        assert consumer.last("health/beside")["placement"] is None
    placement = health["placement"]
    assert reported["placement"] == placement
    assert (placement["op_share"], placement["mac_share"], placement["time_share"]) == (1.0, 1.0, 1.0)
    assert placement["sandbox"] == health["sandbox"] != []
    assert placement["speed"] > 0
    assert placement["error"] <= 0.5


@pytest.mark.parametrize(
    ("settings", "fault", "reason"),
    [
        ("require = 0.95", "partial=0", "0.0% of the multiply-adds run on 'board', 95.0% are required"),
        ("require = 0.95", "create", "no device"),
    ],
)
def test_what_is_required_and_not_there_has_no_results_until_it_is(
    settings: str, fault: str, reason: str, tmp_path: Path, library: Path
) -> None:
    with phases.board(tmp_path, library, settings) as (path, control, consumer):
        control.raise_(fault)
        with daemon(path) as running:
            wait_until(lambda: consumer.events("fast", "waiting"))
            # On a busy machine the first reason may be that it is still being opened.
            wait_until(lambda: reason in consumer.last("health/fast")["reason"])
            consumer.wait_results("beside", 20)
            assert not consumer.results("fast")
            control.lift()
            wait_until(lambda: len(phases.on(consumer, "board")) >= 20, 20)
            control.raise_("crash")
            wait_until(lambda: len(consumer.events("fast", "waiting")) >= 2)
            control.lift()
            consumer.wait_results("fast", 20)
            running.stop()
        assert not phases.degraded(consumer)
        assert not phases.lost(consumer.results("beside"))


def test_a_hostile_one_gets_nowhere(tmp_path: Path, library: Path) -> None:
    with phases.board(tmp_path, library) as (path, control, consumer):
        (tmp_path / "mqtt-password").write_text("secret")
        text = path.read_text().replace("[mqtt]", '[mqtt]\nusername = "d"\npassword_file = "mqtt-password"')
        path.write_text(text)
        control.raise_(f"probe={tmp_path}")
        with daemon(path):
            wait_until(lambda: "probe" in str(consumer.events("fast", "degraded")), 20)
            consumer.wait_results("fast", 10)
        reason = consumer.events("fast", "degraded")[0]["reason"]
    tried = ("network", "unix", "key", "write", "model", "environment", "signal", "fork")
    assert [f"{what} refused" for what in tried] == reason.partition("probe; ")[2].split("; ")[: len(tried)], (
        reason
    )
    assert not (tmp_path / "written").exists()


def test_one_that_is_too_slow_is_not_used(tmp_path: Path, library: Path) -> None:
    with phases.board(tmp_path, library) as (path, control, consumer):
        path.write_text(path.read_text().replace("least_speed = 0", "least_speed = 1.0"))
        control.raise_("slow=5")
        with daemon(path):
            wait_until(lambda: "not worth it" in str(consumer.events("fast", "degraded")))
            consumer.wait_results("fast", 20)
    assert not phases.on(consumer, "board")


def test_a_killed_worker_takes_its_executor_along_and_both_are_back(tmp_path: Path, library: Path) -> None:
    with phases.board(tmp_path, library) as (path, _, consumer), daemon(path) as running:
        wait_until(lambda: phases.on(consumer, "board"), 20)
        (executor,) = executors(running)
        os.kill(running.pid_of("line"), signal.SIGKILL)
        wait_until(lambda: consumer.events("fast", "crashed"))
        wait_until(lambda: executors(running) and executor not in executors(running))
        before = len(phases.on(consumer, "board"))
        wait_until(lambda: len(phases.on(consumer, "board")) > before, 20)
        assert running.stop() == 0


def test_a_killed_executor_is_replaced(tmp_path: Path, library: Path) -> None:
    with phases.board(tmp_path, library) as (path, _, consumer), daemon(path) as running:
        wait_until(lambda: phases.on(consumer, "board"), 20)
        (executor,) = executors(running)
        os.kill(executor, signal.SIGSEGV)
        wait_until(lambda: "it crashed" in str(consumer.events("fast", "degraded")))
        wait_until(lambda: consumer.events("fast", "recovered"))
        assert executor not in executors(running)
        running.stop()
    assert not phases.lost(consumer.results("fast"))
    assert "killed by SIGSEGV" in running.log


def executors(running: Daemon) -> list[int]:
    return [pid for pid, name in running.descendants().items() if name.startswith("limpet+")]


def test_down_a_list_of_two_and_up_again(tmp_path: Path, library: Path) -> None:
    with phases.board(tmp_path, library) as (path, control, consumer):
        spare = f'\n[delegates.spare]\nkind = "external"\nlibrary = "{library}"\n'
        path.write_text(path.read_text().replace('["board"]', '["board", "spare"]') + spare)
        with daemon(path) as running:
            wait_until(lambda: phases.on(consumer, "board"), 20)
            control.raise_("invoke create")
            wait_until(lambda: len(phases.on(consumer, "spare")) >= 20, 20)
            control.lift()
            before = len(phases.on(consumer, "board"))
            wait_until(lambda: len(phases.on(consumer, "board")) >= before + 20, 20)
            running.stop()
        results = consumer.results("fast")
        assert {result["degraded"] for result in results if result["delegate"] == "spare"} == {True}
        assert not phases.lost(results)
        assert max(phases.difference(consumer, results)) <= 1.5 * models.SCALE
