"""What a daemon with many sources takes: tasks and memory, for TasksMax= and MemoryMax= of the unit.

Prints the peak of a few seconds as one JSON object. Memory is PSS, so what processes share counts once.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests"))

from stand import SHUTTLE, Stand  # noqa: E402
from support.broker import wait_until  # noqa: E402
from support.daemon import Daemon, daemon  # noqa: E402

SECONDS = 2.0


def configure(stand: Stand, sources: int, pipelines: int) -> Path:
    """Write so many sources with so many pipelines each."""
    parts = []
    for source in range(sources):
        parts.append(stand.replay(f"s{source}", rate=10))
        parts += [
            f'\n[pipelines.s{source}p{number}]\nsource = "s{source}"\nmodel = "{SHUTTLE}"\n'
            for number in range(pipelines)
        ]
    return stand.configure(*parts)


def measure(running: Daemon) -> tuple[int, float]:
    """Return the tasks of all processes together, and their PSS in MB."""
    tasks, kilobytes = 0, 0
    for pid in (running.process.pid, *running.descendants()):
        tasks += len(list(Path(f"/proc/{pid}/task").iterdir()))
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        kilobytes += sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return tasks, kilobytes * 1024 / 1e6


def main() -> None:
    """Run a daemon and print its peak."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sources", type=int, default=16)
    parser.add_argument("--pipelines", type=int, default=4, help="for each source")
    parser.add_argument("--folder", type=Path, help="for what the daemon writes; a temporary one without it")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        stand = Stand((arguments.folder or Path(temporary)) / "stand")
        every = arguments.sources * arguments.pipelines
        with stand.running(), daemon(configure(stand, arguments.sources, arguments.pipelines)) as running:
            wait_until(lambda: running.log.count(": running") >= every, 60)
            peaks, until = [measure(running)], time.monotonic() + SECONDS
            while time.monotonic() < until:
                time.sleep(0.2)
                peaks.append(measure(running))
    found = {
        "running": every,
        "tasks": max(tasks for tasks, _ in peaks),
        "pss_mb": round(max(size for _, size in peaks), 1),
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
