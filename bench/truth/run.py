"""``make truth``: whether drift is found, probabilities are calibrated and answers are explained, in figures.

Each file part_NAME.py here is one part. Arguments name the parts that are wanted, all if there are none. A part's
figures and its section stay in build/truth, so that a part can be measured again alone. The page
docs/explanation/truth.md is made of the sections of all parts. The last line is one JSON object with all figures.
The page ends with those of ``goals.KEYS``.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import goals

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BUILD = ROOT / "build" / "truth"
PAGE = ROOT / "docs" / "explanation" / "truth.md"
PARTS = [
    "calibration",
    "bayes",
    "false_alarms",
    "power",
    "cost",
    "explain",
    "cascade",
    "story",
]
"""In the order of the page. Each module has ``measure() -> tuple[dict[str, Any], str]``: figures and a section."""
HEAD = """# Is it still right? What was measured

`make truth` makes this page. It takes models and data from packages, makes streams with known faults, and compares
Limpet's numbers with those of river, crepes, MAPIE, shap and SciPy.
"""
FOOT = """## The figures as JSON

    """


def main(wanted: Sequence[str]) -> int:
    """Measure these parts, and write the page. Return the exit status."""
    unknown = set(wanted) - set(PARTS)
    if unknown:
        print(f"bench/truth/run.py: no part has the name {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    BUILD.mkdir(parents=True, exist_ok=True)
    for name in wanted or PARTS:
        began = time.monotonic()
        figures, section = importlib.import_module(f"part_{name}").measure()
        (BUILD / f"{name}.json").write_text(json.dumps({"figures": figures, "section": section}), encoding="utf-8")
        print(f"{name}: {time.monotonic() - began:.0f} s {json.dumps(figures)}", flush=True)
    made = [json.loads(path.read_text(encoding="utf-8")) for path in map(_made, PARTS) if path.exists()]
    total: dict[str, Any] = {}
    for part in made:
        total |= part["figures"]
    chosen = {key: total[key] for key in goals.KEYS if key in total}
    sections = [HEAD, goals.section(total), *(part["section"] for part in made), FOOT + json.dumps(chosen)]
    PAGE.write_text("\n".join(sections) + "\n", encoding="utf-8")
    print(json.dumps(total))
    return 0


def _made(name: str) -> Path:
    return BUILD / f"{name}.json"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
