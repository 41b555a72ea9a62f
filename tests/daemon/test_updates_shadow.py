"""A new model is compared with the old one on real telemetry: a worse one is stopped, a better one takes over."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from daemon.conftest import HEAD
from daemon.test_updates import desired, order, stage, whole
from support import shuttle_models
from support.broker import mosquitto, wait_until
from support.caller import caller
from support.daemon import Consumer, Daemon, daemon
from support.shuttle_models import PLAYED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.caller import Caller

CONFIG = """
[sources.telemetry]
kind = "replay"
path = "shuttle.csv"
rate = 100
loop = true

[pipelines.motion]
source = "telemetry"
model = "shuttle-7.limpet"
"""


def request(bundle: Path, **policy: Any) -> dict[str, Any]:
    name, version = bundle.stem.split("-")
    return {"order": "update", "desired": desired(bundle, int(version), model=name, policy=policy)}


def compared(consumer: Consumer) -> dict[str, Any]:
    said = consumer.last("model/motion/reported")
    found: dict[str, Any] = (said and said["update"] and said["update"].get("compared")) or {}
    return found


def give_feedback(operator: Caller, consumer: Consumer, quality: shuttle_models.Quality, count: int) -> list[bool]:
    """Give feedback for results on which the two models differ. Return for each whether the new one is right."""
    old, new = shuttle_models.predicted("old"), shuttle_models.predicted(quality)
    truths, begun = shuttle_models.truths(), len(consumer.results("motion"))
    given: dict[str, bool] = {}
    asked: set[str] = set()

    def give(result: dict[str, Any]) -> None:
        at = result["sample"] % PLAYED
        if len(given) >= count or result["id"] in asked or old[at] == new[at]:
            return
        answer = operator.call("feedback", id=result["id"], truth=truths[at])
        if not answer["ok"]:
            return  # too many commands
        asked.add(result["id"])
        if "right" in answer["result"]:  # The shadow leaves windows out if the machine is busy.
            right = answer["result"]["right"]
            assert right == {"old": old[at] == truths[at], "new": new[at] == truths[at]}
            given[result["id"]] = right["new"]

    def enough() -> bool:
        for result in consumer.results("motion")[begun:-80]:
            give(result)
        return len(given) >= count or stage(consumer) != "shadow"

    wait_until(enough)
    return list(given.values())


class Telemetry(NamedTuple):
    """A daemon that runs a model on real telemetry, and an operator who may give feedback."""

    folder: Path
    running: Daemon
    consumer: Consumer
    operator: Caller


@pytest.fixture(scope="module")
def telemetry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Telemetry]:
    """Start one for all tests here: a worse model leaves it as it was."""
    folder = tmp_path_factory.mktemp("telemetry")
    shuttle_models.recording(folder / "shuttle.csv")
    shuttle_models.bundle(folder / "shuttle-7.limpet", "old")
    with mosquitto(folder / "broker") as broker, caller(broker.port, "5") as operator:
        head = HEAD.format(url=broker.url).replace('state = "state"', 'state = "state"\ncommands = ["feedback"]')
        # Tests run on busy machines, where the governor would pause the shadow.
        path = folder / "limpet.toml"
        path.write_text(f"{head}[updates]\n[governor]\nbusy = 1.0\ndown_after = 3600\n{CONFIG}")
        consumer = Consumer(broker.port)
        with daemon(path) as running:
            consumer.wait_results("motion", 5)
            yield Telemetry(folder, running, consumer, operator)
        consumer.close()


def begins(telemetry: Telemetry, bundle: Path, **policy: Any) -> None:
    order(telemetry.folder, telemetry.running, request(bundle, **policy), bundle)
    wait_until(lambda: stage(telemetry.consumer) == "shadow" and compared(telemetry.consumer))


def test_feedback_without_a_new_model_says_whether_the_result_was_right_and_health_counts_it(
    telemetry: Telemetry,
) -> None:
    consumer, result = telemetry.consumer, telemetry.consumer.results("motion")[0]
    answer = telemetry.operator.call("feedback", id=result["id"], truth=result["output"]["label"])
    assert answer["result"] == {"known": True, "was_right": True}
    answer = telemetry.operator.call("feedback", id=result["id"], truth="something else")
    assert answer["result"] == {"known": True, "was_right": False}

    def counted() -> dict[str, Any]:
        accuracy: dict[str, Any] = (consumer.last("health/motion") or {}).get("accuracy") or {}
        return accuracy

    wait_until(lambda: "something else" in counted().get("classes", {}))
    assert (counted()["all"]["answers"], counted()["all"]["right"]) == (1, 0)
    assert counted()["classes"].keys() == {"something else"}


def test_rival_that_is_worse_is_caught_by_disagreement(telemetry: Telemetry) -> None:
    worse = shuttle_models.bundle(telemetry.folder / "shuttle-9.limpet", "worse")
    policy = request(worse, shadow_windows=30, least_agreement=0.9)
    order(telemetry.folder, telemetry.running, policy, worse)
    wait_until(lambda: stage(telemetry.consumer) == "failed")
    said = telemetry.consumer.last("model/motion/reported")["update"]
    assert "It agrees with the old model by" in said["reason"]
    assert {one["version"] for one in telemetry.consumer.results("motion")} == {7}


def test_rival_that_is_worse_is_caught_by_feedback(telemetry: Telemetry) -> None:
    worse = shuttle_models.bundle(telemetry.folder / "shuttle-9.limpet", "worse")
    begins(telemetry, worse, shadow_windows=20, least_feedback=200)
    right = give_feedback(telemetry.operator, telemetry.consumer, "worse", 60)
    wait_until(lambda: stage(telemetry.consumer) == "failed")
    assert sum(right) < len(right) / 2
    assert "It is right in" in telemetry.consumer.last("model/motion/reported")["update"]["reason"]
    assert {one["version"] for one in telemetry.consumer.results("motion")} == {7}


def test_rival_that_is_better_goes_through_by_itself(telemetry: Telemetry) -> None:
    consumer, folder = telemetry.consumer, telemetry.folder
    better = shuttle_models.bundle(folder / "shuttle-8.limpet", "better")
    begins(telemetry, better, shadow_windows=40, least_agreement=0.9, least_feedback=1, trial_windows=10)
    give_feedback(telemetry.operator, consumer, "better", 1)
    wait_until(lambda: stage(consumer) in {"good", "failed"})
    assert stage(consumer) == "good", consumer.last("model/motion/reported")["update"]
    consumer.wait_results("motion", 5)
    assert not (folder / "state/cache/models/motion~shadow").exists()
    assert telemetry.running.stop() == 0
    results = consumer.results("motion")
    assert whole(results)
    assert [version for version, _ in groupby(one["version"] for one in results)] == [7, 8]
    for one in results:
        by: shuttle_models.Quality = "old" if one["version"] == 7 else "better"
        assert one["output"]["label"] == shuttle_models.predicted(by)[one["sample"] % PLAYED]
