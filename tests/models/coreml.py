"""``make models-coreml``: how far the Core ML forms of known models are from what TFLite gives for real inputs.

Each package is run as a MIL program with numpy, which proves the conversion and not Apple's runtime. Models whose
``.tflite`` file is all there is are translated from it. Their inputs are the pictures that ``make models`` has
written. The table goes into ``docs/explanation/coreml.md``. The last line is one JSON object.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from limpet.errors import LimpetError
from limpet_convert import data, mil, project, runners, sources
from limpet_convert.converters import coreml
from limpet_convert.graph import Graph

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.data import Array, TensorSpec

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/explanation/coreml.md"
BEGIN, END = "<!-- table: models -->", "<!-- end of table: models -->"
WEIGHTS = ("float32", "float16", "int8")
PROJECTS = ("yolo", "keywords")
PICTURES = 3
LIMIT = 1e-4
"""Largest difference of float32 of a float model, as a share of the largest output."""


def main() -> int:
    """Print the figures, and write the table. 1 if a float model differs by more than ``LIMIT``."""
    folders = [Path(text) for text in sys.argv[1:]] or [ROOT / "build/models"]
    rows = {}
    for bundle in sorted(file for folder in folders for file in folder.glob("*/*-1.limpet")):
        if bundle.name != "yolo-digits-1.limpet":
            rows[bundle.stem.removesuffix("-1")] = _of_bundle(bundle)
            print(bundle.stem, rows[bundle.stem.removesuffix("-1")], file=sys.stderr, flush=True)
    for name in PROJECTS:
        if list((ROOT / "converters/examples" / name / "build").glob("model.*")):
            rows[name] = _of_project(name)
            print(name, rows[name], file=sys.stderr, flush=True)
    text = PAGE.read_text(encoding="utf-8")
    head, tail = text.partition(BEGIN)[0], text.partition(END)[2]
    PAGE.write_text(f"{head}{BEGIN}\n{_table(rows)}{END}{tail}", encoding="utf-8")
    measured = {name: row for name, row in rows.items() if row["float"] and "why" not in row}
    bad = [name for name, row in measured.items() if row["float32"] > LIMIT * row["largest"]]
    print(json.dumps({"models": rows, "failed": bad}))
    return 1 if bad else 0


def _of_bundle(bundle: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch) / "model.tflite"
        with zipfile.ZipFile(bundle) as archive:
            model.write_bytes(archive.read("model.tflite"))
        exact = runners.open_model(model)
        graph = Graph(model.read_bytes())
        whole = any(op.kind == "QUANTIZE" for op in graph.ops) or exact.inputs[0].quantized
        row: dict[str, Any] = {"from": "int8 `.tflite`" if whole else "`.tflite`", "float": not whole}
        inputs = _inputs(bundle, exact.inputs[0]) if len(exact.inputs) == 1 else []
        wanted = [_run(exact, one) for one in inputs]
        return row | _figures(model, "tflite", inputs, wanted, Path(scratch))


def _of_project(name: str) -> dict[str, Any]:
    from limpet_convert.conversion import FLOAT

    file = ROOT / "converters/examples" / name / "convert.toml"
    wanted = project.read(file)
    if not (wanted.build / FLOAT).exists():
        (wanted.build / FLOAT).write_bytes(sources.to_float(wanted))
    inputs = [one[None] for one in data.held_back(wanted).values[:PICTURES]]
    exact = runners.open_model(wanted.build / FLOAT)
    answers = [_run(exact, one.reshape(_closed(exact.inputs[0]))) for one in inputs]
    row = {"from": "PyTorch", "float": True}
    with tempfile.TemporaryDirectory() as scratch:
        return row | _figures(wanted.model.path, wanted.model.kind, inputs, answers, Path(scratch))


def _run(model: runners.Runner, values: Array) -> list[Array]:
    """Return copies of a model's outputs, which are valid until its next run."""
    return [np.array(output) for output in model.run([values])]


def _closed(spec: TensorSpec) -> list[int]:
    return [max(size, 1) for size in spec.shape]


def _inputs(bundle: Path, spec: TensorSpec) -> list[Array]:
    """Return what the model's maker makes of pictures, as real values."""
    pictures = sorted((bundle.parent / "pictures").glob("*.png"))[:: PICTURES + 1][:PICTURES]
    if not pictures:  # The golden vectors are what the model has to be proven with.
        with zipfile.ZipFile(bundle) as archive, archive.open("golden.npz") as file:
            return list(np.load(file)["input_0"][:PICTURES])
    import cv2

    sys.path.insert(0, str(ROOT / "tests"))
    entry: Any = importlib.import_module(f"models.catalogue.{bundle.parent.name}")
    found = []
    for path in pictures:
        made = entry.prepare(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)).astype(np.float32)
        found.append((made - spec.zero_point[0]) * np.float32(spec.scale[0]) if spec.quantized else made)
    return found


def _figures(
    model: Path, kind: str, inputs: Sequence[Array], wanted: Sequence[Sequence[Array]], scratch: Path
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    try:  # In this process: a jail for each would load TensorFlow each time.
        live, shape = sources.live_here(model, kind, {}, scratch)
    except LimpetError as error:
        return {"why": str(error).removeprefix(f"{model}: ")}
    for weights in WEIGHTS:
        made = scratch / f"{weights}.mlpackage"
        coreml.convert(live, made, coreml.Config(weights=weights), [shape])
        program = mil.Program(made)
        apart = [
            float(np.abs(np.ravel(a) - np.ravel(b)).max())
            for one, outputs in zip(inputs, wanted, strict=True)
            for a, b in zip(program.run([one]), outputs, strict=True)
        ]
        found[weights] = float(f"{max(apart):.2g}")
    found["largest"] = float(f"{max(float(np.abs(each).max()) for outputs in wanted for each in outputs):.3g}")
    return found


def _table(rows: dict[str, dict[str, Any]]) -> str:
    heads = ("model", "made from", *WEIGHTS, "largest output")
    lines = [heads, tuple("---" for _ in heads)]
    for name, row in rows.items():
        if "why" in row:
            continue
        cells = [f"{row[key]:g}" for key in (*WEIGHTS, "largest")]
        lines.append((name, row["from"], *cells))
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    reasons: dict[str, list[str]] = {}
    for name, row in rows.items():
        if "why" in row:
            reasons.setdefault(row["why"], []).append(name)
    refused = "".join(f"* {', '.join(names)}: {why}.\n" for why, names in reasons.items())
    return text + (f"\nNot converted:\n\n{refused}" if refused else "")


if __name__ == "__main__":
    sys.exit(main())
