"""Several reporters at once, each with its own outbox. One that is away or changes leaves the others alone."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

from daemon.conftest import Configure, pipeline, replay
from support.broker import Mosquitto, wait_until
from support.daemon import Consumer, daemon, missing

if TYPE_CHECKING:
    from pathlib import Path

CLOUD = '\n[reporters.cloud]\nkind = "mqtt"\nurl = "{url}"\nreconnect_max = 0.2\n'


def ids(consumer: Consumer) -> set[str]:
    return {result["id"] for result in consumer.results("one")}


def test_one_of_two_brokers_is_away_and_gets_everything_later_also_over_a_kill(
    configure: Configure, consumer: Consumer, tmp_path: Path
) -> None:
    cloud = Mosquitto(tmp_path / "cloud")
    cloud.start()
    late = Consumer(cloud.port, lasting=True)
    cloud.stop()
    path = configure(CLOUD.format(url=cloud.url), replay("left"), pipeline("one", "left"))
    try:
        with daemon(path) as running:
            consumer.wait_results("one", 100)
            health = consumer.last("health")["reporters"]
            assert (health["mqtt"]["connected"], health["cloud"]["connected"]) == (True, False)
            assert (health["cloud"]["kind"], health["cloud"]["missed"]) == ("mqtt", 0)
            wait_until(lambda: consumer.last("health")["reporters"]["cloud"]["outbox_depth"] > 0)
            assert consumer.last("health")["reporters"]["mqtt"]["outbox_depth"] < 20
            running.process.kill()
            running.wait()
            running.start()
            consumer.wait_results("one", 100)
            assert not late.results("one")
            cloud.start()
            wait_until(lambda: consumer.last("health")["reporters"]["cloud"]["connected"])
            wait_until(lambda: ids(consumer) <= ids(late), 20)
            assert running.stop() == 0
        wait_until(lambda: ids(consumer) == ids(late))
        assert not missing(consumer.results("one"))
        assert not missing(late.results("one"))
        last = max(result["sequence"] for result in late.results("one") if result["boot"].startswith("2-"))
        assert last == late.last("health/one")["results"] == consumer.last("health/one")["results"]
    finally:
        late.close()
        cloud.stop()
    assert {path.name for path in (tmp_path / "state/reporters").iterdir()} == {"mqtt", "cloud"}


def lines(path: Path, kind: str) -> list[Any]:
    if not path.exists():
        return []
    every = [json.loads(line) for line in path.read_text().splitlines()]
    return [line for line in every if line["type"] == kind]


def sequences(path: Path) -> list[int]:
    return [line["sequence"] for line in lines(path, "result")]


def test_a_reload_that_adds_changes_or_removes_a_reporter_touches_only_that_one(
    configure: Configure, consumer: Consumer, tmp_path: Path
) -> None:
    def writing(name: str, file: str) -> str:
        return f'\n[reporters.{name}]\nkind = "jsonl"\npath = "{file}"\nflush_age = 0.0\n'

    def reload(*reporters: str) -> None:
        configure(*parts, *reporters)
        before = running.log.count("configuration read again")
        running.signal(signal.SIGHUP)
        wait_until(lambda: running.log.count("configuration read again") > before)
        consumer.wait_results("one", 20)

    parts = replay("left"), pipeline("one", "left")
    path = configure(*parts, writing("stays", "stays"), writing("moves", "old"))
    files = {name: tmp_path / name for name in ("stays", "old", "new", "late")}
    with daemon(path) as running:
        consumer.wait_results("one", 20)
        reload(writing("stays", "stays"), writing("moves", "new"), writing("comes", "late"))
        wait_until(lambda: set(consumer.last("health")["reporters"]) == {"mqtt", "stays", "moves", "comes"})
        reload(writing("stays", "stays"), writing("moves", "new"))
        gone = len(sequences(files["late"]))
        consumer.wait_results("one", 20)
        assert len(sequences(files["late"])) == gone
        assert running.stop() == 0
    results = consumer.last("health/one")["results"]
    everything = list(range(1, results + 1))
    assert sequences(files["stays"]) == everything
    assert sequences(files["old"]) + sequences(files["new"]) == everything
    came = sequences(files["late"])
    assert came == list(range(came[0], came[0] + gone))
    # What comes late knows the state of everything before it gets a result.
    begin = [json.loads(line)["type"] for line in files["late"].read_text().splitlines()[:3]]
    assert sorted(begin) == ["health", "model-reported", "pipeline-health"]
    assert running.log.count("connected with MQTT") == 1
    assert not missing(consumer.results("one"))


LINGERING = '''
"""A reporter of a third party that is closed only when a file is there."""

import contextlib
import pathlib
import time

import msgspec


class Config(msgspec.Struct):
    until: str
    number: int


class Lingering:
    def health(self):
        return {}


@contextlib.contextmanager
def open(config, context):
    yield Lingering()
    pathlib.Path(config.until + ".closing").touch()
    while not pathlib.Path(config.until).exists():
        time.sleep(0.01)
'''


def test_a_reload_that_waits_for_a_reporter_to_close_holds_up_no_other_one(
    configure: Configure, consumer: Consumer, tmp_path: Path
) -> None:
    package, until = tmp_path / "site" / "lingering-1.dist-info", tmp_path / "until"
    package.mkdir(parents=True)
    (package.parent / "lingering.py").write_text(LINGERING)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: lingering\nVersion: 1\n")
    (package / "entry_points.txt").write_text("[limpet.reporters]\nlingering = lingering\n")

    def parts(number: int) -> tuple[str, ...]:
        table = f'\n[reporters.lingering]\nkind = "lingering"\nuntil = "{until}"\nnumber = {number}\n'
        return table, replay("left"), pipeline("one", "left")

    path = configure(*parts(1))
    with daemon(path, {"PYTHONPATH": str(package.parent)}) as running:
        consumer.wait_results("one", 20)
        configure(*parts(2))
        running.signal(signal.SIGHUP)
        wait_until(until.with_name("until.closing").exists)
        consumer.wait_results("one", 100, 5)
        configure(replay("left"), pipeline("one", "left") + "every = 2\n")
        running.signal(signal.SIGHUP)
        consumer.wait_results("one", 20, 5)
        assert "configuration read again" not in running.log
        until.touch()
        wait_until(lambda: running.log.count("configuration read again") == 2)
        wait_until(lambda: consumer.events("one", "swapped"))
        wait_until(lambda: set(consumer.last("health")["reporters"]) == {"mqtt"})
        assert running.stop() == 0
    assert not missing(consumer.results("one"))
    assert not consumer.last("health/one")["dropped"].get("queue")
