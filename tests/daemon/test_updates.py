"""Updates of models, with a real daemon and a real broker."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pytest

from daemon.conftest import Configure, replay
from limpet.doctor.check import inspect
from limpet.models import deployed as deployed_models
from support import bundles, models
from support.broker import wait_until
from support.daemon import Consumer, Daemon, daemon, missing

if TYPE_CHECKING:
    from pathlib import Path

GOOD = ["wanted", "verifying", "staged", "admission", "admitted", "trial", "good"]
"""Events of an update that goes all the way."""
ORDER = ["idle", "downloading", "verifying", "staged", "admission", "trial", "good"]
COMMANDS = """
[pipelines.motion]
source = "imu"
model = "dense.tflite"
deadline = 2.0
decoder = { kind = "regress" }
"""


def made(folder: Path, version: int, name: str = "motion", **fields: Any) -> Path:
    """Write a bundle with this version of a model."""
    model = models.dense(folder / "made.tflite", inputs=3, outputs=3).read_bytes()
    return bundles.bundle(
        folder / f"{name}-{version}.limpet", {"model.tflite": model}, name=name, version=version, **fields
    )


def desired(bundle: Path, version: int, **fields: Any) -> dict[str, Any]:
    data = bundle.read_bytes()
    basis = {
        "model": "motion",
        "version": version,
        "sha256": hashlib.sha256(data).hexdigest(),
        "length": len(data),
        "policy": {"trial_windows": 5},
    }
    return {**basis, **fields}


def order(folder: Path, running: Daemon | None, content: dict[str, Any], bundle: Path | None = None) -> None:
    """Write a request as `limpet model` does, and have the daemon read it."""
    requests = folder / "state" / "requests"
    requests.mkdir(parents=True, exist_ok=True)
    if bundle is not None:
        (requests / "motion.limpet").write_bytes(bundle.read_bytes())
    (requests / "new").write_text(json.dumps(content))
    (requests / "new").replace(requests / "motion.json")
    if running is not None:
        running.signal(signal.SIGHUP)


def stage(consumer: Consumer) -> str:
    said = consumer.last("model/motion/reported")
    return str(said["update"]["stage"]) if said and said["update"] else ""


def steps(consumer: Consumer) -> list[str]:
    """Return the events of the update, one after the other."""
    said = [one.json["event"] for one in consumer.on("event/motion")]
    return [event.removeprefix("update_") for event in said if event.startswith("update_")]


def whole(results: list[dict[str, Any]]) -> bool:
    return not missing(results) and len({one["id"] for one in results}) == len(results)


def test_a_local_request_goes_all_the_way_and_is_rolled_back_by_command(
    configure: Configure, consumer: Consumer, tmp_path: Path
) -> None:
    config = configure(replay("imu"), COMMANDS)
    bundle = made(tmp_path, 1)
    with daemon(config) as running:
        consumer.wait_results("motion", 5)
        worker = running.pid_of("imu")
        order(tmp_path, running, {"order": "update", "desired": desired(bundle, 1, id="roll-1")}, bundle)
        wait_until(lambda: stage(consumer) == "good")
        assert not (tmp_path / "state/requests/motion.json").exists()
        wait_until(lambda: steps(consumer) == GOOD)
        consumer.wait_results("motion", 5)
        said = consumer.last("model/motion/reported")
        assert (said["model"], said["version"]) == ("motion", 1)
        assert said["update"]["good"] == {"model": "motion", "version": 1}
        assert said["update"]["id"] == "roll-1"
        assert [one.name for one in (tmp_path / "state/deployed").iterdir()] == ["motion-1.limpet"]
        assert not list((tmp_path / "state/downloads").iterdir())
        order(tmp_path, running, {"order": "rollback", "by": "a test"})
        wait_until(lambda: consumer.last("model/motion/reported")["model"] == "dense")
        consumer.wait_results("motion", 5)
        assert stage(consumer) == "rolled_back"
        assert running.pid_of("imu") == worker
        assert running.stop() == 0
    results = consumer.results("motion")
    assert whole(results)
    assert [model for model, _ in groupby(one["model"] for one in results)] == ["dense", "motion", "dense"]


def test_a_model_that_crashes_or_hangs_on_trial_is_rolled_back_and_may_be_tried_again(
    configure: Configure, consumer: Consumer, tmp_path: Path
) -> None:
    config = configure(replay("imu"), COMMANDS)
    bundle = made(tmp_path, 1)
    endless = desired(bundle, 1, policy={"trial_windows": 1_000_000})
    with daemon(config) as running:
        consumer.wait_results("motion", 5)
        order(tmp_path, running, {"order": "update", "desired": endless}, bundle)
        wait_until(lambda: runs(consumer, "motion"))
        os.kill(running.pid_of("imu"), signal.SIGSEGV)
        wait_until(lambda: stage(consumer) == "rolled_back" and runs(consumer, "dense"))
        assert "killed by SIGSEGV" in consumer.last("model/motion/reported")["update"]["reason"]
        wait_until(lambda: not list((tmp_path / "state/deployed").iterdir()))
        order(tmp_path, running, {"order": "update", "desired": endless}, bundle)
        wait_until(lambda: stage(consumer) == "trial" and runs(consumer, "motion"))
        os.kill(running.pid_of("imu"), signal.SIGSTOP)
        wait_until(lambda: stage(consumer) == "rolled_back" and runs(consumer, "dense"))
        assert "no progress" in consumer.last("model/motion/reported")["update"]["reason"]
        order(tmp_path, running, {"order": "update", "desired": desired(bundle, 1)}, bundle)
        wait_until(lambda: stage(consumer) == "good")
        assert running.stop() == 0
    assert whole(consumer.results("motion"))


@pytest.mark.parametrize("at", ["verifying", "staged", "trial"])
def test_a_daemon_that_is_killed_goes_on_with_an_update_where_it_was(
    configure: Configure, consumer: Consumer, tmp_path: Path, at: str
) -> None:
    config = configure(replay("imu"), COMMANDS)
    bundle = made(tmp_path, 1)
    policy = {"trial_windows": 40, "start": "operator" if at == "staged" else "now"}
    with daemon(config) as running:
        consumer.wait_results("motion", 5)
        order(tmp_path, running, {"order": "update", "desired": desired(bundle, 1, policy=policy)}, bundle)
        while ORDER.index(kept(tmp_path)["stage"]) < ORDER.index(at):
            time.sleep(0.001)
        os.kill(running.process.pid, signal.SIGKILL)
        running.wait()
        assert ORDER.index(kept(tmp_path)["stage"]) < ORDER.index("good")
        running.start()
        if at == "staged":
            wait_until(lambda: stage(consumer) == "staged" and len(consumer.events("motion", "running")) == 2)
            order(tmp_path, running, {"order": "install"})
        wait_until(lambda: stage(consumer) == "good")
        assert (kept(tmp_path)["stage"], kept(tmp_path)["good"]["version"]) == ("good", 1)
        assert [one.name for one in (tmp_path / "state/deployed").iterdir()] == ["motion-1.limpet"]
        consumer.wait_results("motion", 5)
        assert running.stop() == 0
    assert runs(consumer, "motion")
    # What the broker had not acknowledged when the daemon was killed is sent again: the same id, the same result.
    results = [{**one, "replayed": None} for one in consumer.results("motion")]
    said = {one["id"]: one for one in results}
    assert all(one == said[one["id"]] for one in results)
    assert not missing(results)
    first = consumer.results("motion")[0]["boot"]
    ids = [one["id"] for one in consumer.results("motion") if one["boot"] != first]
    assert len(set(ids)) == len(ids) >= 5


def test_a_state_that_cannot_be_written_stops_updates_alone(
    configure: Configure, consumer: Consumer, tmp_path: Path
) -> None:
    config = configure(replay("imu"), COMMANDS)
    bundle = made(tmp_path, 1)
    with daemon(config) as running:
        consumer.wait_results("motion", 5)
        (tmp_path / "state/updates.json").mkdir()
        order(tmp_path, running, {"order": "update", "desired": desired(bundle, 1)}, bundle)
        wait_until(lambda: consumer.events_of_device("update_waits"))
        consumer.wait_results("motion", 5)
        assert runs(consumer, "dense")
        assert (tmp_path / "state/requests/motion.json").exists()
        assert not (tmp_path / "state/downloads").exists()
        (tmp_path / "state/updates.json").rmdir()
        wait_until(lambda: stage(consumer) == "good")
        assert not (tmp_path / "state/requests/motion.json").exists()
        assert running.stop() == 0
    assert len(consumer.events_of_device("update_waits")) == 1


def test_a_deployed_bundle_that_is_damaged_gives_way_to_the_model_of_the_configuration(
    configure: Configure, consumer: Consumer, tmp_path: Path
) -> None:
    config = configure(replay("imu"), COMMANDS)
    bundle = made(tmp_path, 1)
    with daemon(config) as running:
        consumer.wait_results("motion", 5)
        order(tmp_path, running, {"order": "update", "desired": desired(bundle, 1)}, bundle)
        wait_until(lambda: stage(consumer) == "good")
        assert running.stop() == 0
        deployed = tmp_path / "state/deployed/motion-1.limpet"
        deployed.write_bytes(deployed.read_bytes().replace(b"TFL3", b"TFL4"))
        running.start()
        wait_until(lambda: consumer.events("motion", "skipped"))
        consumer.wait_results("motion", 5)
        assert runs(consumer, "dense")
        wait_until(lambda: "runs another model" in consumer.last("model/motion/reported")["update"]["reason"])
        found = inspect(deployed_models.read_config(config)).lines[0]
        order(tmp_path, running, {"order": "update", "desired": desired(bundle, 1)}, bundle)
        wait_until(lambda: runs(consumer, "motion") and stage(consumer) == "good", 20)
        assert deployed.read_bytes() == bundle.read_bytes()
        assert running.stop() == 0
    (skipped,) = consumer.events("motion", "skipped")
    assert "motion-1.limpet: not a bundle, or damaged" in skipped["reason"]
    assert found == "motion: imu -> dense 0 on cpu"


def kept(folder: Path) -> dict[str, Any]:
    """Return what the daemon has written about the update of the pipeline."""
    try:
        found: dict[str, Any] = json.loads((folder / "state/updates.json").read_text())
    except FileNotFoundError:
        return {"stage": "idle"}
    return {"stage": "idle", **found["pipelines"].get("motion", {})}


def runs(consumer: Consumer, model: str) -> bool:
    """Whether the last result is of this model."""
    results = consumer.results("motion")
    return bool(results) and results[-1]["model"] == model
