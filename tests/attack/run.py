"""``make attack``: tries what an intruder could try in a worker, an executor, the broker or a bundle.

Prints a table with every attempt and what happened, and writes it to ``build/attack.md``. The last line is one
JSON object. Exit status 1 if a border gave way. Groups of attempts run side by side, each with a daemon of its
own; arguments name those that are wanted.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))

from attack import api_clients, brokers, bundles, cameras, commands, executors, state, workers
from attack.ground import Ground, ground
from attack.report import HEAD, Report

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).parents[2]


def _workers(prepared: Ground) -> None:
    workers.run(prepared, [*workers.ESCAPES, *workers.RECORDS, *workers.FLOODS])


def _bundles(prepared: Ground) -> None:
    bundles.run(prepared)
    bundles.run_newer(prepared)
    bundles.run_at_once(prepared)


GROUPS: dict[str, Callable[[Ground], None]] = {
    "workers": _workers,
    "executors": executors.run,
    "state": state.run,
    "commands": commands.run,
    "bundles": _bundles,
    "brokers": brokers.run,
    "cameras": cameras.run,
    "api": api_clients.run,
    "damaged": state.run_thousands,
}


def attack(name: str, folder: Path) -> Report:
    """Make a group of attempts in a folder of its own."""
    report = Report()
    with ground(folder / name, report) as prepared:
        GROUPS[name](prepared)
    return report


def main(wanted: Sequence[str]) -> int:
    print(HEAD, end="", flush=True)
    report = Report()
    # Attempts wait most of the time.
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(2 * (os.cpu_count() or 1)) as pool:
        for found in pool.map(attack, wanted or GROUPS, [Path(folder)] * len(GROUPS)):
            report.take(found)
    report.write(ROOT / "build" / "attack.md")
    for row in report.harmful():
        print(f"A border gave way: {row}")
    print(json.dumps(report.totals()))
    return 0 if report.holds() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
