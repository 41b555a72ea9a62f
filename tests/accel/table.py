"""``make accel``: every way in which a delegate can fail, LiteRT's GPU and NPU, as a table and one JSON object."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from accel import phases
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


def main() -> int:
    """Print the table; 1 where something is not as it must be."""
    print(f"| fault | {' | '.join(COLUMNS)} |\n|{' --- |' * (1 + len(COLUMNS))}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        library = build(Path(scratch))
        rows: dict[str, dict[str, Any]] = {}
        for phase in [*phases.LOADING, *phases.RUNNING]:
            folder = Path(scratch) / phase.replace(" ", "-")
            folder.mkdir()
            row = rows[phase.replace(" ", "_")] = phases.suffer(phase, folder, library).as_dict()
            print(f"| {phase} | {' | '.join(str(row[key]) for key in COLUMNS.values())} |", flush=True)
    compiled = {kind: _compiled(kind) for kind in PYTHONS}
    for kind, row in compiled.items():
        print(f"{kind}: {row}", flush=True)
    print(json.dumps({"phases": rows, **compiled}))
    return 0 if all(map(_good, rows.values())) and all(row["ran"] for row in compiled.values()) else 1


def _compiled(kind: str) -> dict[str, Any]:
    """Run in the environment that has the packages for it."""
    if not Path(PYTHONS[kind]).exists():
        return {"ran": False, "max_error": None, "placement": None, "reason": "make accel-setup was not run"}
    done = subprocess.run(
        [PYTHONS[kind], "-m", "accel.compiled", kind],
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
        stdout=subprocess.PIPE,
        text=True,
        timeout=300,
        check=True,
    )
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def _good(row: dict[str, Any]) -> bool:
    sound = row["results_equal"] and row["came_back"] and row["others_unbroken"]
    return bool(sound and row["recovered_s"] < 2 and not row["lost_windows"])


if __name__ == "__main__":
    sys.exit(main())
