"""How much memory the supervisor takes that could take updates."""

from __future__ import annotations

from pathlib import Path

from daemon.conftest import Configure, replay
from support import trusting
from support.daemon import Consumer, Daemon, daemon


def anonymous_mb(running: Daemon) -> float:
    """Return the supervisor's own memory: what it imported and made, without mapped files."""
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) * 1024 / 1e6


def test_a_supervisor_that_has_trust_and_updates_carries_no_library_for_them(
    configure: Configure, consumer: Consumer, tmp_path: Path
) -> None:
    keys = trusting.Keys()
    trusting.bundle(tmp_path / "motion-1.limpet", [keys.maker], version=1)
    (tmp_path / "root.json").write_bytes(trusting.root(keys))
    motion = '\n[pipelines.motion]\nsource = "imu"\nmodel = "motion-1.limpet"\n'
    config = configure(replay("imu"), '[trust]\nroot = "root.json"\n[updates]\n', motion)
    with daemon(config) as running:
        consumer.wait_results("motion", 5)
        # 15.5 MB here. numpy, tuf or cryptography would each add more than the rest of this.
        assert anonymous_mb(running) < 20
