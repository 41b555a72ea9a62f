"""``make accel``: every way in which a delegate can fail, LiteRT's GPU and NPU, and accelerators on live sources.

It prints two tables and, as its last line, one JSON object.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from accel import live, phases
from support.delegate import build

ROOT = Path(__file__).parents[2]
PYTHONS = {"gpu": sys.executable, "npu": str(ROOT / ".venv-npu/bin/python")}

COLUMNS = {
    "to the CPU in s": "recovered_s",
    "back in s": "came_back_s",
    "windows lost": "lost_windows",
    "wrong results": "wrong_results",
    "equal to the CPU's": "results_equal",
    "others unbroken": "others_unbroken",
}
LIVE = {
    "device": "device",
    "windows": "windows",
    "unaccounted": "unaccounted",
    "dropped, counted": "dropped",
    "failovers counted": "failovers",
    "to the CPU in s": "recovered_s",
    "back in s": "came_back_s",
    "degraded": "degraded",
    "wrong or mixed": "wrong",
    "from the CPU's": "max_error",
}


def main() -> int:
    """Print the tables; 1 where something is not as it must be."""
    print(f"| fault | {' | '.join(COLUMNS)} |\n|{' --- |' * (1 + len(COLUMNS))}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        library = build(Path(scratch))
        rows: dict[str, dict[str, Any]] = {}
        for phase in [*phases.LOADING, *phases.RUNNING]:
            folder = Path(scratch) / phase.replace(" ", "-")
            folder.mkdir()
            row = rows[phase.replace(" ", "_")] = phases.suffer(phase, folder, library).as_dict()
            print(f"| {phase} | {' | '.join(str(row[key]) for key in COLUMNS.values())} |", flush=True)
    compiled = {kind: _run("compiled", kind) for kind in PYTHONS}
    for kind, row in compiled.items():
        print(f"{kind}: {row}", flush=True)
    print(f"| killed on a live source | {' | '.join(LIVE)} |\n|{' --- |' * (1 + len(LIVE))}", flush=True)
    killed = {kind: _run("live", kind) for kind in live.SCENES}
    for kind, row in killed.items():
        print(f"| {kind} | {' | '.join(str(row.get(key, '')) for key in LIVE.values())} |", flush=True)
    print(json.dumps({"phases": rows, **compiled, "live": killed}))
    ran = all(row["ran"] for row in compiled.values()) and all(map(_survived, killed.values()))
    return 0 if ran and all(map(_good, rows.values())) else 1


def _run(module: str, kind: str) -> dict[str, Any]:
    """Run a module in the environment that has the packages for a kind of accelerator."""
    python = PYTHONS.get(kind, sys.executable)
    if not Path(python).exists():
        return {"ran": False, "max_error": None, "placement": None, "reason": "make accel-setup was not run"}
    done = subprocess.run(
        [python, "-m", f"accel.{module}", kind],
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
        stdout=subprocess.PIPE,
        text=True,
        timeout=300,
        check=True,
    )
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def _survived(row: dict[str, Any]) -> bool:
    return bool(row["ran"] and row["failovers"] == 1 and not row["unaccounted"] and not row["wrong"])


def _good(row: dict[str, Any]) -> bool:
    sound = row["results_equal"] and row["came_back"] and row["others_unbroken"]
    return bool(sound and row["recovered_s"] < 2 and not row["lost_windows"])


if __name__ == "__main__":
    sys.exit(main())
