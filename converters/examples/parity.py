"""Make and verify every example, and print one JSON object at the end: ``make parity``.

Each example is trained once; then its whole way is gone twice into two folders, and the two bundles must be the
same bytes. The bundle's golden vectors are run by the agent's own code on every TFLite runtime there is. Core
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

from limpet_convert import package, project, runners
from limpet_convert.progress import Progress
from limpet_convert.steps import Way

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
EXAMPLES = ["shuttle", "imu", "digits", "vision", "regression", "keywords"]
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
    golden = {runtime: differs(python, bundle) for runtime, python in RUNTIMES.items() if python.exists()}
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
        "golden_of_tolerance": golden,
        "identical": identical,
        "passed": passed and errors["float32"] < COREML_FLOAT and all(share <= 1 for share in golden.values()),
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


def differs(python: Path, bundle: Path) -> float:
    """Return how far a runtime's outputs lie from the golden ones, as a share of the bundle's tolerance."""
    script = HERE / "golden.py"
    done = subprocess.run([str(python), str(script), str(bundle)], capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    sys.exit(main())
