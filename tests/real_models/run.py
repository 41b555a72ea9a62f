"""``make real-models``: models of other people through ``limpet-convert``, as their users would convert them.

Each model of ``catalogue/`` gets a folder in ``build/real-models`` with a project file, and goes through
``limpet-convert run``. A model with several inputs goes through ``convert`` and ``diff``. The float model is
compared with the source framework, apart from Limpet's code. Arguments name the models that are wanted. Figures of
the others are kept. The page docs/explanation/what-converts.md gets the tables. The last line is one JSON object.
Exit status 1 for a traceback or a refusal that is not clear.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from real_models import judging, page, prepare
from real_models.entry import ROOT, Entry

BUILD = ROOT / "build/real-models"
LOCK = ROOT / "requirements/real-models.txt"
HERE = Path(__file__).parent
SOURCES = sorted(
    [*HERE.glob("catalogue/*.py"), *(HERE / f"{name}.py" for name in ("material", "frameworks", "prepare"))]
)
"""What decides how a model's folder is written."""
LIMIT = 240.0
"""Seconds for a command. One that takes longer counts as unclear."""
SEARCH_LIMIT = 120.0
"""Seconds for ``mixed``, which tries many mixtures. One that takes longer has no figures."""
POINT = 0.01
"""int8 that loses more of the accuracy gets ``mixed`` too; without labels, more of R² beside the float answers."""


TIMEOUT = 124
COREML = """
[quantize]
variants = []

[verify]
max_metric_loss = 5.0

[coreml]
weights = "float16"
"""


class Done(NamedTuple):
    """A command that has ended, or was ended after its limit: then ``status`` is ``TIMEOUT``."""

    status: int
    said: str
    seconds: float


def main() -> int:
    """Convert the models, and write the table."""
    known = {entry.name: entry for entry in prepare.entries()}
    wanted = sys.argv[1:] or list(known)
    if unknown := set(wanted) - set(known):
        print(f"no model has the name {', '.join(sorted(unknown))}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    for name in wanted:
        row = tried(known[name])
        (BUILD / name / "row.json").write_text(json.dumps(row))
        print(f"{name}: {json.dumps(row)}", file=sys.stderr, flush=True)
    rows = {name: _kept(name) for name in known if (BUILD / name / "row.json").exists()}
    page.write(known, rows)
    unclear = [name for name, row in rows.items() if not row["converted"] and not row["refused_clearly"]]
    total = {
        "models": rows,
        "count": len(rows),
        "converted": sum(row["converted"] for row in rows.values()),
        "tracebacks": sum(row["tracebacks"] for row in rows.values()),
        "unclear": len(unclear),
        "foreign_lines": sum(row["foreign_lines"] for row in rows.values()),
    }
    print(json.dumps(total))
    return 1 if total["tracebacks"] or unclear else 0


def _kept(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((BUILD / name / "row.json").read_text())
    return found


def tried(entry: Entry) -> dict[str, Any]:
    """Return a model's figures."""
    folder = BUILD / entry.name
    if made := _prepared(entry, folder):
        return judging.refusal({"format": "", "names": []}, made.status, made.said, made.seconds)
    shutil.rmtree(folder / "build", ignore_errors=True)
    plan = json.loads((folder / "plan.json").read_text())
    if (folder / "inputs.npz").exists():
        return _several(entry, folder, plan)
    if not plan["ordered"]:
        command("-m", "limpet_convert", "convert", str(folder / "convert.toml"), "--output", str(folder / "first"))
        judging.write_targets(folder, folder / "first/float.tflite")
    done = command("-m", "limpet_convert", "run", str(folder / "convert.toml"))
    row = judging.judge(folder, plan, done.status, done.said, done.seconds)
    if row["converted"] and row["lost"] > POINT:
        row["mixed"] = _mixed(folder)
    if entry.coreml and row["converted"]:
        row["coreml"] = _coreml(folder)
    return row


def _prepared(entry: Entry, folder: Path) -> Done | None:
    """Write the model's folder, if it is not there or its code has changed. Return what went wrong."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in [*SOURCES, LOCK])).hexdigest()
    mark = folder / "prepared.txt"
    if mark.exists() and mark.read_text() == digest:
        return None
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    made = command("-m", "real_models.prepare", entry.name, str(folder))
    if made.status:
        return made
    mark.write_text(digest)
    return None


def _several(entry: Entry, folder: Path, plan: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of a model with several inputs, which a bundle cannot have."""
    made = ["--output", str(folder / "build"), "--options", entry.options]
    done = command("-m", "limpet_convert", "convert", str(folder / plan["model"]), *made)
    row = judging.refusal(plan, done.status, done.said, done.seconds)
    tflite = folder / "build" / f"{Path(plan['model']).stem}.tflite"
    if tflite.exists():
        row["way"] = judging.way(tflite)
        inputs = str(folder / "inputs.npz")
        pair = [str(folder / plan["model"]), str(tflite)]
        found = command("-m", "limpet_convert", "diff", *pair, "--inputs", inputs, "--json")
        row |= judging.difference(found.said)
    return row


def _mixed(folder: Path) -> dict[str, Any]:
    """Return what ``mixed`` makes of a model that loses in int8."""
    text = (folder / "convert.toml").read_text().replace("version = 1\n", 'version = 1\nvariant = "mixed"\n')
    (folder / "mixed.toml").write_text(text)
    output = folder / "mixed"
    shutil.rmtree(output, ignore_errors=True)
    project = str(folder / "mixed.toml")
    done = command("-m", "limpet_convert", "run", project, "--output", str(output), limit=SEARCH_LIMIT)
    said = f"none found within {SEARCH_LIMIT:.0f} s" if done.status == TIMEOUT else judging.told(done.said)
    return judging.variant(output, "mixed") | {"seconds": round(done.seconds, 1), "said": said}


def _coreml(folder: Path) -> dict[str, Any]:
    """Return how far a Core ML package in float16 is from the float model, or what was said."""
    text = (folder / "convert.toml").read_text().replace("version = 1\n", 'version = 1\nvariant = "float16"\n')
    (folder / "coreml.toml").write_text(f"{text}{COREML}")
    output = folder / "coreml"
    shutil.rmtree(output, ignore_errors=True)
    done = command("-m", "limpet_convert", "run", str(folder / "coreml.toml"), "--output", str(output))
    row = {"seconds": round(done.seconds, 1), "said": judging.told(done.said) if done.status else ""}
    packages = sorted(output.glob("*.mlpackage"))
    if not packages:
        return row | {"error": None}
    pair = [str(output / "float.tflite"), str(packages[0])]
    found = command("-m", "limpet_convert", "diff", *pair, "--inputs", str(folder / "test.npy"), "--json")
    return row | {"error": judging.difference(found.said)["float_error"]}


def command(*arguments: str, limit: float = LIMIT) -> Done:
    """Run Python with the environment of the converters."""
    paths = [ROOT / "agent", ROOT / "converters", ROOT / "tests"]
    environment = {**os.environ, "PYTHONPATH": ":".join(map(str, paths))}
    began = time.monotonic()
    with subprocess.Popen(
        [sys.executable, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            said, _ = process.communicate(timeout=limit)
            status = process.returncode
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            said, _ = process.communicate()
            status = TIMEOUT
    return Done(status, said, time.monotonic() - began)


if __name__ == "__main__":
    sys.exit(main())
