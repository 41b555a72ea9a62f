"""The committed model and excerpt, held to what the manifest says of them, with the real runtime."""

from __future__ import annotations

import gzip
import hashlib
import io
import zipfile
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from limpet.models import manifest as manifests
from limpet_convert import int8, metrics, shuttle

if TYPE_CHECKING:
    from collections.abc import Callable

    from limpet.contracts.data import FloatArray

FOLDER = resources.files("limpet") / "demo_data"
PROJECT = Path(__file__).parents[2] / "converters/examples/shuttle/convert.toml"
Run: TypeAlias = "Callable[[FloatArray], FloatArray]"


@pytest.fixture(scope="module")
def members() -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO((FOLDER / "shuttle-1.limpet").read_bytes())) as bundle:
        return {name: bundle.read(name) for name in bundle.namelist()}


@pytest.fixture(scope="module")
def manifest(members: dict[str, bytes]) -> manifests.Manifest:
    return manifests.parse(members["manifest.json"])


@pytest.fixture(scope="module")
def rows() -> shuttle.Rows:
    return shuttle.read(gzip.decompress((FOLDER / shuttle.EXCERPT).read_bytes()).decode().splitlines())


def real(details: dict[str, Any], stored: Any) -> Any:
    scale, zero = details["quantization"]
    return (stored.astype(np.float32) - zero) * scale


def interpreter(model: bytes) -> tuple[Interpreter, Run]:
    """Return an interpreter and what runs one window, real values in and out."""
    one = Interpreter(model_content=model, num_threads=1)
    one.allocate_tensors()
    (into,), (out,) = one.get_input_details(), one.get_output_details()
    scale, zero = into["quantization"]

    def run(window: FloatArray) -> FloatArray:
        one.set_tensor(into["index"], np.clip(np.rint(window / scale) + zero, -128, 127).astype(np.int8))
        one.invoke()
        return np.asarray(real(out, one.get_tensor(out["index"])), np.float32)

    return one, run


def model_input(manifest: manifests.Manifest, rows: shuttle.Rows) -> FloatArray:
    (table,) = manifest.transforms
    return shuttle.normalise(rows.values, table["mean"], table["std"], table["clip"])


def test_the_manifest_describes_the_model(members: dict[str, bytes], manifest: manifests.Manifest) -> None:
    one, _ = interpreter(members["model.tflite"])
    for said, details in (
        (manifest.inputs, one.get_input_details()),
        (manifest.outputs, one.get_output_details()),
    ):
        assert [t.shape for t in said] == [d["shape_signature"].tolist() for d in details] == [[-1, 9]]
        assert [t.dtype for t in said] == ["int8"]
        assert [(t.scale[0], t.zero_point[0]) for t in said] == [d["quantization"] for d in details]
    assert manifest.inputs[0].channels == shuttle.CHANNELS
    assert int8.not_int8(t for t in one.get_tensor_details() if t["name"]) == []


def test_golden_vectors_lie_on_both_sides_of_the_threshold(
    members: dict[str, bytes], manifest: manifests.Manifest
) -> None:
    golden = np.load(io.BytesIO(members["golden.npz"]), allow_pickle=False)
    scores = shuttle.scores(golden["input_0"][:, 0], golden["output_0"][:, 0])
    assert 1 <= (scores >= manifest.decoder["threshold"]).sum() <= 12


def test_the_model_does_on_the_excerpt_what_the_manifest_says(
    members: dict[str, bytes], manifest: manifests.Manifest, rows: shuttle.Rows
) -> None:
    _, run = interpreter(members["model.tflite"])
    inputs = model_input(manifest, rows)
    outputs = np.concatenate([run(window[None]) for window in inputs])
    found = metrics.anomaly(shuttle.scores(inputs, outputs), rows.anomalous, manifest.decoder["threshold"])
    assert found == pytest.approx(manifest.metrics["int8"], abs=0.005)  # runtimes differ by a step of the scale
    assert min(found["precision"], found["recall"]) > 0.9


def test_many_rows_at_once_give_what_each_gives_alone(
    members: dict[str, bytes], manifest: manifests.Manifest, rows: shuttle.Rows
) -> None:
    inputs = model_input(manifest, rows)[:64]
    one, run = interpreter(members["model.tflite"])
    alone = np.concatenate([run(window[None]) for window in inputs])
    one.resize_tensor_input(one.get_input_details()[0]["index"], [64, 9])
    one.allocate_tensors()
    np.testing.assert_allclose(run(inputs), alone, atol=manifest.tolerance.absolute)


def test_no_row_of_the_excerpt_was_trained_on(rows: shuttle.Rows) -> None:
    assert set(rows.parts) == {"test"}
    assert len(np.unique(rows.values, axis=0)) == len(rows.values) == 9823
    assert 0.06 < rows.anomalous.mean() < 0.08


def test_provenance_names_no_place(members: dict[str, bytes]) -> None:
    provenance = manifests.parse(members["manifest.json"]).provenance
    assert provenance["inputs"]["project"] == hashlib.sha256(PROJECT.read_bytes()).hexdigest()
    assert set(provenance["inputs"]) == {"project", "model", "calibration", "test", "targets"}
    assert b"CC BY 4.0" in members["MODEL_CARD.md"]
    assert {"tensorflow-cpu", "keras", "numpy", "ai-edge-litert", "python"} <= set(provenance["tools"])
    assert not any(place in members["manifest.json"] for place in (b"/tmp", b"/home", b"/work", b"/root"))
