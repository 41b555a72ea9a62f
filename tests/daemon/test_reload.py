"""A configuration that is read again is taken whole, or not at all: no result is lost over it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daemon.conftest import Configure, pipeline, replay
from support.broker import listener, wait_until
from support.daemon import Consumer, Daemon, daemon, missing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from support.broker import Mosquitto

FRAGILE = '''
"""A reporter of a third party: it writes results to a file, and opens only while another file is there."""

import contextlib
import pathlib
import threading

import msgspec


class Config(msgspec.Struct):
    path: str
    needs: str


class Fragile:
    def __init__(self, config, feed):
        self.file = open_(config.path, "a", buffering=1)
        self.feed = feed
        self.stopping = False
        self.thread = threading.Thread(target=self.work)
        self.thread.start()

    def work(self):
        while not self.stopping or self.feed.waiting:
            self.feed.wait(0.1)
            for message in self.feed.read():
                if hasattr(message, "sample"):
                    print(message.sequence, file=self.file)
            self.feed.commit()
        self.file.close()

    def health(self):
        return {}


open_ = open


@contextlib.contextmanager
def open(config, context):
    needed = pathlib.Path(config.needs)
    if not needed.exists():
        raise OSError(f"{needed} is not there")
    reporter = Fragile(config, context.feed)
    yield reporter
    reporter.stopping = True
    reporter.thread.join()
    if config.path.endswith("once"):
        needed.unlink()
'''


def install(site: Path) -> dict[str, str]:
    (site / "fragile-1.dist-info").mkdir(parents=True)
    (site / "fragile.py").write_text(FRAGILE)
    (site / "fragile-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: fragile\nVersion: 1\n")
    (site / "fragile-1.dist-info" / "entry_points.txt").write_text("[limpet.reporters]\nfragile = fragile\n")
    return {"PYTHONPATH": str(site)}


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def refusals(consumer: Consumer) -> list[str]:
    return [event["reason"] for event in consumer.events_of_device("refused")]


def reload(running: Daemon, consumer: Consumer) -> str:
    """Have it read a configuration that it refuses, and return why."""
    before = len(refusals(consumer))
    running.signal(signal.SIGHUP)
    wait_until(lambda: len(refusals(consumer)) > before)
    return refusals(consumer)[-1]


def sequences(path: Path) -> Iterable[int]:
    return (message["sequence"] for line in lines(path) if (message := json.loads(line))["type"] == "result")


def test_a_reload_that_is_refused_leaves_every_reporter_at_work(
    configure: Configure, consumer: Consumer, tmp_path: Path
) -> None:
    written = tmp_path / "results.jsonl"
    parts = replay("left"), pipeline("one", "left")
    path = configure(*parts, f'[jsonl]\npath = "{written}"\n')
    good = path.read_text()
    with daemon(path) as running:
        consumer.wait_results("one", 20)
        changed = good.replace("[mqtt]", '[mqtt]\nclient_id = "another"')
        for text, said in (
            (changed.replace(str(written), "/nowhere/results"), "/nowhere/results"),
            (good.replace("[mqtt]", '[mqtt]\nusername = "u"\npassword_file = "none"'), "none"),
            (changed.replace("[jsonl]", "[jsonl]\nmax_bytes = 4097\nflush_age = -1"), "flush_age"),
        ):
            path.write_text(text)
            assert said in reload(running, consumer)
            consumer.wait_results("one", 20)
        # Not one connection to the broker was given up for what could not be.
        assert consumer.last("health")["reporters"]["mqtt"]["reconnects"] == 0
        running.stop()
    assert not missing(consumer.results("one"))
    assert len(consumer.results("one")) == consumer.last("health/one")["results"]
    assert list(sequences(written)) == list(range(1, consumer.last("health/one")["results"] + 1))
    assert running.log.count("connected with MQTT") == 1


def test_a_reporter_that_cannot_be_opened_after_all_is_as_it_was_before(
    configure: Configure, consumer: Consumer, tmp_path: Path
) -> None:
    (tmp_path / "there").touch()
    parts = replay("left"), pipeline("one", "left")
    table = '[reporters.fragile]\nkind = "fragile"\npath = "{0}/old"\nneeds = "{0}/{1}"\n'
    path = configure(*parts, table.format(tmp_path, "there"))
    with daemon(path, install(tmp_path / "site")) as running:
        consumer.wait_results("one", 20)
        configure(*parts, table.format(tmp_path, "not-there"))
        assert "not-there is not there" in reload(running, consumer)
        consumer.wait_results("one", 20)
        running.stop()
    assert [int(line) for line in lines(tmp_path / "old")] == list(
        range(1, consumer.last("health/one")["results"] + 1)
    )


def test_what_is_made_while_no_reporter_can_be_opened_waits_for_it(
    configure: Configure, consumer: Consumer, tmp_path: Path
) -> None:
    there = tmp_path / "there"
    there.touch()
    parts = replay("left"), pipeline("one", "left")
    table = '[reporters.fragile]\nkind = "fragile"\npath = "{0}/once"\nneeds = "{0}/{1}"\n'
    path = configure(*parts, table.format(tmp_path, "there"))
    with daemon(path, install(tmp_path / "site")) as running:
        consumer.wait_results("one", 20)
        configure(*parts, table.format(tmp_path, "not-there"))
        reload(running, consumer)
        wait_until(lambda: consumer.last("health")["reporters"]["fragile"].get("waiting", 0) > 20)
        assert "there is not there" in consumer.last("health")["reporters"]["fragile"]["last_error"]
        there.touch()
        wait_until(lambda: "open again" in running.log)
        consumer.wait_results("one", 20)
        running.stop()
    assert [int(line) for line in lines(tmp_path / "once")] == list(
        range(1, consumer.last("health/one")["results"] + 1)
    )


def _listed(content: Any) -> list[Any]:
    return content if isinstance(content, list) else [content]


RETAINED = ("health/two", "model/two/reported", "homeassistant/health/two", "homeassistant/result/two")


def cleared(consumer: Consumer, topic: str) -> bool:
    """Whether the last message on a topic is the empty one that has the broker forget the retained one."""
    return bool((found := consumer.on(topic)) and not found[-1].payload)


def test_what_is_retained_of_a_pipeline_removed_while_the_daemon_was_away_is_cleared(
    configure: Configure, broker: Mosquitto, consumer: Consumer, tmp_path: Path
) -> None:
    dialects = '[mqtt.dialects.json]\n[mqtt.dialects.homeassistant]\ndiscovery = "entity"\n'
    path = configure(dialects, replay("left"), pipeline("one", "left"), pipeline("two", "left"))
    roster = tmp_path / "state/pipelines.json"
    with daemon(path) as running:
        consumer.wait_results("two", 1)
        wait_until(lambda: consumer.on("homeassistant/result/two"))
        running.process.kill()
        running.wait()
        configure(dialects, replay("left"), pipeline("one", "left"))
        running.start()
        for topic in RETAINED:
            wait_until(lambda topic=topic: cleared(consumer, topic))
        wait_until(lambda: b"two" not in roster.read_bytes())
        assert running.stop() == 0
        count = len(consumer.on("health/two"))
        running.start()  # The broker has nothing left to clear.
        consumer.wait_results("one", 1)
        assert len(consumer.on("health/two")) == count
    with listener(broker.port, "#") as late:
        wait_until(lambda: late.on("health/one"))
        assert not [message.topic for message in late.messages if "two" in message.topic.split("/")]


def test_what_is_retained_of_a_pipeline_is_cleared_by_a_reload_and_comes_back_with_it(
    configure: Configure, consumer: Consumer
) -> None:
    dialects = "[mqtt.dialects.json]\n[mqtt.dialects.homeassistant]\n"
    both = (dialects, replay("left"), pipeline("one", "left"), pipeline("two", "left"))
    with daemon(configure(*both)) as running:
        wait_until(lambda: consumer.on("homeassistant/result/two"))
        wait_until(lambda: consumer.on("result/two"))
        configure(*both[:-1])
        running.signal(signal.SIGHUP)
        for topic in RETAINED:
            wait_until(lambda topic=topic: cleared(consumer, topic))
        wait_until(lambda: consumer.events("two", "stopped"))
        assert consumer.events("two", "stopped")[-1]["reason"] == "no longer configured"
        wait_until(lambda: list(consumer.last("health")["pipelines"]) == ["one"])
        assert cleared(consumer, "health/two")
        configure(*both)
        running.signal(signal.SIGHUP)
        wait_until(
            lambda: consumer.on("health/two")[-1].payload and consumer.last("health/two")["state"] == "running"
        )
        wait_until(lambda: len(consumer.on("result/two")) > 1)
        sequences = [one["sequence"] for message in consumer.on("result/two") for one in _listed(message.json)]
        assert sequences == list(range(1, len(sequences) + 1)), "results are numbered on"


def test_sighup_while_the_daemon_starts_is_taken_once_it_runs(configure: Configure, consumer: Consumer) -> None:
    with daemon(configure(replay("left"), pipeline("one", "left"))) as running:
        wait_until(lambda: ready_for(signal.SIGHUP, running.process.pid))
        running.process.send_signal(signal.SIGHUP)
        consumer.wait_results("one", 1)
        wait_until(lambda: "configuration read again" in running.log)
        assert not ready_for(signal.SIGHUP, running.process.pid, ["SigBlk"])
        assert running.stop() == 0


def ready_for(number: int, process: int, fields: Sequence[str] = ("SigBlk", "SigCgt")) -> bool:
    """Whether a process blocks or handles a signal."""
    status = Path(f"/proc/{process}/status").read_text()
    masks = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith(tuple(fields))]
    return any(mask >> (number - 1) & 1 for mask in masks)


def test_the_worker_from_which_a_pipeline_was_taken_says_no_more_about_its_state(
    configure: Configure, consumer: Consumer
) -> None:
    stays = replay("left"), replay("right"), pipeline("stays", "left")
    with daemon(configure(*stays, pipeline("moves", "left"))) as running:
        consumer.wait_results("moves", 20)
        left = running.pid_of("left")
        # It learns only after the other worker runs the pipeline that it has lost it.
        os.kill(left, signal.SIGSTOP)
        configure(*stays, pipeline("moves", "right"))
        running.signal(signal.SIGHUP)
        consumer.wait_results("moves", 60)
        os.kill(left, signal.SIGCONT)
        consumer.wait_results("stays", 100)
        assert consumer.last("health/moves")["state"] == "running"
        assert consumer.last("health")["pipelines"]["moves"] == "running"
        assert not consumer.events("moves", "stopped")
