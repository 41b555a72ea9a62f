"""What can be proven of the Core ML runtime without a Mac: what it says, takes, gives and refuses.

Loading and running a model is for macOS: on Linux every ``open`` is refused at once.
"""

from __future__ import annotations

import platform
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from limpet.contracts.data import TensorSpec
from limpet.contracts.delegate import Choice
from limpet.errors import ModelError
from limpet.models.coreml.specification import Feature
from limpet.runtimes import coreml
from limpet.runtimes.coreml import OpPlan

if TYPE_CHECKING:
    from pathlib import Path

MOTION = Feature(TensorSpec("motion", (1, 6, -1), np.dtype(np.float32)))
HALF = Feature(TensorSpec("half", (4,), np.dtype(np.float16)))
SCORES = Feature(TensorSpec("scores", (3,), np.dtype(np.float32)), scores=True)
OUTPUT = Feature(TensorSpec("output", (1, 2), np.dtype(np.float16)))

elsewhere = pytest.mark.skipif(platform.system() == "Darwin", reason="this is a Mac")


@elsewhere
@pytest.mark.parametrize("delegate", coreml.UNITS)
def test_without_macos_it_is_refused_at_once(tmp_path: Path, delegate: str) -> None:
    path = tmp_path / "motion.mlpackage"  # it does not even look for it
    with (
        pytest.raises(ModelError, match=r"motion\.mlpackage.*needs macOS.*\.tflite"),
        coreml.open(path, coreml.Config(), Choice(delegate, delegate), None),
    ):
        pass


@elsewhere
def test_check_says_all_that_is_wrong(tmp_path: Path) -> None:
    problems = coreml.check(tmp_path / "motion.mlpackage", ["anee", "cpu"])
    assert len(problems) == 2
    assert "'anee'" in problems[0]
    assert "did you mean 'ane'" in problems[0]
    assert "needs macOS" in problems[1]


def test_arrays_get_the_models_dtype_and_shape() -> None:
    given = coreml.encode(
        [MOTION, HALF],
        [MOTION.spec, HALF.spec],
        [np.ones((6, 20), np.float64), np.arange(4).reshape(1, 4)],
        "m",
    )
    assert {name: (values.shape, values.dtype) for name, values in given.items()} == {
        "motion": ((1, 6, 20), np.float32),
        "half": ((4,), np.float16),
    }


@pytest.mark.parametrize("inputs", [[], [np.ones((1, 5, 20))], [np.ones((1, 6, 20)), np.ones(4)]])
def test_inputs_that_do_not_fit_are_refused(inputs: list[np.ndarray]) -> None:
    with pytest.raises(ModelError, match=r"walk\.mlpackage"):
        coreml.encode([MOTION], [MOTION.spec], inputs, "walk.mlpackage")


def test_outputs_are_float32_and_scores_in_the_order_of_the_labels() -> None:
    found = {"output": np.array([[1.5, 2]], np.float16), "scores": {"run": 0.2, "idle": 0.7, "walk": 0.1}}
    output, scores = coreml.decode([OUTPUT, SCORES], ["idle", "run", "walk"], found)
    assert (output.dtype, scores.dtype) == (np.float32, np.float32)
    np.testing.assert_array_equal(output, [[1.5, 2]])
    np.testing.assert_allclose(scores, [0.7, 0.2, 0.1])
    (numbered,) = coreml.decode([SCORES], ["0", "1"], {"scores": {1: 0.9, 0: 0.1}})
    np.testing.assert_allclose(numbered, [0.1, 0.9])


@pytest.mark.parametrize(
    ("plan", "wanted"),
    [
        ([OpPlan("conv", "ane", 0.9), OpPlan("softmax", "cpu", 0.1)], 0.9),
        ([OpPlan("conv", "ane", 0.0), OpPlan("softmax", "cpu", 0.0)], 0.5),
        ([OpPlan("conv", "cpu", 0.9), OpPlan("softmax", "gpu", 0.1)], 0.0),
        ([], 0.0),
    ],
)
def test_the_share_on_the_neural_engine(plan: list[OpPlan], wanted: float) -> None:
    assert coreml.share(plan, "ane") == pytest.approx(wanted)


def test_a_compiled_model_is_kept_until_the_model_or_the_tools_change(tmp_path: Path) -> None:
    compiled = []

    def compile_model(model: str, destination: str) -> str:
        compiled.append((model, destination))
        (tmp_path / "cache").joinpath(destination).mkdir()
        return destination

    tools = SimpleNamespace(__version__="9.0", utils=SimpleNamespace(compile_model=compile_model))
    package = tmp_path / "m.mlpackage"
    package.mkdir()
    (package / "Manifest.json").write_text("{}")
    first = coreml.compile_once(tools, package, tmp_path / "cache")
    assert coreml.compile_once(tools, package, tmp_path / "cache") == first
    assert len(compiled) == 1
    (package / "Manifest.json").write_text("{ }")
    second = coreml.compile_once(tools, package, tmp_path / "cache")
    tools.__version__ = "9.1"
    third = coreml.compile_once(tools, package, tmp_path / "cache")
    assert len({first, second, third}) == 3
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {first.name, second.name, third.name}
    assert first.suffix == ".mlmodelc"
