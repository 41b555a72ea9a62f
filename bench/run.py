"""Measure Limpet here and write docs/explanation/benchmarks.md. The last line printed is one JSON object.

BENCH_SCALE shortens it, for instance 0.1 for a look.
"""

from __future__ import annotations

import compileall
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "tests")]

import beside  # noqa: E402
import fetch  # noqa: E402
import first  # noqa: E402
import hot_path  # noqa: E402
import running  # noqa: E402
import startup  # noqa: E402
from limpet.runtimes import tflite  # noqa: E402
from stand import KEYWORD, SHUTTLE, Stand  # noqa: E402

TARGETS = {
    "vision_int8": ("throughput ratio, EfficientNet-Lite0 int8 224 x 224", "at least 0.96"),
    "vision_fed_ratio": ("the same beside a loop that copies images in and results out", "at least 0.99"),
    "keyword_int8": ("throughput ratio, DS-CNN int8 (MLPerf Tiny's keyword model)", "at least 0.6"),
    "demo": ("throughput ratio, the demo's autoencoder", "reported"),
    "total_pss_mb": (
        "all of Limpet with one serial pipeline and MQTT, PSS in MB, while the fork server rests",
        "reported",
    ),
    "script_pss_ratio": ("the same by `bench/script.py`", "at most 1.25"),
    "script_cpu_ratio": ("CPU at 1 kHz x 9 channels by `bench/script.py`", "at most 0.25"),
    "buffered_cpu_ratio": ("the same by the script with its own buffer for lines", "reported"),
    "supervisor_pss_mb": ("with two workers: supervisor, PSS in MB", "at most 25"),
    "forkserver_pss_mb": ("fork server before it rests, PSS in MB", "at most 25"),
    "worker_pss_mb": ("a worker with the demo's model, PSS in MB", "at most 12"),
    "restart_ratio": ("a worker from the warm fork server, by a cold start", "at most 0.25"),
    "rested_ratio": ("a worker from a resting fork server, by a cold start", "reported"),
    "first_result_ratio": ("first published result, by Python + numpy + runtime + model", "at most 1.5"),
    "busy_first_result_ratio": ("the same while other processes keep every core busy", "at most 1.5"),
    "serial_1khz_dropped": ("samples or results lost of 1 kHz x 6 channels", "0"),
    "serial_1khz_cpu_share": ("CPU outside invoke at 1 kHz x 6 channels, share of a core", "below 0.25"),
    "end_to_end_per_s": ("results a second at a subscriber, through mosquitto", "reported"),
}


def main() -> None:
    scale = float(os.environ.get("BENCH_SCALE", "1"))
    # Installed, Limpet has its bytecode as numpy has: pip compiles both.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    compileall.compile_dir(ROOT / "agent", quiet=1)
    figures: dict[str, Any] = {}
    for name, model in {"vision_int8": fetch.vision_model(), "keyword_int8": KEYWORD, "demo": SHUTTLE}.items():
        print(f"{name} ...", flush=True)
        figures[name] = hot_path.measure(model, 30 * scale)
    figures["vision_fed_ratio"] = figures["vision_int8"]["fed_ratio"]
    rounds = max(3, round(15 * scale))
    with tempfile.TemporaryDirectory() as folder, Stand(Path(folder) / "stand").running() as stand:
        print("start and restart ...", flush=True)
        figures |= first.first_result(stand, rounds)
        figures |= first.first_result_busy(stand, rounds)
        figures |= startup.restart(stand, rounds)
        print("running daemon ...", flush=True)
        figures |= running.footprint(stand, 20 * scale)
        figures |= running.serial(stand, 30 * scale)
        figures |= running.end_to_end(stand, 10 * scale)
        print("beside a script ...", flush=True)
        figures |= beside.measure(stand, max(3.0, 10 * scale), max(1, round(5 * scale)))
    if scale >= 1:
        (ROOT / "docs" / "explanation" / "benchmarks.md").write_text(page(figures))
    print(json.dumps(figures))


