"""The power goes at random instants of updates: the file system drops what was not synced."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

from faults.power import PowerCutsImpossibleError, cut, mounted
from rollout.ground import PIPELINE, Ground, ground
from rollout.kills import Counts, complete
from support.broker import wait_until

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["PowerCutsImpossibleError", "run"]


def run(folder: Path, cuts: int, seed: int = 0) -> dict[str, Any]:
    """Cut the power ``cuts`` times, once in each update, and count the updates that get to their end after it."""
    chance, counts = random.Random(seed), Counts()
    folder.mkdir(parents=True, exist_ok=True)
    image, disk = folder / "disk.img", folder / "disk"
    with image.open("wb") as file:
        file.truncate(256 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    with ground(folder / "ground", disk / "state") as device:
        for version in range(2, cuts + 2):
            with mounted(image, disk):
                _start(device, version)
                device.desire(device.bundle(version), policy={"trial_windows": 40})
                time.sleep(chance.uniform(0.05, 2.5))
                cut(disk)
                device.running.signal(signal.SIGKILL)
                device.running.wait()
                wait_until(lambda: not device.running.survivors())
            with mounted(image, disk):
                counts.look(device)
                device.running.start()
                complete(device, version, counts)
                device.running.stop()
                wait_until(lambda: not device.running.survivors())
    found = counts.figures()
    return {"power_cuts": cuts, **{key: value for key, value in found.items() if key not in {"kills", "killed"}}}


def _start(device: Ground, version: int) -> None:
    """Start a daemon. The first one needs its first model on the new file system."""
    if version == 2:
        device.install_first()
    device.running.start()
    device.consumer.wait_results(PIPELINE, 50, 60)
