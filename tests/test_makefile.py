"""What ``make help`` prints."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_help_lists_every_target_of_a_person_by_group_in_columns() -> None:
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    rows = [line for line in done.stdout.splitlines() if line.startswith("  ")]
    phony = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert sorted(row.split()[0] for row in rows) == sorted(set(phony) - {"programs", "tflite-runtime"})
    assert len({re.match(r"  [a-z-]+ +", row).end() for row in rows}) == 1  # type: ignore[union-attr]
    assert [row.split()[0] for row in rows][:3] == ["demo", "venv", "test"]
    titles = [line for line in done.stdout.splitlines() if line.endswith(":")]
    assert titles == ["Start here:", "Develop:", "Prove:", "Measure:", "Build:"]
