"""A new model is compared with the old one on real telemetry: a worse one is stopped, a better one takes over."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from daemon.test_updates import desired, order, stage, whole
from support import shuttle_models
from support.broker import wait_until
from support.caller import caller
from support.daemon import Consumer, daemon
from support.shuttle_models import PLAYED

if TYPE_CHECKING:
    from pathlib import Path

    from daemon.conftest import Configure
    from support.broker import Mosquitto
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
        if answer["result"]["known"]:  # The shadow leaves windows out if the machine is busy.
            right = answer["result"]["right"]
            assert right == {"old": old[at] == truths[at], "new": new[at] == truths[at]}
            given[result["id"]] = right["new"]

    def enough() -> bool:
        for result in consumer.results("motion")[begun:-80]:
            give(result)
        return len(given) >= count or stage(consumer) != "shadow"

    wait_until(enough, 30)
    return list(given.values())


def test_a_worse_model_is_stopped_by_disagreement_and_by_feedback_and_a_better_one_goes_through(
    configure: Configure, consumer: Consumer, broker: Mosquitto, tmp_path: Path
) -> None:
    # Tests run on busy machines, where the governor would pause the shadow.
    config = configure(f"[updates]\n[governor]\nbusy = 1.0\ndown_after = 3600\n{CONFIG}")
    config.write_text(config.read_text().replace('state = "state"', 'state = "state"\ncommands = ["feedback"]'))
    shuttle_models.recording(tmp_path / "shuttle.csv")
    shuttle_models.bundle(tmp_path / "shuttle-7.limpet", "old")
    worse = shuttle_models.bundle(tmp_path / "shuttle-9.limpet", "worse")
    better = shuttle_models.bundle(tmp_path / "shuttle-8.limpet", "better")
    with daemon(config) as running, caller(broker.port, "5") as operator:
        consumer.wait_results("motion", 5)
        result = consumer.results("motion")[0]["id"]
        answer = operator.call("feedback", id=result, truth="normal")
        assert "compares no new model" in answer["result"]["reason"]

        order(tmp_path, running, request(worse, shadow_windows=30, least_agreement=0.9), worse)
        wait_until(lambda: stage(consumer) == "failed", 20)
        said = consumer.last("model/motion/reported")["update"]
        assert "It agrees with the old model by" in said["reason"]

        order(tmp_path, running, request(worse, shadow_windows=20, least_feedback=200), worse)
        wait_until(lambda: stage(consumer) == "shadow" and compared(consumer), 20)
        right = give_feedback(operator, consumer, "worse", 9)
        wait_until(lambda: stage(consumer) == "failed", 20)
        assert sum(right) < len(right) / 2
        assert "It is right in" in consumer.last("model/motion/reported")["update"]["reason"]

        policy = {"shadow_windows": 40, "least_agreement": 0.9, "least_feedback": 1, "trial_windows": 10}
        order(tmp_path, running, request(better, **policy), better)
        wait_until(lambda: stage(consumer) == "shadow" and compared(consumer), 20)
        give_feedback(operator, consumer, "better", 1)
        wait_until(lambda: stage(consumer) == "good", 20)
        consumer.wait_results("motion", 5)
        assert not (tmp_path / "state/cache/models/motion~shadow").exists()
        assert running.stop() == 0
    results = consumer.results("motion")
    assert whole(results)
    assert [version for version, _ in groupby(one["version"] for one in results)] == [7, 8]
    for one in results:
        by: shuttle_models.Quality = "old" if one["version"] == 7 else "better"
        assert one["output"]["label"] == shuttle_models.predicted(by)[one["sample"] % PLAYED]
