"""Processes are killed at random instants of updates. Each update must get to its end without help."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from faults.tally import Tally
from rollout.ground import DISK_BYTES, PIPELINE, Ground, ground
from support.broker import wait_until

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 120.0
"""Seconds that an update may take after the last kill."""
CHILDREN = 0.6
"""Share of the kills that hit a child of the daemon and not the daemon itself."""
MOST_KILLS = 6
"""Kills in one update."""


class Counts:
    """What is counted over a campaign."""

    def __init__(self) -> None:
        self.kills: Counter[str] = Counter()
        self.updates = self.not_completed = self.without_good = self.died = 0
        self.half_written: set[str] = set()
        self.most_disk = 0

    def look(self, device: Ground) -> None:
        """Look at the device's disk."""
        self.half_written.update(device.half_written())
        self.most_disk = max(self.most_disk, device.disk())

    def figures(self) -> dict[str, Any]:
        return {
            "kills": self.kills.total(),
            "killed": dict(self.kills),
            "updates": self.updates,
            "not_completed": self.not_completed,
            "daemon_died": self.died,
            "always_good": self.without_good == 0,
            "half_written": len(self.half_written),
            "disk_exceeded": self.most_disk > DISK_BYTES,
        }


def victims(device: Ground) -> dict[str, list[int]]:
    """Return the process ids of the daemon and all its children, by kind: the daemon itself is ``daemon``."""
    found: dict[str, list[int]] = {"daemon": [device.running.process.pid]}
    for pid, name in device.running.descendants().items():
        found.setdefault(_kind(name), []).append(pid)
    return found


def _kind(name: str) -> str:
    if name == "limpet-fork":
        return "fork server"
    kinds = {":": "worker", "+": "executor", "=": "helper", "^": "deployer", "~": "shadow"}
    return kinds.get(name.removeprefix("limpet")[:1], "other")


def strike(device: Ground, chance: random.Random, counts: Counts) -> None:
    """Kill a process of a random kind, and start the daemon again if it was that."""
    found = victims(device)
    children = sorted(found.keys() - {"daemon"})
    kind = chance.choice(children) if children and chance.random() < CHILDREN else "daemon"
    with suppress(ProcessLookupError):  # it has ended by itself
        if kind == "daemon":
            device.running.signal(signal.SIGKILL)
            device.running.wait()
            wait_until(lambda: not device.running.survivors())
            counts.look(device)
            device.running.start()
        else:
            os.kill(chance.choice(found[kind]), signal.SIGKILL)
        counts.kills[kind] += 1


def complete(device: Ground, version: int, counts: Counts) -> None:
    """Wait until an update is good and gives results, and count it."""
    counts.updates += 1
    if device.running.process.poll() is not None:
        counts.died += 1
        device.running.start()
    try:
        wait_until(lambda: device.is_good(version), PATIENCE)
        device.consumer.wait_results(PIPELINE, 60, 30)
    except AssertionError:
        counts.not_completed += 1
        print(f"version {version} did not get to good: {device.update()}", flush=True)
    if device.versions(20) != {version}:
        counts.without_good += 1
    counts.look(device)


def run(folder: Path, kills: int, seed: int = 0) -> dict[str, Any]:
    """Kill until there were ``kills``, in as many updates as that takes."""
    chance, counts, tally = random.Random(seed), Counts(), Tally()
    with ground(folder) as device:
        device.running.start()
        device.consumer.wait_results(PIPELINE, 100, 60)
        version = 1
        while counts.kills.total() < kills:
            version += 1
            shadow = {"shadow_windows": 40} if version % 3 == 0 else {}
            device.desire(device.bundle(version), policy={"trial_windows": 40, **shadow}, id=f"campaign-{version}")
            for _ in range(min(chance.randint(1, MOST_KILLS), kills - counts.kills.total())):
                time.sleep(chance.uniform(0.02, 0.9))
                counts.look(device)
                strike(device, chance, counts)
            complete(device, version, counts)
        rollback = rollback_seconds(device)
        device.running.stop()
        wait_until(lambda: not device.running.survivors())
        tally.take(device.consumer.messages)
    return counts.figures() | {"lost": len(tally.lost()), "altered": tally.altered, "rollback_s": rollback}


def rollback_seconds(device: Ground, times: int = 5) -> float:
    """Return the longest time from the command to the first result of the version before."""
    longest = 0.0
    for _ in range(times):
        before = device.versions(1)
        begun = time.monotonic()
        device.publish("command/rollback", {"pipeline": PIPELINE})
        wait_until(lambda before=before: device.versions(1) != before, 30)  # type: ignore[misc]
        longest = max(longest, time.monotonic() - begun)
        device.consumer.wait_results(PIPELINE, 60, 30)
    return round(longest, 3)
