"""Workers, the fork server and the supervisor are killed, frozen and told to stop."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from daemon.conftest import Configure, pipeline, replay
from support.broker import wait_until
from support.daemon import Consumer, daemon, missing
from support.resting import rests


def two_sources(configure: Configure) -> Path:
    return configure(replay("left"), replay("right"), pipeline("one", "left"), pipeline("two", "right"))


def unbroken(results: list[dict[str, object]]) -> bool:
    """Whether neither a number nor a sample is missing between the first and the last."""
    samples = [result["sample"] for result in results]
    return not missing(results) and samples == list(range(samples[0], samples[0] + len(samples)))


def test_two_pipelines_run_together_and_stop_in_order(configure: Configure, consumer: Consumer) -> None:
    with daemon(two_sources(configure)) as running:
        consumer.wait_results("one", 50)
        consumer.wait_results("two", 50)
        assert consumer.last("status")["status"] == "online"
        assert sorted(running.descendants().values()) == ["limpet-fork", "limpet:left", "limpet:right"]
        # What epoll watches is limited for all processes of a user: a worker could use that up.
        files = Path(f"/proc/{running.process.pid}/fd")
        assert not [file for file in files.iterdir() if "eventpoll" in str(file.readlink())]
        assert running.stop() == 0
    wait_until(lambda: consumer.last("status")["status"] == "offline")
    assert unbroken(consumer.results("one"))
    assert unbroken(consumer.results("two"))
    assert consumer.last("health/one")["state"] == "stopped"
    assert {"no-new-privileges", "limits"} <= set(consumer.last("health/one")["sandbox"])
    # All that was counted was sent: the last health message comes after the last result.
    assert consumer.last("health/one")["results"] == len(consumer.results("one"))


def test_a_killed_worker_is_back_and_the_other_does_not_notice(configure: Configure, consumer: Consumer) -> None:
    with daemon(two_sources(configure)) as running:
        consumer.wait_results("one", 20)
        consumer.wait_results("two", 20)
        before = running.pid_of("left")
        os.kill(before, signal.SIGSEGV)
        wait_until(lambda: consumer.events("one", "crashed"))
        consumer.wait_results("one", 50)
        assert running.pid_of("left") != before
        running.stop()
    assert "SIGSEGV" in consumer.events("one", "crashed")[0]["reason"]
    assert consumer.last("health/one")["restarts"] == 1
    assert not missing(consumer.results("one"))
    assert unbroken(consumer.results("two"))
    assert not consumer.events("two", "crashed")


def test_a_worker_that_takes_all_memory_is_what_the_kernel_kills(configure: Configure, consumer: Consumer) -> None:
    with daemon(two_sources(configure)) as running:
        consumer.wait_results("one", 20)
        own, fork, left = (
            oom_score(name) for name in ("self", running.pid_of("limpet-fork"), running.pid_of("left"))
        )
        assert own == fork < left
        running.stop()


def oom_score(process: int | str) -> int:
    return int(Path(f"/proc/{process}/oom_score_adj").read_text())


def test_a_frozen_worker_is_killed_and_restarted_at_its_deadline(configure: Configure, consumer: Consumer) -> None:
    with daemon(two_sources(configure)) as running:
        consumer.wait_results("one", 20)
        os.kill(running.pid_of("left"), signal.SIGSTOP)
        wait_until(lambda: consumer.events("one", "crashed"))
        consumer.wait_results("one", 20)
        running.stop()
    assert "no progress for" in consumer.events("one", "crashed")[0]["reason"]
    assert unbroken(consumer.results("two"))


def test_a_killed_fork_server_is_replaced_with_all_workers(configure: Configure, consumer: Consumer) -> None:
    with daemon(two_sources(configure)) as running:
        consumer.wait_results("one", 20)
        consumer.wait_results("two", 20)
        os.kill(running.pid_of("limpet-fork"), signal.SIGKILL)
        wait_until(lambda: consumer.events("one", "crashed") and consumer.events("two", "crashed"))
        consumer.wait_results("one", 20)
        consumer.wait_results("two", 20)
        assert running.stop() == 0


def test_a_worker_that_is_killed_while_the_fork_server_rests_is_back(
    configure: Configure, consumer: Consumer
) -> None:
    with daemon(two_sources(configure)) as running:
        consumer.wait_results("one", 20)
        consumer.wait_results("two", 20)
        before, fork = running.pid_of("left"), running.pid_of("limpet-fork")
        wait_until(lambda: rests(fork), 30)
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: consumer.events("one", "crashed"))
        consumer.wait_results("one", 20)
        assert running.pid_of("left") != before
        assert running.pid_of("limpet-fork") == fork
        assert not rests(fork)
        assert running.stop() == 0
    assert "SIGKILL" in consumer.events("one", "crashed")[0]["reason"]
    assert unbroken(consumer.results("two"))
    assert not consumer.events("two", "crashed")


def test_a_killed_supervisor_leaves_no_orphan_and_its_last_will(configure: Configure, consumer: Consumer) -> None:
    with daemon(two_sources(configure)) as running:
        consumer.wait_results("one", 20)
        children = set(running.descendants())
        assert len(children) == 3
        running.signal(signal.SIGKILL)
        running.wait()
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))
        wait_until(lambda: consumer.last("status")["status"] == "offline")
        first_boot = consumer.last("status")["boot"]
        running.start()
        wait_until(lambda: consumer.last("status")["status"] == "online")
        consumer.wait_results("one", 20)
        assert consumer.last("status")["boot"] != first_boot


def test_hangup_restarts_only_the_pipelines_that_changed(configure: Configure, consumer: Consumer) -> None:
    parts = replay("left"), pipeline("one", "left"), pipeline("two", "left")
    with daemon(configure(*parts)) as running:
        consumer.wait_results("one", 20)
        consumer.wait_results("two", 20)
        worker = running.pid_of("left")
        configure(*parts[:2], parts[2].replace('"regress"', '"regress", unit = "mm"'), pipeline("three", "left"))
        running.signal(signal.SIGHUP)
        consumer.wait_results("three", 20)
        wait_until(lambda: consumer.results("two")[-1]["output"].get("units"))
        assert running.pid_of("left") == worker
        configure("nonsense = 1\n", *parts)
        running.signal(signal.SIGHUP)
        wait_until(lambda: "configuration not taken" in running.log)
        configure(*parts[:2])
        running.signal(signal.SIGHUP)
        wait_until(lambda: consumer.events("three", "stopped"))
        consumer.wait_results("one", 20)
        assert running.pid_of("left") == worker
        running.stop()
    assert unbroken(consumer.results("one"))
    assert len(consumer.events("one", "running")) == 1


def test_hangup_adds_and_removes_sources(configure: Configure, consumer: Consumer) -> None:
    with daemon(configure(replay("left"), pipeline("one", "left"))) as running:
        consumer.wait_results("one", 20)
        configure(replay("right"), pipeline("two", "right"))
        running.signal(signal.SIGHUP)
        consumer.wait_results("two", 20)
        wait_until(lambda: consumer.events("one", "stopped"))
        wait_until(lambda: "limpet:left" not in running.descendants().values())
        configure(replay("right", rate=50), pipeline("two", "right"))
        before = running.pid_of("right")
        running.signal(signal.SIGHUP)
        wait_until(lambda: running.pid_of("right") != before)
        consumer.wait_results("two", 20)
        assert not consumer.events("two", "crashed")


def test_a_source_that_ends_is_finished_and_its_worker_gone(configure: Configure, consumer: Consumer) -> None:
    path = configure(replay("left").replace("loop = true", 'speed = "flat-out"'), pipeline("one", "left"))
    with daemon(path) as running:
        wait_until(lambda: (consumer.last("health/one") or {}).get("state") == "finished")
        wait_until(lambda: "limpet:left" not in running.descendants().values())
        wait_until(lambda: len(consumer.results("one")) == 1000)
        assert running.process.poll() is None
    assert unbroken(consumer.results("one"))


def test_one_daemon_per_state_directory(configure: Configure, consumer: Consumer) -> None:
    path = configure(replay("left"), pipeline("one", "left"))
    with daemon(path) as running:
        consumer.wait_results("one", 1)
        with daemon(path) as second:
            assert second.wait() == 78
        assert "another limpet runs with" in running.log
