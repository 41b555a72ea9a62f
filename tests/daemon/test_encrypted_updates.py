"""Models of updates that are encrypted on the disk, with a real daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.conftest import Configure, replay
from daemon.test_updates import COMMANDS, desired, made, order, stage, whole
from limpet.models.sealed import MAGIC
from support.broker import wait_until
from support.daemon import Consumer, daemon

if TYPE_CHECKING:
    from pathlib import Path

TABLE = """
[updates]
encryption_key_file = "bundle-key"
"""


def holders(folder: Path, content: bytes) -> list[str]:
    """Return the files below a folder that have a content in them."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path.name for path in files if content in path.read_bytes()]


def test_an_encrypted_model_runs_and_leaves_nothing_readable_on_the_disk(
    configure: Configure, consumer: Consumer, tmp_path: Path
) -> None:
    config = configure(replay("imu"), COMMANDS + TABLE)
    (tmp_path / "bundle-key").write_bytes(bytes(range(32)))
    memory = {"RUNTIME_DIRECTORY": str(tmp_path / "run")}
    secret = b"a description that no other file has"
    bundle = made(tmp_path, 1, description=secret.decode())
    deployed = tmp_path / "state/deployed/motion-1.limpet"
    with daemon(config, memory) as running:
        consumer.wait_results("motion", 5)
        worker = running.pid_of("imu")
        order(tmp_path, running, {"order": "update", "desired": desired(bundle, 1)}, bundle)
        wait_until(lambda: stage(consumer) == "good")
        assert running.pid_of("imu") == worker
        assert deployed.read_bytes().startswith(MAGIC)
        wait_until(lambda: not holders(tmp_path / "state", secret))
        assert running.stop() == 0
    assert whole(consumer.results("motion"))
    with daemon(config, memory) as running:
        consumer.wait_results("motion", 5)
        assert consumer.results("motion")[-1]["model"] == "motion"
        assert running.stop() == 0
    assert not [path for path in (tmp_path / "state/cache").rglob("*.tflite") if path.is_file()]
    damaged = bytearray(deployed.read_bytes())
    damaged[100] ^= 1
    deployed.write_bytes(damaged)
    with daemon(config, memory) as running:
        consumer.wait_results("motion", 5)
        assert consumer.results("motion")[-1]["model"] == "dense"
        wait_until(lambda: consumer.events("motion", "skipped"))
        assert "changed on the disk" in consumer.events("motion", "skipped")[-1]["reason"]
        assert running.stop() == 0
