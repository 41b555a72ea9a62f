"""Make and verify every example, and print one JSON object at the end: ``make parity``.

Each example is trained once; then ``limpet-convert run`` goes its whole way twice, into two folders, and the two
bundles must be the same bytes. On every TFLite runtime there is, the agent runs the bundle's golden vectors and a
recording. Core ML packages are executed as MIL programs, which proves the conversion and not Apple's runtime.

Exit status 1 if an example misses a threshold of its project file, or a Core ML package differs too much. It is
also 1 if the agent answers otherwise or a spoiled layer was not named. Progress and errors are on stderr.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import poisoned

from limpet.filling import fill
from limpet_convert import compare, data, project, sources
from limpet_convert.converters import coreml
from limpet_convert.data import Windows

if TYPE_CHECKING:
    from limpet_convert.project import Project

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
EXAMPLES = ["shuttle", "imu", "digits", "vision", "regression", "keywords", "detection"]
COREML_WINDOWS = 64
COREML_FLOAT = 1e-3
COREML_TOLERANCE = {"float32": 1e-5, "float16": 0.005, "int8": 0.02, "palettized": 0.1}
"""Largest root mean square error, as a share of an output's standard deviation. A step of 8 bits is 1/256 of a
weight's range. The 64 values of a palette are four times as far apart. float32 has an absolute limit as well.
"""
RUNTIMES = {"ai-edge-litert": Path(sys.executable), "tflite-runtime": ROOT / ".venv-tflite-runtime/bin/python"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", default=EXAMPLES, help="which examples; by default all")
    parser.add_argument("--train", action="store_true", help="train again what was trained")
    arguments = parser.parse_args()
    began = time.monotonic()
    examples = {}
    for name in arguments.names:
        train(name, again=arguments.train)
        examples[name] = example(name)
        log(f"{name}: {json.dumps(examples[name])}")
    spoiled = poisoned.main()
    problems = [f"{name}: {problem}" for name, one in examples.items() for problem in one["problems"]]
    problems += [
        f"{case}: {one['poisoned_layer'] or 'no layer'} is poisoned, {one['found_layer'] or 'none'} was found"
        for case, one in spoiled.items()
        if one["found_layer"] != one["poisoned_layer"]
    ]
    for problem in problems:
        log(f"parity: {problem}")
    print(
        json.dumps(
            {
                "examples": examples,
                "poisoned": spoiled,
                "repaired": poisoned.repaired(),
                "seconds": round(time.monotonic() - began),
                "passed": not problems,
            }
        )
    )
    return 1 if problems else 0


def log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def train(name: str, *, again: bool) -> None:
    folder = HERE / name
    if again or not list((folder / "build").glob("model.*")):
        log(f"{name}: training")
        subprocess.run([sys.executable, str(folder / "train.py")], check=True, stdout=sys.stderr)


def example(name: str) -> dict[str, Any]:
    """Return an example's figures, and as ``problems`` what is wrong with them."""
    file = HERE / name / "convert.toml"
    wanted = project.read(file)
    began = time.monotonic()
    problems = limpet_convert("run", file)
    taken = time.monotonic() - began
    problems += limpet_convert("run", file, "--output", wanted.build / "again")
    bundle, again = (
        folder / f"{wanted.bundle.name}-{wanted.bundle.version}.limpet"
        for folder in (wanted.build, wanted.build / "again")
    )
    if problems:
        return {"problems": problems}
    identical = bundle.read_bytes() == again.read_bytes()
    one = json.loads((wanted.build / "report.json").read_bytes())["variants"][wanted.bundle.variant]
    test = data.held_back(wanted)
    agent = on_runtimes(wanted, bundle)
    packages = coreml_packages(wanted, test)
    problems = [] if identical else ["its two bundles differ"]
    problems += [f"{runtime}: {text}" for runtime, found in agent.items() for text in found.pop("problems")]
    problems += [
        f"Core ML {weights}: {text}" for weights, found in packages.items() for text in found.pop("problems")
    ]
    return {
        "variant": wanted.bundle.variant,
        "metric": one["metric"],
        "float": round(one["exact"][one["metric"]], 5),
        "metric_loss_points": round(one["metric_loss_points"], 4),
        "agreement": round(one["agreement"], 5),
        "size": one["size"],
        "size_ratio": round(one["size_ratio"], 4),
        "windows": len(test),
        "coreml_max_error": packages["float32"]["largest"],
        "coreml": packages,
        "agent": agent,
        "identical": identical,
        "samples": wanted.data.samples,
        "seconds": round(taken, 1),
        "problems": problems,
    }


