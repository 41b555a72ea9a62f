"""A worker that was taken over harms its own pipelines, and no others. ``make attack`` tries much more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from daemon.conftest import Configure, pipeline, replay
from support.broker import wait_until
from support.daemon import Consumer, daemon, missing

if TYPE_CHECKING:
    from pathlib import Path

INTRUDER = '''
"""A source whose code is an intruder's: it writes to the supervisor what its worker never would."""

import contextlib
import gc
import os
import struct
import time

import msgspec
import numpy as np

from limpet.wire.channel import Channel
from limpet.contracts.data import Samples, SampleSpec


class Config(msgspec.Struct):
    says: str


def describe(config):
    return SampleSpec((3,), np.dtype(np.float32), ("ax", "ay", "az"), 20.0)


@contextlib.contextmanager
def open(config, dropped):
    yield samples(config)


def samples(config):
    yield sample(0)
    time.sleep(0.1)
    (channel,) = (one for one in gc.get_objects() if isinstance(one, Channel))
    for record in SAYS[config.says]:
        payload = record if isinstance(record, bytes) else msgspec.msgpack.encode(record)
        channel.socket.sendall(struct.pack("<I", len(payload)) + payload)
    if config.says == "goodbye":
        os._exit(0)
    index = 1
    while True:
        yield sample(index)
        index += 1
        time.sleep(0.05)


def sample(index):
    times = np.array([time.monotonic_ns()])
    return Samples(np.ones((1, 3), np.float32), times, np.array([time.time_ns()]), index)


def notice(number):
    return {"type": "Notice", "pipeline": "own", "event": "gap", "reason": f"number {number}"}


def move(number):
    state = ("running", "waiting")[number % 2]
    return {"type": "Transition", "pipeline": "own", "state": state, "reason": f"number {number}"}


def need(number):
    return {"type": "Need", "number": number, "pipeline": "own", "delegate": "external:/tmp/evil.so"}


SAYS = {
    "garbage": [b"garbage"],
    "refused": [{"type": "Refused", "problems": ["so there"], "pipeline": ""}],
    "for another": [{"type": "Transition", "pipeline": "one", "state": "failed", "reason": "by another"}],
    "goodbye": [],
    "floods": [*map(notice, range(3000)), *map(move, range(3001))],
    "executors": [need(number) for number in range(5)],
}
'''

SOURCE = '[sources.intruder]\nkind = "intruder"\nsays = "{}"\n'


def site(tmp_path: Path) -> dict[str, str]:
    folder = tmp_path / "site"
    (folder / "intruder-1.dist-info").mkdir(parents=True)
    (folder / "intruder.py").write_text(INTRUDER)
    (folder / "intruder-1.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: intruder\nVersion: 1\n"
    )
    (folder / "intruder-1.dist-info" / "entry_points.txt").write_text("[limpet.sources]\nintruder = intruder\n")
    return {"PYTHONPATH": str(folder)}


def taken_over(configure: Configure, says: str) -> Path:
    return configure(replay("left"), pipeline("one", "left"), SOURCE.format(says), pipeline("own", "intruder"))


def unharmed(consumer: Consumer) -> bool:
    """Whether the other source's pipeline has noticed nothing."""
    crashed = consumer.events("one", "crashed") or consumer.events("one", "failed")
    samples = [result["sample"] for result in consumer.results("one")]
    return not crashed and not missing(consumer.results("one")) and samples == list(range(len(samples)))


def test_a_worker_that_talks_nonsense_is_killed_alone_and_in_the_end_for_a_while(
    configure: Configure, consumer: Consumer, tmp_path: Path
) -> None:
    with daemon(taken_over(configure, "garbage"), site(tmp_path)) as running:
        wait_until(lambda: (consumer.last("health/own") or {}).get("state") == "failed", 20)
        consumer.wait_results("one", 20)
        assert running.resident_mb() < 64
        assert running.stop() == 0
    reasons = [event["reason"] for event in consumer.events("own", "crashed")]
    assert len(reasons) == 5
    assert all("a record could not be read" in reason for reason in reasons)
    assert "crashed too often" in consumer.last("health/own")["reason"]
    assert unharmed(consumer)


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        ("refused", ""),
        ("for another", "'one', which is no pipeline of its source"),
        ("goodbye", "ended with exit status 0"),
    ],
    ids=["refuses its configuration", "speaks for another pipeline", "ends as if all were well"],
)
def test_a_worker_that_breaks_the_rules_ends_alone(
    configure: Configure, consumer: Consumer, tmp_path: Path, says: str, reason: str
) -> None:
    with daemon(taken_over(configure, says), site(tmp_path)) as running:
        wait_until(lambda: consumer.events("own", "crashed"))
        consumer.wait_results("one", 20)
        assert running.stop() == 0
    assert reason in consumer.events("own", "crashed")[0]["reason"]
    assert unharmed(consumer)


def test_floods_of_one_worker_are_counted_and_the_last_word_is_heard(
    configure: Configure, consumer: Consumer, tmp_path: Path
) -> None:
    with daemon(taken_over(configure, "floods"), site(tmp_path)) as running:
        wait_until(lambda: (consumer.last("health/own") or {}).get("reason") == "number 3000")
        consumer.wait_results("one", 20)
        assert running.resident_mb() < 64
        assert running.stop() == 0
    assert len(consumer.events("own", "gap")) < 20
    assert len(consumer.events("own", "waiting")) < 40
    assert not consumer.events("own", "crashed")
    assert unharmed(consumer)


def test_an_executor_loads_nothing_that_a_worker_names(
    configure: Configure, consumer: Consumer, tmp_path: Path
) -> None:
    with daemon(taken_over(configure, "executors"), site(tmp_path)) as running:
        wait_until(lambda: running.log.count("has no delegate 'external:/tmp/evil.so'") == 5)
        consumer.wait_results("one", 20)
        assert not [name for name in running.descendants().values() if name.startswith("limpet+")]
        assert running.stop() == 0
    assert unharmed(consumer)
