"""``make models``: known models from sensor to MQTT, beside their makers' own code.

Each file of ``catalogue/`` is a model. Its bundle is made by ``limpet-convert``. The real daemon reads real
files with three lines of configuration, and its results come through a real broker. They are compared with what
the maker's code says of the same files, and with what these show.

Arguments name the models that are wanted. Everything is kept in ``build/models``. The last line is one JSON
object. Exit status 1 if a model differs by more than its tolerance.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from models import live, measured, sounds
from support.broker import listener, mosquitto, wait_until
from support.daemon import daemon as running

if TYPE_CHECKING:
    from models.entry import Entry, Model
    from models.photographs import Case
    from support.broker import Listener
    from support.daemon import Daemon

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build/models"
CATALOGUE = Path(__file__).parent / "catalogue"
PYTHONS = {
    "agent": Path(sys.executable),
    "converters": ROOT / ".venv-convert/bin/python",
    "mediapipe": ROOT / ".venv-mediapipe/bin/python",
}
LEAST = 10
"""Cases of a model."""
PATIENCE = 120.0


def main() -> int:
    """Print the figures of each model; 1 where one is not as it must be."""
    names = sys.argv[1:] or [path.stem for path in sorted(CATALOGUE.glob("[!_]*.py"))]
    rows: dict[str, dict[str, Any]] = {}
    for name in names:
        began = time.monotonic()
        try:
            rows[name] = prove(importlib.import_module(f"models.catalogue.{name}"))  # type: ignore[arg-type]
        except Exception as error:  # noqa: BLE001 - one model must not hide the others
            rows[name] = {"cases": 0, "error": f"{type(error).__name__}: {error}"[-2000:], "problem": True}
        print(f"{name}: {json.dumps(rows[name])}, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    failed = [name for name, row in rows.items() if row.pop("problem")]
    print(json.dumps({"models": rows, "count": len(rows), "failed": len(failed)}))
    return 1 if failed else 0


def prove(entry: Entry) -> dict[str, Any]:
    """Return the figures of a model."""
    model = entry.MODEL
    folder = BUILD / model.name
    shutil.rmtree(folder / "inputs", ignore_errors=True)
    bundle = made(model, folder)
    file = folder / "model.tflite"
    with zipfile.ZipFile(bundle) as archive:
        file.write_bytes(archive.read("model.tflite"))
    cases = entry.cases(folder / "inputs")
    answers = maker(model, model.maker, "answers", file, folder / "inputs")
    extra: dict[str, Any] = {}
    if model.hop:
        bare = maker(model, model.bare, "bare", file, folder / "inputs")
        answers = sounds.played(cases, answers)
        outputs, micros = sounds.limpet(bundle, folder, cases, model)
        cases = sounds.played(cases, cases)
    else:
        outputs = limpet(bundle, folder, cases)
        micros, bare = latency(model, bundle, file, folder / "inputs")
        extra = filmed(entry, bundle, file, folder / "live") if model.film else {}
    differences = [entry.difference(output, answer) for output, answer in zip(outputs, answers, strict=True)]
    (folder / "answers.json").write_text(
        json.dumps(
            [
                {"case": case.path.name, "output": output, "maker": answer}
                for case, output, answer in zip(cases, outputs, answers, strict=True)
            ],
            indent=1,
        )
    )
    largest = max(differences)
    rights = [entry.right(output, case) for output, case in zip(outputs, cases, strict=True)]
    equal, right = sum(one <= model.tolerance for one in differences), sum(rights) / len(cases)
    return {
        "cases": len(cases),
        "equal_share": round(equal / len(cases), 3),
        "right_share": round(right, 3),
        "max_difference": round(largest, 5) if math.isfinite(largest) else None,
        "tolerance_ratio": round(largest / model.tolerance, 3) if math.isfinite(largest) else 1e9,
        "latency_ratio": round(micros / bare, 3),
        **extra,
        "problem": equal < len(cases)
        or right < model.least_right
        or len(cases) < LEAST
        or any(row["tolerance_ratio"] > 1 for row in extra.values()),
    }


def filmed(entry: Entry, bundle: Path, file: Path, folder: Path) -> dict[str, Any]:
    """Return the figures of frames that move, by where they come from. ``any``: those with ``like = "any"``."""
    model, rows = entry.MODEL, {}
    for kind, found in live.limpet(model, bundle, folder).items():
        answers = maker(model, model.maker, "answers", file, found.frames)
        for how, outputs, tolerance in (
            (kind, found.outputs, model.tolerance),
            (f"{kind}_any", found.any_outputs, model.any_tolerance),
        ):
            differences = [entry.difference(output, one) for output, one in zip(outputs, answers, strict=True)]
            largest = max(differences)
            rows[how] = {
                "frames": len(differences),
                "equal_share": round(sum(one <= tolerance for one in differences) / len(differences), 3),
                "max_difference": round(largest, 5) if math.isfinite(largest) else None,
                "tolerance_ratio": round(largest / tolerance, 3) if math.isfinite(largest) else 1e9,
            }
    return rows


def latency(model: Model, bundle: Path, file: Path, pictures: Path) -> tuple[float, float]:
    """Return the median µs of a window: Limpet's transforms and run, and those of a plain loop beside it."""
    command = [PYTHONS["converters"], "-m", "models.latency", model.name, bundle, file, pictures]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the latency could not be measured: {done.stderr[-1500:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return found["limpet"], found["bare"]


def made(model: Model, folder: Path) -> Path:
    """Return the model's bundle, as a person makes it."""
    folder.mkdir(parents=True, exist_ok=True)
    if model.recipe:
        for old in folder.glob("*.limpet"):
            old.unlink()
        convert("-m", "limpet_convert", "recipe", model.recipe, "--output", str(folder))
        (found,) = folder.glob("*.limpet")
        return found
    project = ROOT / "converters/examples" / model.project
    if not list((project / "build").glob("*.limpet")):
        convert(str(project / "train.py"))
        convert("-m", "limpet_convert", "run", str(project / "convert.toml"))
    (found,) = (project / "build").glob("*.limpet")
    return found


def convert(*arguments: str) -> None:
    subprocess.run([PYTHONS["converters"], *arguments], env=environment(), stdout=sys.stderr, check=True)


def environment() -> dict[str, str]:
    """Return the environment in which other Pythons find this checkout."""
    paths = [ROOT / "agent", ROOT / "converters", ROOT / "tests"]
    return {
        **os.environ,
        "PYTHONPATH": ":".join(map(str, paths)),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "GLOG_minloglevel": "3",
    }


def maker(model: Model, python: str, what: str, file: Path, pictures: Path) -> Any:
    """Return what ``models.maker`` prints in one of the environments."""
    command = [PYTHONS[python], "-m", "models.maker", what, model.name, file, pictures]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the maker's code failed: {done.stderr[-1500:]}")
    return json.loads(done.stdout.splitlines()[-1])


def limpet(bundle: Path, folder: Path, cases: list[Case]) -> list[Any]:
    """Return the output for each case."""
    scratch = folder / "daemon"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    with mosquitto(scratch / "broker") as broker, listener(broker.port) as heard:
        config = scratch / "limpet.toml"
        config.write_text(configuration(bundle, folder / "inputs", broker.url, scratch / "state"))
        with running(config) as daemon:
            wait_until(lambda: ended(daemon, heard) or len(heard.results()["camera"]) >= len(cases), PATIENCE)
            assert daemon.stop() == 0, daemon.log[-2000:]
        results = sorted(heard.results()["camera"], key=lambda one: one["sample"])
    return [one["output"] for one in results]


def ended(daemon: Daemon, heard: Listener) -> bool:
    """Raise what the daemon says if it has ended or the pipeline has failed."""
    failed = any(message.json["event"] == "failed" for message in heard.on("event/camera"))
    if failed or daemon.process.poll() is not None:
        raise RuntimeError(f"the pipeline failed: {daemon.log[-1500:]}")
    return False


def configuration(bundle: Path, pictures: Path, url: str, state: Path) -> str:
    """Return a configuration: the device, and three lines for the model."""
    return f"""{measured.device(bundle, url, state)}
[sources.pictures]
kind = "images"
path = "{pictures}"

[pipelines.camera]
source = "pictures"
model = "{bundle.name.rpartition("-")[0]}"
"""


if __name__ == "__main__":
    sys.exit(main())
