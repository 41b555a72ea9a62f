"""Proof against real interpreters, and against a model of numbers whose results are known."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from limpet.accelerators.delegate_kinds import resolve
from limpet.accelerators.delegate_library import load
from limpet.accelerators.placement import of_coverage, shortfall, why_not_worth
from limpet.contracts.assignment import DelegateTable
from limpet.contracts.data import TensorSpec
from limpet.errors import ModelError
from limpet.inference.proof import admit, noise, prove, time_share
from limpet.models import bundle as bundles
from limpet.models.tflite import model_graph
from limpet.models.tflite.coverage import coverage
from limpet.runtimes import tflite
from support import models
from support.delegate import build

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from limpet.contracts.data import Array
    from limpet.contracts.placement import Placement

DEMO = Path(bundles.__file__).parents[1] / "demo_data" / "shuttle-1.limpet"


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("delegate"))


def placed(model: Path, library: Path, fault: str = "") -> Placement:
    table = DelegateTable(kind="external", library=str(library), options={"fault": fault})
    delegate = load(resolve("board", {"board": table}))
    interpreter = tflite.Interpreter(str(model), experimental_delegates=[delegate])
    asked = coverage(interpreter)
    interpreter.allocate_tensors()
    return of_coverage("board", asked, coverage(interpreter), model_graph.read(model.read_bytes()))


def test_placement_of_a_delegate_that_takes_all(library: Path, tmp_path: Path) -> None:
    placement = placed(models.conv(tmp_path / "model", layers=3), library)
    assert [op.executor for op in placement.ops] == ["board"] * 3
    assert shortfall(placement, 1.0) == ""


def test_placement_of_a_delegate_that_takes_some(library: Path, tmp_path: Path) -> None:
    placement = placed(models.conv(tmp_path / "model", layers=4), library, "partial=1")
    assert placement.ops[0].executor == "board"
    assert (placement.op_share, placement.mac_share) == (0.25, 0.25)
    assert "the CPU is left with 3 CONV_2D" in shortfall(placement, 0.95)


def test_placement_of_a_delegate_that_takes_none(library: Path, tmp_path: Path) -> None:
    placement = placed(models.two(tmp_path / "model"), library)
    assert placement.share == 0.0
    assert "board" not in {op.executor for op in placement.ops}


MODELS: dict[str, Callable[[Path], Path]] = {
    "int8": lambda path: models.conv(path, layers=2),
    "float": lambda path: models.dense(path, int8=False, layers=2),
}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_a_delegate_that_computes_right_is_proven_right(
    make: Callable[[Path], Path], library: Path, tmp_path: Path
) -> None:
    path = make(tmp_path / "model.tflite")
    with (
        tflite.open(path, tflite.Config(), resolve(f"external:{library}", {})) as delegate,
        tflite.open(path, tflite.Config()) as cpu,
    ):
        proof = prove(delegate, cpu, noise(cpu), seconds=0.05)
    assert proof.right
    assert proof.error <= models.SCALE
    assert proof.vectors == 3
    assert why_not_worth(proof, 0.0) == ""
    assert proof.speed > 0


class Numbers:
    """A model that multiplies: a delegate whose results are known."""

    def __init__(self, factor: float = 1.0, spec: TensorSpec | None = None, size: int = 4) -> None:
        spec = spec or TensorSpec("value", (1, size), np.dtype(np.float32))
        self.inputs = self.outputs = (spec,)
        self.delegate, self.delegate_share = "numbers", 1.0
        self._factor = factor
        self.runs = 0

    def run(self, inputs: Sequence[Array]) -> Sequence[Array]:
        self.runs += 1
        with np.errstate(invalid="ignore"):
            return [np.float32(self._factor) * inputs[0]]

    def reset(self) -> None:
        self.runs = 0


VALUES = np.array([[1.0, -2.0, 3.0, 4.0]], np.float32)


@pytest.mark.parametrize(("factor", "error"), [(1.0, 0.0), (1.005, 0.02), (0.5, 2.0), (np.nan, np.inf)])
def test_error_is_the_largest_difference(factor: float, error: float) -> None:
    proof = prove(Numbers(factor), Numbers(), [([VALUES], None)], seconds=0)
    assert proof.error == pytest.approx(error, rel=1e-3)
    assert proof.right == (error < 0.04)  # a hundredth of the largest value


def test_golden_outputs_are_the_judge_where_there_are_some() -> None:
    golden = [([VALUES], [2 * VALUES])]
    assert prove(Numbers(2), Numbers(1), golden, seconds=0).right
    assert prove(Numbers(1), Numbers(1), golden, seconds=0).error == 4.0
    assert prove(Numbers(1), Numbers(1), golden, tolerance=4.0, seconds=0).right


def test_expected_nan_is_right() -> None:
    values = np.array([[np.nan, np.inf, 1.0, 1.0]], np.float32)
    assert prove(Numbers(), Numbers(), [([values], None)], seconds=0).error == 0.0


def test_quantized_outputs_may_differ_by_steps() -> None:
    spec = TensorSpec("value", (1, 4), np.dtype(np.int8), (0.5,), (0,))
    off = [([VALUES], [VALUES + 4.0])]
    assert prove(Numbers(spec=spec), Numbers(spec=spec), off, seconds=0).right
    further = [([VALUES], [VALUES + 4.5])]
    assert not prove(Numbers(spec=spec), Numbers(spec=spec), further, seconds=0).right


def test_outputs_of_another_size_are_refused() -> None:
    with pytest.raises(ModelError, match="shape"):
        prove(Numbers(), Numbers(), [([VALUES], [np.zeros((1, 3))])], seconds=0)


def test_both_run_equally_often() -> None:
    delegate, cpu = Numbers(), Numbers()
    prove(delegate, cpu, [([VALUES], None)], seconds=0.01)
    assert delegate.runs == cpu.runs >= 3


def test_noise_is_of_the_inputs_range() -> None:
    int8 = TensorSpec("value", (1, 100), np.dtype(np.int8), (0.5,), (10,))
    ((values,), expected), *more = noise(Numbers(spec=int8), count=2)
    assert expected is None
    assert (values.min() < -60, values.max() > 50) == (True, True)
    assert -69 <= values.min() <= values.max() <= 58.5
    assert not np.array_equal(values, more[0][0][0])
    flags = TensorSpec("flags", (-1, 3), np.dtype(np.bool_))
    ((values,), _), *_ = noise(Numbers(spec=flags))
    assert (values.shape, values.dtype) == ((1, 3), np.bool_)


@pytest.fixture
def demo(tmp_path: Path) -> bundles.Bundle:
    return bundles.load(DEMO, tmp_path / "cache")


def test_a_delegate_that_is_right_and_fast_enough_is_let_in(demo: bundles.Bundle, library: Path) -> None:
    with (
        tflite.open(demo.model, tflite.Config(), resolve(f"external:{library}", {})) as delegate,
        tflite.open(demo.model, tflite.Config()) as cpu,
    ):
        proof = admit(demo, delegate, cpu, least_speed=0.0, seconds=0.02)
        assert proof.error <= demo.manifest.tolerance.absolute == proof.tolerance
        with pytest.raises(ModelError, match="not worth it"):
            admit(demo, delegate, cpu, least_speed=1e6, seconds=0.02)


def test_a_delegate_with_wrong_numbers_is_not_let_in(demo: bundles.Bundle) -> None:
    without = bundles.Bundle(demo.manifest, demo.model)
    with tflite.open(demo.model, tflite.Config()) as cpu:
        for bundle in (demo, without):
            with pytest.raises(ModelError, match="delegate 'numbers': wrong numbers: off by"):
                admit(bundle, Numbers(0.0, cpu.inputs[0]), cpu, least_speed=0.0, seconds=0)


def test_time_of_the_ops_that_are_left(library: Path, tmp_path: Path) -> None:
    path = models.conv(tmp_path / "model", 16, 16, layers=8)
    whole = time_share(path, placed(path, library), tflite.Interpreter, 1000.0, seconds=0.05)
    assert whole.left_us == 0.0
    assert whole.on_delegate == 1.0
    some = time_share(path, placed(path, library, "partial=4"), tflite.Interpreter, 1000.0, seconds=0.1)
    assert 0 < some.left_us <= some.cpu_us
    none = time_share(path, placed(path, library, "partial=0"), tflite.Interpreter, 1000.0, seconds=0.05)
    assert none.left_us == none.cpu_us > 0
    assert none.on_delegate == max(0.0, 1 - none.left_us / none.total_us)
