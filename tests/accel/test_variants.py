"""A bundle with a model for the accelerator and one for the CPU: the right file for the delegate in use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from accel import phases
from limpet.contracts.data import SampleSpec
from limpet.errors import ModelError
from limpet.inference.admission import admitted
from limpet.inference.single import plan_model
from limpet.models import bundle as bundles
from support import models
from support.broker import wait_until
from support.bundles import bundle, golden
from support.daemon import daemon
from support.delegate import build

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("delegate"))


SAMPLES = SampleSpec((3,), np.dtype(np.float32))


def paired(folder: Path, delegates: list[str]) -> Path:
    """Write a bundle whose CPU model is three layers, and whose accelerator's model is one."""
    vector = np.full((2, 1, 3), 0.5, np.float32)
    members = {
        "model.tflite": models.dense(folder / "cpu.tflite", 3, 3, layers=3).read_bytes(),
        "model_edgetpu.tflite": models.dense(folder / "npu.tflite", 3, 3).read_bytes(),
        "golden.npz": golden([vector], [vector + 0.25]),
    }
    variant = {
        "runtime": "tflite",
        "model": "model_edgetpu.tflite",
        "delegates": delegates,
        "tolerance": {"absolute": 0.3},
    }
    fields = {"name": "pair", "version": 1, "golden": "golden.npz", "variants": [variant]}
    return bundle(folder / "pair-1.limpet", members, **fields)


def test_the_file_for_each_delegate(tmp_path: Path) -> None:
    loaded = bundles.load(paired(tmp_path, ["edgetpu"]), tmp_path / "cache")
    path, tolerance = loaded.suited({"coral", "edgetpu"})
    assert path.read_bytes() == (tmp_path / "npu.tflite").read_bytes()
    assert tolerance.absolute == 0.3
    path, tolerance = loaded.suited({"cpu"})
    assert path == loaded.model
    assert tolerance.absolute == 0.0
    assert loaded.suited({"gpu"})[0] == loaded.model


def test_placement_is_measured_by_the_model_for_the_cpu(tmp_path: Path, library: Path) -> None:
    path = paired(tmp_path, ["external"])
    plan = plan_model(path, SAMPLES, [f"external:{library}"], tmp_path / "cache")
    with admitted(plan, plan.delegates[0], None) as (model, placed):
        assert model.delegate.startswith("external:")
        assert placed.mac_share == 1.0


def test_golden_outputs_are_held_to_the_tolerance_of_the_file(tmp_path: Path, library: Path) -> None:
    plan = plan_model(paired(tmp_path, ["edgetpu"]), SAMPLES, [f"external:{library}"], tmp_path / "cache")
    with (
        pytest.raises(ModelError, match=r"wrong numbers: off by 0\.25 where 0 is allowed"),
        admitted(plan, plan.delegates[0], None),
    ):
        pass


def test_an_edge_tpu_bundle_without_one_runs_its_cpu_model_and_says_why(tmp_path: Path) -> None:
    with phases.board(tmp_path, tmp_path / "unused") as (path, _, consumer):
        members = {
            "model.tflite": (tmp_path / "dense.tflite").read_bytes(),
            "model_edgetpu.tflite": models.unknown(tmp_path / "edgetpu.tflite").read_bytes(),
        }
        variant = {"runtime": "tflite", "model": "model_edgetpu.tflite", "delegates": ["edgetpu"]}
        bundle(tmp_path / "pair-1.limpet", members, name="pair", version=1, variants=[variant])
        text = path.read_text().replace('delegates = ["board"]', 'delegates = ["edgetpu"]')
        path.write_text(text.replace('model = "dense.tflite"', 'model = "pair-1.limpet"', 1))
        with daemon(path) as running:
            consumer.wait_results("fast", 30)
            running.stop()
        results = consumer.results("fast")
        assert {(result["delegate"], result["degraded"]) for result in results} == {("cpu", True)}
        assert max(phases.difference(consumer, results)) == 0.0
        (event,) = consumer.events("fast", "degraded")
        assert "libedgetpu.so.1" in event["reason"]
        assert "install libedgetpu1-std" in event["reason"]


def test_a_model_that_the_cpu_cannot_run_says_what_it_lacks(tmp_path: Path) -> None:
    with phases.board(tmp_path, tmp_path / "unused") as (path, _, consumer):
        models.unknown(tmp_path / "only.tflite", size=3)
        path.write_text(path.read_text().replace('model = "dense.tflite"', 'model = "only.tflite"', 1))
        with daemon(path):
            wait_until(lambda: consumer.events("fast", "failed"))
            consumer.wait_results("beside", 20)
        assert "Put the model for the CPU into the same bundle" in consumer.events("fast", "failed")[0]["reason"]
