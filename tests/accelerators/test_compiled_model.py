"""LiteRT's real GPU accelerator on SwiftShader, and its real NPU dispatch on OpenVINO's CPU device.

The second runs in the environment that has Intel's SDK: ``.venv-npu/bin/python -m pytest`` with this file.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from limpet.accelerators.delegate_kinds import resolve
from limpet.accelerators.placement import shortfall
from limpet.contracts.assignment import DelegateTable
from limpet.errors import ModelError
from limpet.inference.proof import noise, prove
from limpet.models import bundle as bundles
from limpet.models.golden import check_golden
from limpet.runtimes import tflite
from limpet.runtimes.litert import compiled_model, compiler_log
from support import models
from support.accel import NO_GPU, NO_NPU, use_swiftshader

if TYPE_CHECKING:
    from collections.abc import Callable

    from limpet.contracts.assignment import Option
    from limpet.contracts.delegate import Choice

pytestmark = pytest.mark.skipif(
    not find_spec("ai_edge_litert"), reason="ai-edge-litert is absent: tflite-runtime has none"
)
DEMO = Path(bundles.__file__).parents[1] / "demo_data" / "shuttle-1.limpet"


def choice(kind: str, **options: Option) -> Choice:
    if kind == "npu":
        options.setdefault("graph_backend", "cpu")
    return resolve(kind, {kind: DelegateTable(options=options)})


@pytest.fixture(
    params=[
        pytest.param("gpu", marks=pytest.mark.skipif(bool(NO_GPU), reason=NO_GPU)),
        pytest.param("npu", marks=pytest.mark.skipif(bool(NO_NPU), reason=NO_NPU)),
    ]
)
def kind(request: pytest.FixtureRequest) -> str:
    if request.param == "gpu":
        use_swiftshader()
    return str(request.param)


MODELS: dict[str, Callable[[Path], Path]] = {
    "dense float": lambda path: models.dense(path, 9, 5, int8=False, layers=2),
    "dense int8": lambda path: models.dense(path, 9, 5, layers=2),
    "conv int8 per channel": lambda path: models.conv(path, 8, 3, layers=2),
}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_runs_and_is_right(kind: str, make: Callable[[Path], Path], tmp_path: Path) -> None:
    path = make(tmp_path / "model.tflite")
    with compiled_model.open(path, choice(kind)) as fast, tflite.open(path, tflite.Config()) as cpu:
        assert fast.inputs == cpu.inputs
        assert [(o.name, o.shape, o.dtype, o.scale) for o in fast.outputs] == [
            (o.name, o.shape, o.dtype, o.scale) for o in cpu.outputs
        ]
        proof = prove(fast, cpu, noise(cpu), seconds=0.02)
    assert proof.right, proof
    assert 0 < proof.tolerance < 1


def test_tells_the_truth_about_its_placement(kind: str, tmp_path: Path) -> None:
    with compiled_model.open(models.conv(tmp_path / "model.tflite", layers=3), choice(kind)) as model:
        assert [op.executor for op in model.placement.ops] == [kind] * 3
        assert (model.placement.mac_share, model.delegate, model.delegate_share) == (1.0, kind, 1.0)
        assert shortfall(model.placement, 1.0) == ""
        # Neither is what it passes for, and it shows.
        assert (
            model.placement.device
            == {
                "gpu": "SwiftShader Device (Subzero) (software)",
                "npu": "OpenVINO CPU (software)",
            }[kind]
        )


def test_the_demos_model_gives_its_golden_outputs(kind: str, tmp_path: Path) -> None:
    bundle = bundles.load(DEMO, tmp_path)
    scale = bundle.manifest.outputs[0].scale[0]
    with compiled_model.open(bundle.model, choice(kind)) as model:
        assert check_golden(bundle, model) <= 4 * scale


def test_inputs_are_checked(kind: str, tmp_path: Path) -> None:
    with compiled_model.open(models.dense(tmp_path / "model.tflite", 9, 5), choice(kind)) as model:
        with pytest.raises(ModelError, match=r"input 'input' has shape \[1, 9\], but got \[8\]"):
            model.run([np.zeros(8, np.float32)])
        with pytest.raises(ModelError, match="takes 1 inputs, but got 2"):
            model.run([np.zeros(9, np.float32)] * 2)
        assert model.run([np.zeros(9, np.float32)])[0].shape == (1, 5)


def test_closed_is_closed(kind: str, tmp_path: Path) -> None:
    with compiled_model.open(models.dense(tmp_path / "model.tflite"), choice(kind)) as model:
        pass
    with pytest.raises(ModelError, match="closed"):
        model.run([np.zeros(9, np.float32)])


def test_says_nothing_in_the_terminal(kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = models.dense(tmp_path / "model.tflite")
    with compiled_model.open(path, choice(kind)) as model:
        model.run([np.zeros(9, np.float32)])
    assert capfd.readouterr() == ("", "")


def test_a_model_with_state_is_refused(kind: str, tmp_path: Path) -> None:
    with (
        pytest.raises(ModelError, match="keeps state between runs"),
        compiled_model.open(models.accumulator(tmp_path / "model.tflite"), choice(kind)),
    ):
        pass


def test_a_model_with_ops_that_it_lacks_is_refused(kind: str, tmp_path: Path) -> None:
    with (
        pytest.raises(ModelError, match=f"'{kind}' cannot run it: "),
        compiled_model.open(models.nonzero(tmp_path / "model.tflite"), choice(kind)),
    ):
        pass


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"enforce_f23": True}, "delegates.gpu.options.enforce_f23: unknown (did you mean 'enforce_f32'?)"),
        ({"enforce_f32": "perhaps"}, "option enforce_f32 = 'perhaps' is not a number"),
    ],
)
def test_options_of_the_gpu(options: dict[str, Option], reason: str, tmp_path: Path) -> None:
    path = models.dense(tmp_path / "model.tflite")
    with pytest.raises(ModelError) as caught, compiled_model.open(path, choice("gpu", **options)):
        pass
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"graph_backend": "tpu"}, "option graph_backend = 'tpu' is unknown"),
        ({"graph_backend": "npu", "vtcm_size": 1}, "these belong to different NPUs"),
        ({"configs_map": "x"}, "option configs_map cannot be set"),
    ],
)
def test_options_of_an_npu(options: dict[str, Option], reason: str, tmp_path: Path) -> None:
    path = models.dense(tmp_path / "model.tflite")
    with pytest.raises(ModelError) as caught, compiled_model.open(path, choice("npu", **options)):
        pass
    assert reason in str(caught.value)


def test_precision_of_the_gpu_is_an_option(kind: str, tmp_path: Path) -> None:
    if kind != "gpu":
        return
    path = models.dense(tmp_path / "model.tflite", int8=False)
    with compiled_model.open(path, choice("gpu", enforce_f32=True)) as model:
        (output,) = model.run([np.full(9, 0.1, np.float32)])
        assert np.abs(output - np.float32(0.1)).max() < 1e-6


PROGRAM = """
import sys
from pathlib import Path
from limpet.runtimes.litert import compiled_model
from limpet.accelerators.delegate_kinds import resolve
from limpet.errors import ModelError
try:
    with compiled_model.open(Path(sys.argv[1]), resolve("gpu", {})):
        print("runs")
