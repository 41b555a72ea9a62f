"""A daemon adapts a threshold by feedback, explains it, keeps it over a restart, and undoes it at one command."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from daemon.conftest import HEAD
from support import shuttle_models
from support.broker import Mosquitto, wait_until
from support.caller import caller
from support.daemon import Consumer, daemon, missing

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = """
[sources.telemetry]
kind = "replay"
path = "shuttle.csv"
rate = 100
loop = true

[pipelines.motion]
source = "telemetry"
model = "shuttle-7.limpet"
decoder = { kind = "classify", activation = "softmax", threshold = 0.999999 }
groups = { site = "north" }
adapt = { threshold = { least = 0.1, most = 0.999999, right = 0.5, answers = 8, step = 1, hours = 1e-6 } }
"""
ANSWERS = 8


def limpet(*arguments: str | Path) -> str:
    command = [sys.executable, "-m", "limpet", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout


def health(consumer: Consumer) -> dict[str, Any]:
    found: dict[str, Any] = consumer.last("health/motion") or {}
    return found


def test_a_threshold_follows_feedback_and_is_undone(broker: Mosquitto, consumer: Consumer, tmp_path: Path) -> None:
    shuttle_models.recording(tmp_path / "shuttle.csv")
    bundle = shuttle_models.bundle(tmp_path / "shuttle-7.limpet", "old")
    before = hashlib.sha256(bundle.read_bytes()).hexdigest()
    path = tmp_path / "limpet.toml"
    head = HEAD.format(url=broker.url).replace('state = "state"', 'state = "state"\ncommands = ["feedback"]')
    path.write_text(head + CONFIG)
    with daemon(path), caller(broker.port) as operator:
        consumer.wait_results("motion", 2 * ANSWERS)
        for result in consumer.results("motion")[:ANSWERS]:
            best, undecided = result["output"]["top"][0]["label"], result["output"]["abstained"]
            answer = operator.call("feedback", id=result["id"], truth=best)["result"]
            assert answer == ({"known": True} if undecided else {"known": True, "was_right": True})
        wait_until(lambda: consumer.events("motion", "adapted"))
        (event,) = consumer.events("motion", "adapted")
        assert event["reason"].startswith(f"adaptation 1 (threshold): {ANSWERS} of the {ANSWERS} results")
        wait_until(lambda: (health(consumer).get("adaptations") or {}).get("in_force") == {"threshold": 1})
        counted = health(consumer)["accuracy"]
        assert counted.get("abstained", 0) + counted["all"]["right"] == ANSWERS
        assert any(one["output"]["abstained"] for one in consumer.results("motion"))
    assert missing(consumer.results("motion")) == {}
    shown = limpet("adaptations", "list", path)
    assert "1  " in shown
    assert "threshold  shuttle 7  in force" in shown
    seen = len(consumer.results("motion"))
    with daemon(path):
        consumer.wait_results("motion", seen + 20)
        assert not any(one["output"]["abstained"] for one in consumer.results("motion")[seen:])
        assert limpet("adaptations", "undo", "motion", "--config", path) == "motion: undone: 1\n"
        wait_until(lambda: consumer.events("motion", "adaptation_undone"))
        seen = len(consumer.results("motion"))
        wait_until(lambda: any(one["output"]["abstained"] for one in consumer.results("motion")[seen:]))
        wait_until(lambda: health(consumer)["adaptations"] == {"in_force": {}, "last": 1, "held": ["threshold"]})
    journal = [json.loads(line) for line in (tmp_path / "state/audit.jsonl").read_bytes().splitlines()]
    adapted = {one["event"]: one for one in journal if "adapt" in one["event"]}
    assert adapted["adapted"]["what"]["model"] == "shuttle"
    assert adapted["adaptation_undone"]["who"]["user"]
    assert hashlib.sha256(bundle.read_bytes()).hexdigest() == before
