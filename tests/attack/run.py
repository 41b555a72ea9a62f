"""``make attack``: tries what an intruder could try in a worker, an executor, the broker or a bundle.

Prints a table with every attempt and what happened, and writes it to ``build/attack.md``. The last line is one
JSON object. Exit status 1 if a border gave way.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from attack import brokers, bundles, commands, executors, state, workers
from attack.ground import ground
from attack.report import HEAD, Report

ROOT = Path(__file__).parents[2]


def _workers(folder: Path, report: Report) -> None:
    with ground(folder, report) as prepared:
        workers.run(prepared, [*workers.ESCAPES, *workers.RECORDS, *workers.FLOODS])


def _commands(folder: Path, report: Report) -> None:
    with ground(folder, report) as prepared:
        commands.run(prepared)


def _brokers(folder: Path, report: Report) -> None:
    with ground(folder, report) as prepared:
        brokers.run(prepared)


def _state(folder: Path, report: Report) -> None:
    with ground(folder, report) as prepared:
        state.run(prepared)
        state.run_thousands(prepared, 2000)


def _bundles(folder: Path, report: Report) -> None:
    with ground(folder, report) as prepared:
        bundles.run(prepared)
        bundles.run_at_once(prepared)


def _executors(folder: Path, report: Report) -> None:
    with ground(folder, report) as prepared:
        executors.run(prepared)


GROUPS = {
    "workers": _workers,
    "executors": _executors,
    "commands": _commands,
    "brokers": _brokers,
    "state": _state,
    "bundles": _bundles,
}


def main() -> int:
    report = Report()
    wanted = os.environ.get("ATTACK_ONLY", ",".join(GROUPS)).split(",")
    print(HEAD, end="", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in wanted:
            GROUPS[name](Path(folder) / name, report)
    report.write(ROOT / "build" / "attack.md")
    for row in report.harmful():
        print(f"A border gave way: {row}")
    print(json.dumps(report.totals()))
    return 0 if report.holds() else 1


if __name__ == "__main__":
    sys.exit(main())
