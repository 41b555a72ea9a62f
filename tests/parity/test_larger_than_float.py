"""An int8 file that is larger than the float file: the run says so, and packages a smaller variant that passes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from limpet_convert import cli
from limpet_convert.graph import Graph
from support import flatfile
from support.flatfile import Op, Tensor

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("matplotlib", reason="needs the environment of `make parity`")

DENSE, SIZE, STEPS = (9, 8), 32, 50
TOML = """
[model]
path = "m.tflite"
[data]
calibration = "x.npy"
test = "x.npy"
targets = "y.npy"
[bundle]
name = "m"
version = 1
task = "classify"
labels = LABELS
decoder = { kind = "classify" }
[quantize]
variants = VARIANTS
[reference]
enabled = false
[verify]
max_metric_loss = 40
min_agreement = 0.5
max_calibration_loss = 1
"""


def chain() -> bytes:
    """A dense layer that adds a little, again and again with the same weights, as recurrent layers do.

    In int8 each step has its own scale, and so its own bias.
    """
    bias = np.random.default_rng(1).uniform(0.01, 0.02, SIZE)
    tensors = [
        Tensor("weights", (SIZE, SIZE), values=np.eye(SIZE)),
        Tensor("bias", (SIZE,), values=bias),
        Tensor("input", (1, SIZE)),
        *(Tensor(f"step{number}", (1, SIZE)) for number in range(STEPS)),
    ]
    options = (DENSE[1], {"i8_0": 0, "i8_1": 0, "bool_2": False})
    ops = [Op(DENSE[0], [number + 2, 0, 1], [number + 3], options) for number in range(STEPS)]
    return Graph(flatfile.write([flatfile.Graph(tensors, ops, [2], [STEPS + 2])])).pack()


@pytest.mark.parametrize("variants", [["dynamic", "int8"], ["int8"]])
def test_it_is_reported_and_the_smallest_that_passes_is_packaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], variants: list[str]
) -> None:
    inputs = np.random.default_rng(0).normal(size=(40, SIZE)).astype(np.float32)
    (tmp_path / "m.tflite").write_bytes(chain())
    np.save(tmp_path / "x.npy", inputs)
    np.save(tmp_path / "y.npy", inputs.argmax(axis=1))
    labels = json.dumps([f"class{number}" for number in range(SIZE)])
    text = TOML.replace("LABELS", labels).replace("VARIANTS", json.dumps(variants))
    (tmp_path / "convert.toml").write_text(text)
    assert cli.main(["run", str(tmp_path / "convert.toml")]) == 0
    printed, build = capsys.readouterr().out, tmp_path / "build"
    packaged = variants[0]
    sizes = {name: (build / f"{name}.tflite").stat().st_size for name in ("float", *variants)}
    assert sizes[packaged] < sizes["float"] < sizes["int8"] or packaged == "int8"
    report = (build / "report.md").read_text()
    assert f"`{packaged}` is what gets packaged" in report
    for said in (printed, report):
        assert "int8: its file is larger than the float model's" in said
        assert ("dynamic passes and is smaller: it is packaged instead" in said) == (packaged == "dynamic")
        assert ("no other of quantize.variants that passes is smaller" in said) == (packaged == "int8")
    assert (build / "m-1.limpet").exists()
