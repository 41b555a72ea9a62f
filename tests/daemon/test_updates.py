"""Updates of models, with a real daemon and a real broker."""

from __future__ import annotations

import hashlib
import json
import signal
from itertools import groupby
from typing import TYPE_CHECKING, Any

from daemon.conftest import Configure, replay
from support import bundles, models
from support.broker import wait_until
from support.daemon import Consumer, Daemon, daemon, missing

if TYPE_CHECKING:
    from pathlib import Path

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


def stages(consumer: Consumer) -> list[str]:
    """Return the stages that were reported, one after the other."""
    said = [one.json["update"] for one in consumer.on("model/motion/reported")]
    return [stage for stage, _ in groupby(one["stage"] for one in said if one)]


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
        wait_until(lambda: stage(consumer) == "good", 20)
        assert not (tmp_path / "state/requests/motion.json").exists()
        assert stages(consumer) == ["downloading", "verifying", "staged", "admission", "trial", "good"]
        consumer.wait_results("motion", 5)
        said = consumer.last("model/motion/reported")
        assert (said["model"], said["version"]) == ("motion", 1)
        assert said["update"]["good"] == {"model": "motion", "version": 1}
        assert said["update"]["id"] == "roll-1"
        assert [one.name for one in (tmp_path / "state/deployed").iterdir()] == ["motion-1.limpet"]
        assert not list((tmp_path / "state/downloads").iterdir())
        order(tmp_path, running, {"order": "rollback", "by": "a test"})
        wait_until(lambda: consumer.last("model/motion/reported")["model"] == "dense", 10)
        consumer.wait_results("motion", 5)
        assert stage(consumer) == "rolled_back"
        assert running.pid_of("imu") == worker
        assert running.stop() == 0
    results = consumer.results("motion")
    assert whole(results)
    assert [model for model, _ in groupby(one["model"] for one in results)] == ["dense", "motion", "dense"]
