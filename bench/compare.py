"""Measure two versions of Limpet on this machine in interleaved rounds, and print a table of both in Markdown.

    python bench/compare.py --base CHECKOUT

CHECKOUT is a folder with the version from before, such as a worktree of git. The hot path and the restart of a
worker use parts of Limpet, so each version's own ``bench/`` measures them. The rest is measured from outside, on
both in the same way.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "tests")]

import beside  # noqa: E402
import fetch  # noqa: E402
import first  # noqa: E402
import running  # noqa: E402
from stand import KEYWORD, SHUTTLE, Stand  # noqa: E402

HOT_PATH = """
import json, sys
from pathlib import Path
import hot_path
print(json.dumps(hot_path.measure(Path(sys.argv[1]), float(sys.argv[2]))))
"""
RESTART = """
import json, sys
from pathlib import Path
import startup
from stand import Stand
with Stand(Path(sys.argv[1])).running() as stand:
    print(json.dumps(startup.restart(stand, 3)))
"""
NOISE = 0.03
"""A smaller change than this share is no news."""
LESS, MORE = "less", "more"
ROWS = {
    "vision_ratio": ("throughput ratio, vision model", MORE),
    "vision_fed_ratio": ("vision model, fed loop by pipeline", MORE),
    "vision_pipeline_us": ("vision model, µs a window", LESS),
    "keyword_ratio": ("throughput ratio, keyword model", MORE),
    "keyword_pipeline_us": ("keyword model, µs a window", LESS),
    "demo_ratio": ("throughput ratio, demo's model", MORE),
    "demo_pipeline_us": ("demo's model, µs a window", LESS),
    "total_pss_mb": ("all of Limpet, one serial pipeline and MQTT, PSS in MB", LESS),
    "awake_pss_mb": ("the same before the fork server rests", LESS),
    "beside_supervisor_mb": ("of it the supervisor", LESS),
    "beside_forkserver_mb": ("of it the fork server", LESS),
    "beside_worker_mb": ("of it the worker", LESS),
    "script_pss_ratio": ("PSS by the script's", LESS),
    "limpet_cpu_share": ("CPU at 1 kHz x 9 channels, share of a core", LESS),
    "script_cpu_ratio": ("CPU by the script's", LESS),
    "buffered_cpu_ratio": ("CPU by the script's with its own buffer", LESS),
    "supervisor_pss_mb": ("two workers: supervisor, PSS in MB", LESS),
    "forkserver_pss_mb": ("two workers: fork server, PSS in MB", LESS),
    "worker_pss_mb": ("two workers: each worker, PSS in MB", LESS),
    "cold_ms": ("first worker from nothing, ms", LESS),
    "restarted_ms": ("one more worker, ms", LESS),
    "restart_ratio": ("one more worker by a cold start", LESS),
    "rested_ms": ("one more worker from a resting fork server, ms", LESS),
    "first_result_ms": ("first result, ms", LESS),
    "first_result_ratio": ("first result by the bare start", LESS),
    "busy_first_result_ms": ("first result on a busy machine, ms", LESS),
    "busy_first_result_ratio": ("first result by the bare start on a busy machine", LESS),
    "serial_1khz_dropped": ("lost of 1 kHz x 6 channels", LESS),
    "serial_1khz_cpu_share": ("CPU outside invoke at 1 kHz x 6 channels", LESS),
    "end_to_end_per_s": ("results a second at a subscriber", MORE),
}


def of_its_own(stand: Stand, checkout: Path, program: str, *arguments: object) -> dict[str, Any]:
    """Run a program on a version's own agent and ``bench/``; return what it prints."""
    paths = [str(checkout / folder) for folder in ("bench", "tests", "agent")]
    environment = stand.environment["PYTHONPATH"].split(os.pathsep)[1:]
    done = subprocess.run(
        [stand.python, "-c", program, *map(str, arguments)],
        env=os.environ | stand.environment | {"PYTHONPATH": os.pathsep.join(paths + environment)},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(checkout: Path, models: dict[str, Path], scale: float) -> dict[str, float]:
    """Measure everything once."""
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        stand = Stand(Path(folder) / "stand", checkout / "agent")
        for name, model in models.items():
            measured = of_its_own(stand, checkout, HOT_PATH, model, 6 * scale)
            figures[f"{name}_ratio"] = measured["throughput_ratio"]
            figures[f"{name}_pipeline_us"] = measured["pipeline_us"]
            if "fed_ratio" in measured:
                figures[f"{name}_fed_ratio"] = measured["fed_ratio"]
        figures |= of_its_own(stand, checkout, RESTART, Path(folder) / "restart")
        with stand.running():
            figures |= first.first_result(stand, 3)
            figures |= first.first_result_busy(stand, 3)
            figures |= running.footprint(stand, 5 * scale)
            figures |= running.serial(stand, 8 * scale)
            figures |= running.end_to_end(stand, 4 * scale)
            figures |= beside.measure(stand, 5 * scale, 1)
    return figures


def table(before: list[dict[str, float]], after: list[dict[str, float]]) -> str:
    """Return the medians of both, and the median over the rounds by how much the second is more or less."""
    lines = ["| what | before | after | change | |", "| --- | --- | --- | --- | --- |"]
    for key, (title, better) in ROWS.items():
        olds, news = ([one[key] for one in rounds if key in one] for rounds in (before, after))
        changes = [new / old - 1 for old, new in zip(olds, news, strict=False) if old]
        change = f"{median(changes):+.1%}" if changes else ""
        verdict = verdict_of(median(changes), better) if changes else ""
        lines.append(f"| {title} | {shown(olds)} | {shown(news)} | {change} | {verdict} |")
    return "\n".join(lines)


def verdict_of(change: float, better: str) -> str:
    if abs(change) < NOISE:
        return ""
    return "better" if (change < 0) == (better == LESS) else "worse"


def shown(figures: list[float]) -> str:
    return f"{median(figures):.4g}" if figures else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, help="a checkout of the version from before")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (default: 5)")
    arguments = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    models = {"vision": fetch.vision_model(), "keyword": KEYWORD, "demo": SHUTTLE}
    checkouts = arguments.base.resolve(), ROOT
    for checkout in checkouts:
        compileall.compile_dir(checkout / "agent", quiet=1)
    rounds: dict[Path, list[dict[str, float]]] = defaultdict(list)
    for number in range(arguments.rounds):
        for checkout in checkouts if number % 2 == 0 else reversed(checkouts):
            print(f"round {number + 1}, {checkout.name} ...", file=sys.stderr, flush=True)
            rounds[checkout].append(measure(checkout, models, float(os.environ.get("BENCH_SCALE", "1"))))
    print(table(rounds[checkouts[0]], rounds[ROOT]))


if __name__ == "__main__":
    main()
