"""Make and verify every example, and print one JSON object at the end: ``make parity``.

Each example is trained once; then its whole way is gone twice into two folders, and the two bundles must be the
same bytes. On every TFLite runtime there is, the agent runs the bundle's golden vectors and a recording. Core
ML packages are executed as MIL programs, which proves the conversion and not Apple's runtime.

Exit status 1 where an example misses what its project file demands or a spoiled layer was not named.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import poisoned

from limpet_convert import data, package, project, runners
from limpet_convert.progress import Progress
from limpet_convert.steps import Way

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
EXAMPLES = ["shuttle", "imu", "digits", "vision", "regression", "keywords", "detection"]
COREML_WINDOWS = 16
COREML_FLOAT = 1e-3
RUNTIMES = {"ai-edge-litert": Path(sys.executable), "tflite-runtime": ROOT / ".venv-tflite-runtime/bin/python"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", default=EXAMPLES, help="which examples; by default all")
    parser.add_argument("--train", action="store_true", help="train again what was trained")
    arguments = parser.parse_args()
    examples = {}
    for name in arguments.names:
        train(name, again=arguments.train)
        examples[name] = example(name)
        print(f"{name}: {json.dumps(examples[name])}", file=sys.stderr)
    spoiled = poisoned.main()
    print(json.dumps({"examples": examples, "poisoned": spoiled, "repaired": poisoned.repaired()}))
    good = all(one["passed"] and one["identical"] for one in examples.values())
    return 0 if good and all(one["named_layer"] == one["guilty_layer"] for one in spoiled.values()) else 1


def train(name: str, *, again: bool) -> None:
    folder = HERE / name
    if again or not list((folder / "build").glob("model.*")):
        print(f"{name}: training", file=sys.stderr)
        subprocess.run([sys.executable, str(folder / "train.py")], check=True, stdout=sys.stderr)


def example(name: str) -> dict[str, Any]:
    """Return an example's figures."""
    wanted = project.read(HERE / name / "convert.toml")
    began = time.monotonic()
    way = Way(wanted, wanted.build, Progress())
    passed = way.verify()
    bundle = wanted.build / package.file_name(way.package())
    taken = time.monotonic() - began
    again = Way(wanted, wanted.build / "again", Progress())
    again.verify()
    identical = bundle.read_bytes() == (again.folder / package.file_name(again.package())).read_bytes()
    one = way.measure(wanted.bundle.variant)
    first = next(iter(data.recordings(wanted.data.test, wanted.bundle.labels)))[0]
    windows = len(data.windows(wanted, first))
    agent = {
        runtime: on_device(python, bundle, first, windows, wanted.bundle.channels)
        for runtime, python in RUNTIMES.items()
        if python.exists()
    }
    whole = all(one["golden_of_tolerance"] <= 1 and one["results"] == windows for one in agent.values())
    errors = coreml_errors(way)
    return {
        "metric": one.metric,
        "float": round(one.exact[one.metric], 5),
        "metric_loss_points": round(one.metric_loss_points, 4),
        "agreement": round(one.agreement, 5),
        "size": one.size,
        "size_ratio": round(one.size_ratio, 4),
        "windows": len(way.test),
        "coreml_max_error": errors["float32"],
        "coreml_errors": errors,
        "agent": agent,
        "identical": identical,
        "passed": passed and whole and errors["float32"] < COREML_FLOAT,
        "seconds": round(taken, 1),
    }


def coreml_errors(way: Way) -> dict[str, float]:
    """Return the largest difference from the float TFLite model's outputs, by the Core ML package's weights."""
    inputs = way.test.values[:: max(1, len(way.test) // COREML_WINDOWS)]
    found = {}
    for weights in ("float32", "float16", "int8", "palettized"):
        runner = runners.open_model(way.coreml(weights=weights))
        shape = runner.inputs[0].shape
        outputs = np.stack([np.ravel(runner.run([one.reshape(shape)])[0]) for one in inputs])
        exact = np.stack([np.ravel(runners.run_all(float_runner(way), one[None])[0]) for one in inputs])
        found[weights] = float(f"{np.abs(outputs - exact).max():.3g}")
    return found


def float_runner(way: Way) -> runners.Runner:
    return runners.open_model(way.folder / "float.tflite")


def on_device(python: Path, bundle: Path, recording: Path, windows: int, channels: list[str]) -> dict[str, Any]:
    """Return what the agent makes of the bundle on one runtime: see ``on_device.py``."""
    script = HERE / "on_device.py"
    command = [str(python), str(script), str(bundle), str(recording), str(windows), json.dumps(channels)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    sys.exit(main())