def limpet_convert(*arguments: object) -> list[str]:
    """Run a command as a person would; return what is wrong where its exit status says so."""
    command = [sys.executable, "-m", "limpet_convert", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    sys.stderr.write(done.stdout)
    return [f"{' '.join(command[2:])}: exit status {done.returncode}"] if done.returncode else []


def coreml_packages(wanted: Project, test: Windows) -> dict[str, dict[str, Any]]:
    """Make the Core ML packages, and compare each with the float TFLite model over some of the test windows.

    ``largest``: the largest difference over all outputs. ``relative``: of an output's standard deviation.
    """
    step = max(1, len(test) // COREML_WINDOWS)
    some = Windows(test.values[::step], None if test.targets is None else test.targets[::step], {})
    exact = compare.run(wanted.build / "float.tflite", some.values)
    found = {}
    for weights, tolerance in COREML_TOLERANCE.items():
        path = wanted.build / f"{weights}.mlpackage"
        make_coreml(wanted, path, weights)
        one = compare.compare(weights, exact, compare.run(path, some.values), some, wanted.bundle)
        largest = float(f"{max(error['largest'] for error in one.errors):.3g}")
        relative = float(f"{max(error['relative'] for error in one.errors):.3g}")
        problems = [] if relative <= tolerance else [f"{relative} of an output's spread off, at most {tolerance}"]
        if weights == "float32" and largest >= COREML_FLOAT:
            problems.append(f"{largest} off, less than {COREML_FLOAT} wanted")
        if one.agreement < wanted.verify.min_agreement:
            problems.append(f"agreement {one.agreement:.2%}, at least {wanted.verify.min_agreement:.2%}")
        found[weights] = {"largest": largest, "relative": relative, "tolerance": tolerance}
        found[weights] |= {"agreement": round(one.agreement, 5), "problems": problems}
    return found


def make_coreml(wanted: Project, path: Path, weights: str) -> None:
    problems: list[str] = []
    config = fill(coreml.Config, wanted.coreml | {"weights": weights}, "coreml", wanted.base, problems)
    model, shape = sources.live_here(wanted.model.path, wanted.model.kind, wanted.model.options, wanted.base)
    coreml.convert(model, path, config, [shape])


def on_runtimes(wanted: Project, bundle: Path) -> dict[str, dict[str, Any]]:
    """Return what the agent makes of the bundle and of the first test recording, by runtime: ``on_device.py``."""
    recording = next(iter(data.recordings(wanted.data.test, wanted.bundle.labels)))[0]
    windows = len(data.windows(wanted, recording))
    script, channels = HERE / "on_device.py", json.dumps(wanted.bundle.channels)
    agent = {}
    for runtime, python in RUNTIMES.items():
        if not python.exists():
            log(f"not run: {runtime}, whose environment {python.parents[1]} is not there")
            continue
        command = [str(python), str(script), str(bundle), str(recording), str(windows), channels]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        found["problems"] = (
            [] if found["results"] == windows else [f"{found['results']} results of {windows} windows"]
        )
        if found["golden_of_tolerance"] > 1:
            found["problems"].append(
                f"golden vectors off by {found['golden_of_tolerance']:.2f} of their tolerance"
            )
        agent[runtime] = found
    return agent


if __name__ == "__main__":
    sys.exit(main())
