"""What came of a conversion: figures from the files that it wrote, and whether what it said is clear."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from real_models import frameworks

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

LONGEST = 60.0
"""Seconds after which a refusal is not clear: its user has gone."""
CLOSE = 1e-2
"""Largest difference from the source, in standard deviations of the output, of a converted model."""
_KEYS = re.compile(r"\b(model|data|bundle|quantize|verify|search)\.[a-z_]+(\.[a-z_]+)?\b")
_FOREIGN = re.compile(
    r"\x1b\[|\[\d+m|^[WIEF]\d{4} |^(WARNING|INFO|ERROR)[: ]|\d%\|| it/s|^loc\(|^\d{4}-\d\d-\d\d \d\d:"
)
_TRACE = re.compile(r"^Traceback \(most recent call last\)|^  File \".*\", line \d+", re.MULTILINE)


def judge(folder: Path, plan: dict[str, Any], status: int, said: str, seconds: float) -> dict[str, Any]:
    """Return the figures of ``limpet-convert run``."""
    row = refusal(plan, status, said, seconds)
    build = folder / "build"
    bundles = list(build.glob("*.limpet"))
    row["bundle"] = bool(bundles)
    if (build / "float.tflite").exists():
        row["way"] = way(build / "float.tflite")
        row["float_error"] = _error(folder, build / "float.tflite")
    row |= {key: value for key, value in variant(build, "int8").items() if key in row}
    row["converted"] = (
        row["int8_loss"] is not None and row["float_error"] is not None and row["float_error"] <= CLOSE
    )
    return row


def refusal(plan: dict[str, Any], status: int, said: str, seconds: float) -> dict[str, Any]:
    """Return a row without figures: how long it took, and whether what was said is clear."""
    traces = len(_TRACE.findall(said))
    foreign = [line for line in said.splitlines() if _FOREIGN.search(line)]
    last = told(said)
    text = re.sub(r"\S+/\S+", "", last)  # A file's name says nothing of what is in it.
    named = bool(_KEYS.search(text)) or any(_mentions(text, name) for name in plan["names"])
    clear = status == 1 and named and not traces and not foreign and seconds <= LONGEST
    return {
        "format": plan["format"],
        "converted": False,
        "refused_clearly": clear,
        "float_error": None,
        "int8_loss": None,
        "lost": None,
        "accuracy": None,
        "size_ratio": None,
        "bundle": False,
        "seconds": round(seconds, 1),
        "way": "",
        "said": last if status else "",
        "tracebacks": traces,
        "foreign_lines": len(foreign),
    }


def told(said: str) -> str:
    """Return the last thing that ``limpet-convert`` said: an error, or that no bundle was written."""
    lines = [line for line in said.splitlines() if line.strip()]
    marked = [line for line in lines if line.startswith(("limpet-convert: ", "No bundle was written"))]
    return (marked or lines or [""])[-1].removeprefix("limpet-convert: ")


def _mentions(text: str, name: str) -> bool:
    return re.search(rf"(?<![\w.]){re.escape(name)}(?![\w])", text) is not None


def variant(build: Path, name: str) -> dict[str, Any]:
    """Return what the report says of a variant. ``lost``: of the accuracy, or of R² beside the float answers."""
    report = build / "report.json"
    found = json.loads(report.read_text())["variants"] if report.exists() else {}
    one = found.get(name) if isinstance(found, dict) else next((v for v in found if v["variant"] == name), None)
    if one is None:
        return {"int8_loss": None, "lost": None, "accuracy": None, "size_ratio": None}
    classifies = one["metric"] == "accuracy"
    return {
        "int8_loss": max(error["relative"] for error in one["errors"]),
        "lost": _lost(one),
        "accuracy": one["exact"]["accuracy"] if classifies else None,
        "size_ratio": one["size_ratio"],
    }


def _lost(one: dict[str, Any]) -> float:
    """Return the accuracy that is lost, or the R² of the output that loses most."""
    outputs = one["exact"].get("outputs", {})
    pairs = [(found["r2"], one["converted"]["outputs"][name]["r2"]) for name, found in outputs.items()]
    lost = [before - after for before, after in pairs if before is not None and after is not None]
    return max([one["metric_loss_points"] / 100, *lost])


def difference(said: str) -> dict[str, Any]:
    """Return what ``limpet-convert diff --json`` says of two models' outputs."""
    found = json.loads(said.strip().splitlines()[-1])
    errors = [one.get("relative") for one in found["outputs"]]  # An output without a counterpart has none.
    error = None if None in errors else max(errors)
    return {"float_error": error, "converted": error is not None and error <= CLOSE}


def write_targets(folder: Path, model: Path) -> None:
    """Write the source's answers as targets in the order and the layout of the float model, if there is one."""
    if not model.exists():
        return
    exact, other = _both(folder, model)
    rows = [min(_layouts(exact, [one]), key=lambda pair: _distance(*pair))[0] for one in other]
    np.save(folder / "targets.npy", np.concatenate([row.reshape(len(row), -1) for row in rows], axis=1))


def _error(folder: Path, model: Path) -> float:
    """Return the largest difference of the float model from the source, in standard deviations of the output."""
    exact, other = _both(folder, model)
    return max(min((_distance(a, b) for a, b in _layouts([one], other)), default=float("inf")) for one in exact)


def _both(folder: Path, model: Path) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
    """Return the outputs of the source and of the float model, each ``(n, ...)``."""
    with np.load(folder / "answers.npz") as kept:
        exact = [kept[name] for name in sorted(kept)]
    return exact, frameworks.answers(model, np.load(folder / "test.npy"), first=False)


def _layouts(
    exact: Sequence[NDArray[np.float32]], others: Sequence[NDArray[np.float32]]
) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Return pairs that can be the same output: names and order differ, and channels may be last in the second."""
    pairs = [(one, other) for one in exact for other in others if one.size == other.size]
    moved = [(np.moveaxis(one, 1, -1), other) for one, other in pairs if one.ndim > 2]
    return pairs + moved


def _distance(exact: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    spread = max(float(exact.std()), 1e-6 * float(np.abs(exact).max()), 1e-12)
    return float(np.abs(exact - other.reshape(exact.shape)).max()) / spread


def way(model: Path) -> str:
    """Return how a float model was made, if its description says so."""
    import tflite

    said = (tflite.Model.GetRootAs(model.read_bytes()).Description() or b"").decode(errors="replace")
    return said.removeprefix("converted by ") if said.startswith("converted by ") else ""