def page(figures: dict[str, Any]) -> str:
    """Return docs/explanation/benchmarks.md."""
    rows = [f"| {said} | {shown(figures[key])} | {target} |" for key, (said, target) in TARGETS.items()]
    shares = " | ".join(str(figures[f"{side}_cpu_share"]) for side in ("limpet", "script", "buffered"))
    machine = f"{platform.machine()}, {os.cpu_count()} shared cores, Python {platform.python_version()}"
    return f"""# Benchmarks

Made by `make bench` on {time.strftime("%Y-%m-%d")}: {machine}, {tflite.package} {tflite.version}, one thread.
Ratios were taken in one run, both sides in turn. Absolute times hold for this machine only.

Memory was measured on a copy of Python, its packages and all shared libraries. So no other program shares their
pages, neither the benchmark nor mosquitto. `bench/compare.py --base CHECKOUT` measures two versions of Limpet in
turn.

| what | measured | wanted |
| --- | --- | --- |
{chr(10).join(rows)}

## Beside a script

`bench/script.py` is what a user would write: pyserial, LiteRT and paho in one file. It publishes each result with
QoS 1. It reads lines with pyserial's `readline()`. "Buffered" reads all bytes that came, and splits them itself.
All got 1,000 lines a second of nine numbers from the same board, and used the demo's model and the same broker.
Figures are those of all processes of each, and medians of rounds in turn.

| | Limpet | script | script, buffered |
| --- | --- | --- | --- |
| CPU, share of a core | {shares} |
| PSS in MB | {figures["total_pss_mb"]} | {figures["script_pss_mb"]} | |
| samples without a result | {figures["beside_lost"]} | {figures["script_lost"]} | |

Memory is measured while the fork server rests. It rests after ten seconds in which no process was started.
Before that all of Limpet takes {figures["awake_pss_mb"]} MB. Then the supervisor takes
{figures["beside_supervisor_mb"]} MB, the fork server {figures["beside_forkserver_mb"]} MB, and the worker
{figures["beside_worker_mb"]} MB.

## The hot path, µs an inference

"Bare" is a loop of nothing but `invoke()` on its own interpreter. "Fed" is a loop that sets the input to
another image each time, invokes, and gets the output. "Whole" is the way from samples to result. It has the
window, the transforms, the quantized input, `invoke()`, the real values of the output, and the decoder. Samples
come in blocks of 256, images in blocks of 8. The demo's windows go through the model in batches of 64: there the
last three columns are the time of a whole batch.

| model | bare | fed | whole | bare by whole | fed by whole | transform | invoke with copies | decode |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
{chr(10).join(hot_path_row(name, figures[name]) for name in ("vision_int8", "keyword_int8", "demo"))}

## Start

| what | ms |
| --- | --- |
| Python + numpy + runtime + model load + one invoke, alone | {figures["bare_ms"]} |
| `limpet run` to the first result at a subscriber | {figures["first_result_ms"]} |
| Python + numpy + runtime + model load + one invoke, while every core is busy | {figures["busy_bare_ms"]} |
| `limpet run` to the first result at a subscriber, while every core is busy | {figures["busy_first_result_ms"]} |
| first worker, from nothing | {figures["cold_ms"]} |
| one more worker from the warm fork server | {figures["restarted_ms"]} |
| one more worker from a resting fork server | {figures["rested_ms"]} |
"""


def hot_path_row(name: str, measured: dict[str, Any]) -> str:
    stages = " | ".join(str(measured["stages_us"][stage]) for stage in ("transform", "invoke", "decode"))
    return (
        f"| {name} | {measured['bare_us']} | {measured['fed_us']} | {measured['pipeline_us']} | "
        f"{measured['throughput_ratio']} | {measured['fed_ratio']} | {stages} |"
    )


def shown(figure: Any) -> str:
    return str(figure["throughput_ratio"] if isinstance(figure, dict) else figure)


if __name__ == "__main__":
    main()
