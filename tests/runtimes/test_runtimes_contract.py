"""What every runtime must do, whichever it is."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from limpet import plugins
from limpet.contracts.delegate import CPU, Choice
from limpet.contracts.runtime import Abilities
from limpet.errors import ModelError
from support import models

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def on_a_mac(path: Path) -> Path:
    pytest.skip(f"{path.suffix} runs on macOS only; what Linux can prove of it stands in test_coreml.py")


SAMPLES: dict[str, tuple[str, Callable[..., Path]]] = {
    "tflite": ("model.tflite", models.dense),
    "coreml": ("model.mlpackage", on_a_mac),
}
"""For each runtime a model of ``(1, 9)`` quantized values to themselves."""

VALUES = np.linspace(-3, 3, 9, dtype=np.float32).round(1)


ELSEWHERE = {"coreml": "macOS"}
"""What a runtime needs that no test machine is."""


@pytest.fixture(params=sorted(set(plugins.names("runtimes")) - set(ELSEWHERE)))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def runtime(kind: str) -> Any:
    return plugins.load("runtimes", kind)


@pytest.fixture
def sample(kind: str, tmp_path: Path) -> Path:
    name, make = SAMPLES[kind]
    return make(tmp_path / name)


@pytest.mark.skipif(sys.platform == "darwin", reason="this is macOS")
@pytest.mark.parametrize("name", ELSEWHERE)
def test_it_says_what_it_needs(name: str, tmp_path: Path) -> None:
    runtime = plugins.load("runtimes", name)
    with pytest.raises(ModelError, match=ELSEWHERE[name]):
        runtime.open(tmp_path / "model", runtime.Config(), CPU, None).__enter__()


def test_it_says_what_the_model_is(runtime: Any, sample: Path) -> None:
    with runtime.open(sample, runtime.Config(), CPU, None) as model:
        (taken,), (given,) = model.inputs, model.outputs
        assert taken.shape == given.shape == (1, 9)
        assert taken.quantized
        assert given.quantized
        assert (model.delegate, model.delegate_share) == ("cpu", 1.0)


def test_it_says_what_it_can_do(kind: str, runtime: Any, sample: Path) -> None:
    able = plugins.abilities(runtime, Abilities)
    assert able.check(sample, ["cpu"]) == []
    assert able.package
    assert able.version
    facts = able.describe(sample, runtime.Config())
    assert facts is not None, kind
    with runtime.open(sample, runtime.Config(), CPU, None) as model:
        assert [tensor.name for tensor in facts.inputs] == [tensor.name for tensor in model.inputs]
        assert model.placement is None or model.placement.delegate == model.delegate


def test_bytes_that_it_absorbs_stand_for_the_real_values(runtime: Any, sample: Path) -> None:
    byte_values = np.linspace(-3, 3, 256, dtype=np.float32)
    pixels = np.arange(0, 256, 30, dtype=np.uint8)
    with runtime.open(sample, runtime.Config(), CPU, None) as model:
        wanted = model.run([byte_values[pixels]])[0].copy()
        if model.absorb(byte_values):
            np.testing.assert_array_equal(model.run([pixels])[0], wanted)
        else:
            np.testing.assert_array_equal(model.run([byte_values[pixels]])[0], wanted)


def test_it_runs_on_real_values(runtime: Any, sample: Path) -> None:
    with runtime.open(sample, runtime.Config(), CPU, None) as model:
        (output,) = model.run([VALUES])
        assert output.dtype == np.float32
        np.testing.assert_allclose(output, [VALUES], atol=model.inputs[0].scale[0])
        (other,) = model.run([-VALUES[None]])
        np.testing.assert_allclose(other, [-VALUES], atol=model.inputs[0].scale[0])


def test_resetting_does_no_harm(runtime: Any, sample: Path) -> None:
    with runtime.open(sample, runtime.Config(), CPU, None) as model:
        before = model.run([VALUES])[0].copy()
        model.reset()
        np.testing.assert_array_equal(model.run([VALUES])[0], before)


def test_two_models_at_once(runtime: Any, sample: Path) -> None:
    with (
        runtime.open(sample, runtime.Config(), CPU, None) as one,
        runtime.open(sample, runtime.Config(), CPU, None) as other,
    ):
        (first,), (second,) = one.run([VALUES]), other.run([-VALUES])
        np.testing.assert_allclose(first, -second, atol=one.inputs[0].scale[0])


@pytest.mark.parametrize("inputs", [[], [VALUES, VALUES], [VALUES[:8]], [VALUES.reshape(3, 3)]])
def test_inputs_that_do_not_fit_are_refused_and_do_no_harm(
    runtime: Any, sample: Path, inputs: list[np.ndarray]
) -> None:
    with runtime.open(sample, runtime.Config(), CPU, None) as model:
        with pytest.raises(ModelError, match=sample.name):
            model.run(inputs)
        assert model.run([VALUES])[0].shape == (1, 9)


def test_a_closed_model_is_refused(runtime: Any, sample: Path) -> None:
    with runtime.open(sample, runtime.Config(), CPU, None) as model:
        output = model.run([VALUES])[0]
    with pytest.raises(ModelError, match="closed"):
        model.run([VALUES])
    assert np.isfinite(output).all()  # what was handed out is not the runtime's memory


@pytest.mark.parametrize("content", [None, b"", b"hello", bytes(4096)], ids=["absent", "empty", "short", "zeros"])
def test_what_is_no_model_is_refused(runtime: Any, kind: str, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / SAMPLES[kind][0]
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=path.name), runtime.open(path, runtime.Config(), CPU, None):
        pass


def test_a_delegate_that_is_not_there_is_refused(runtime: Any, sample: Path) -> None:
    with pytest.raises(ModelError, match=r"mine.*nowhere\.so"):
        runtime.open(sample, runtime.Config(), Choice("mine", "external", ("nowhere.so",)), None).__enter__()
