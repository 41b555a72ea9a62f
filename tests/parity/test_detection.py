"""A detector that is lost in int8, on its whole way: found out, told why, and saved."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from limpet.contracts.data import Samples, SampleSpec
from limpet.inference.pipeline import Pipeline
from limpet.inference.single import plan_model
from limpet_convert import cli

if TYPE_CHECKING:
    from pathlib import Path

    from limpet.contracts.data import Array

keras: Any = pytest.importorskip("keras", reason="needs the environment of `make parity`")
litert: Any = pytest.importorskip("litert_quantizer.quantizer", reason="needs the environment of `make parity`")

pytestmark = pytest.mark.filterwarnings("ignore")  # the frameworks warn of each other's versions

LABELS = ["left", "right"]
GRID, CELL, PIXELS = 4, 4, 640
"""Cells of a side, pixels of a cell, and pixels of the camera's picture, in which boxes are told."""
SIDE = PIXELS / GRID
TOML = """
[model]
path = "m.keras"
[data]
calibration = "pictures.npy"
test = "pictures.npy"
targets = "targets.jsonl"
[bundle]
name = "halves"
version = 1
task = "detect"
labels = ["left", "right"]
decoder = {{ kind = "detect", pixels = [640, 640], threshold = 0.5 }}
variant = "{variant}"
transforms = [{{ kind = "normalise", mean = 0.0, std = 255.0 }}]
[quantize]
variants = ["int8"]
[verify]
max_size_ratio = 2.0
"""


def network(*, joined: bool) -> Any:
    """Say of each cell whether its left or its right half is lit; weights are set by hand."""
    given = keras.Input((GRID * CELL, GRID * CELL, 1))
    places = keras.layers.Conv2D(4, CELL, CELL, name="places")
    likely = keras.layers.Conv2D(2, CELL, CELL, activation="sigmoid", name="likely")
    start = np.zeros((1, GRID, GRID, 4), np.float32)
    start[..., 1], start[..., 0] = (np.mgrid[:GRID, :GRID] + 0.5) * SIDE
    boxes = keras.layers.Reshape((-1, 4), name="boxes")(keras.ops.add(places(given), start))
    scores = keras.layers.Reshape((-1, 2), name="scores")(likely(given))
    mean = np.full((CELL, CELL, 1, 1), 1 / CELL**2)
    places.set_weights([mean * [10, 10, 2 * SIDE, 2 * SIDE], np.zeros(4)])
    halves = np.sign(np.arange(CELL) - 1.5).reshape(1, CELL, 1, 1)
    likely.set_weights([halves * np.array([-1, 1]) * np.ones((CELL, 1, 1, 1)), np.array([-4, -4])])
    return keras.Model(
        given, keras.layers.Concatenate(name="both")([boxes, scores]) if joined else [boxes, scores]
    )


def pictures() -> tuple[Array, list[list[dict[str, Any]]]]:
    """Return pictures with lit halves of cells, and what is in each."""
    rng = np.random.default_rng(0)
    images = np.zeros((40, GRID * CELL, GRID * CELL, 1), np.uint8)
    truth: list[list[dict[str, Any]]] = [[] for _ in images]
    for picture, row, column in np.argwhere(rng.random((40, GRID, GRID)) < 0.3).tolist():
        half = int(rng.integers(2))
        left = column * CELL + half * CELL // 2
        images[picture, row * CELL : (row + 1) * CELL, left : left + CELL // 2] = 255
        corner = np.array([column * SIDE, row * SIDE]) + 5
        box = np.concatenate([corner, corner + SIDE]) / PIXELS
        truth[picture].append({"label": LABELS[half], "box": box.clip(0, 1).round(5).tolist()})
    return images, truth


def converted(folder: Path, variant: str, *, joined: bool) -> tuple[int, Any]:
    """Return the exit status and the report."""
    images, truth = pictures()
    network(joined=joined).save(folder / "m.keras")
    np.save(folder / "pictures.npy", images)
    (folder / "targets.jsonl").write_text("".join(json.dumps(one) + "\n" for one in truth))
    (folder / "convert.toml").write_text(TOML.format(variant=variant))
    status = cli.main(["run", str(folder / "convert.toml")])
    return status, json.loads((folder / "build" / "report.json").read_bytes())


def test_boxes_and_scores_on_one_scale_detect_nothing_and_the_report_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, report = converted(tmp_path, "int8", joined=True)
    assert status == 1
    assert report["variants"]["int8"]["exact"]["map"] == pytest.approx(1)
    assert report["variants"]["int8"]["converted"]["map"] == 0
    assert report["variants"]["int8"]["changes"][0]["to"] == "nothing"
    assert (report["faulty_layer"]["kind"], report["faulty_layer"]["cause"]) == ("CONCATENATION", "shared")
    printed = capsys.readouterr().out
    assert "misses: map lost 100.00 points" in printed
    assert "shared scale: `boxes` (" in printed
    assert not list((tmp_path / "build").glob("*.limpet"))
    assert "boxes of `left` are gone" in (tmp_path / "build" / "report.md").read_text()


@pytest.mark.parametrize(("variant", "joined"), [("mixed", True), ("int8", False)])
def test_a_mixture_or_two_outputs_save_it_and_the_agent_runs_the_bundle(
    tmp_path: Path, variant: str, *, joined: bool
) -> None:
    status, report = converted(tmp_path, variant, joined=joined)
    assert status == 0
    assert report["variants"][variant]["agreement"] == 1
    assert (report["faulty_layer"] is not None) == joined
    images, truth = pictures()
    spec = SampleSpec(images.shape[1:], images.dtype)
    stamps = np.arange(len(images), dtype=np.int64)
    plan = plan_model(tmp_path / "build" / "halves-1.limpet", spec, ["cpu"], tmp_path / "state")
    with Pipeline(plan) as pipeline:
        found = [result.output for result in pipeline.feed(Samples(images, stamps, stamps, 0))]
    for output, there in zip(found, truth, strict=True):
        by_place = sorted(output.detections, key=lambda one: one.box[1::-1])
        assert [one.label for one in by_place] == [one["label"] for one in there]
        boxes = np.array([one.box for one in by_place]).reshape(-1, 4)
        assert boxes == pytest.approx(np.array([one["box"] for one in there]).reshape(-1, 4), abs=0.01)