except ModelError as error:
    print(error)
"""


def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    path = models.dense(tmp_path / "model.tflite")
    environment = {**os.environ, "VK_ICD_FILENAMES": "/nowhere.json", "VK_DRIVER_FILES": "/nowhere.json"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, path],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
        check=True,
    )
    assert "no GPU with a Vulkan driver was found; `limpet devices` shows what is missing" in done.stdout


@pytest.mark.skipif(not NO_NPU, reason="ai-edge-litert-sdk-intel is there")
def test_without_its_sdk_an_npu_says_what_to_install(tmp_path: Path) -> None:
    path = models.dense(tmp_path / "model.tflite")
    with (
        pytest.raises(ModelError, match=r"libopenvino\S* is missing; install .*ai-edge-litert-sdk-intel"),
        compiled_model.open(path, choice("npu")),
    ):
        pass


@pytest.mark.skipif(not NO_NPU, reason="ai-edge-litert-sdk-intel is there")
def test_npu_with_cpu_silently_on_the_cpu_is_seen_through(tmp_path: Path) -> None:
    """LiteRT #7891: what it answers, and what it said on the way."""
    from ai_edge_litert.compiled_model import CompiledModel, HardwareAccelerator

    path = models.dense(tmp_path / "model.tflite")
    with compiler_log.caught() as said:
        both = CompiledModel.from_file(str(path), HardwareAccelerator.NPU | HardwareAccelerator.CPU)
        claims = both.is_fully_accelerated()
        del both
    assert claims
    assert compiler_log.taken(said) is None
    assert compiler_log.device(said) == ""


@pytest.mark.skipif(bool(NO_NPU), reason=NO_NPU)
def test_a_real_npu_that_is_absent_is_reported(tmp_path: Path) -> None:
    path = models.dense(tmp_path / "model.tflite")
    with (
        pytest.raises(ModelError, match="'npu' cannot run it: "),
        compiled_model.open(path, choice("npu", graph_backend="npu")),
    ):
        pass


def test_what_native_code_writes_is_caught_for_a_while(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.suppress(ZeroDivisionError))
        said = stack.enter_context(compiler_log.caught())
        os.write(2, b"first\n")
        os.write(1, b"second \xff\n")
        raise ZeroDivisionError
    assert said == ["first", "second \N{REPLACEMENT CHARACTER}"]
    os.write(2, b"error\n")
    os.write(1, b"output\n")
    assert capfd.readouterr() == ("output\n", "error\n")
