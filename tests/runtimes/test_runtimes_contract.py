"""What every runtime must do, whichever it is."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from limpet import plugins
from limpet.contracts.delegate import CPU, Choice
from limpet.contracts.runtime import Abilities, Learning
from limpet.errors import ModelError
from support import models

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def on_a_mac(path: Path) -> Path:
    pytest.skip(f"{path.suffix} runs on macOS only; what Linux can prove of it stands in test_coreml.py")


def learning(path: Path) -> Path:
    path.write_text('{"shape": [1, 9], "windows": 100}')
    return path


SAMPLES: dict[str, tuple[str, Callable[..., Path]]] = {
    "tflite": ("model.tflite", models.dense),
    "coreml": ("model.mlpackage", on_a_mac),
    "mahalanobis": ("model.json", learning),
}
"""For each runtime a model of ``(1, 9)`` values: quantized ones to themselves, or one that learns."""

VALUES = np.linspace(-3, 3, 9, dtype=np.float32).round(1)


ELSEWHERE = {"coreml": "macOS"}
"""What a runtime needs that no test machine is."""


@pytest.fixture(params=sorted(set(plugins.names("runtimes")) - set(ELSEWHERE)))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def runtime(kind: str) -> Any:
    return plugins.load("runtimes", kind)


@contextmanager
def opened(runtime: Any, sample: Path) -> Iterator[Any]:
    """Open a model. One that learns has learned from noise."""
    with runtime.open(sample, runtime.Config(), CPU, None) as model:
        if plugins.abilities(runtime, Abilities).learns:
            assert model.learn(None, "noise") == ""
            for window in np.random.default_rng(0).normal(size=(200, 1, 9)).astype(np.float32):
                model.run([window])
        yield model


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
    with opened(runtime, sample) as model:
        (taken,) = model.inputs
        assert taken.shape == (1, 9)
        outputs = model.run([VALUES])
        assert [output.shape for output in outputs] == [given.shape for given in model.outputs]
        assert all(given.quantized == taken.quantized for given in model.outputs)
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
        assert [tensor.name for tensor in facts.outputs] == [tensor.name for tensor in model.outputs]
        assert model.placement is None or model.placement.delegate == model.delegate


def test_bytes_that_it_absorbs_stand_for_the_real_values(runtime: Any, sample: Path) -> None:
    byte_values = np.linspace(-3, 3, 256, dtype=np.float32)
    pixels = np.arange(0, 256, 30, dtype=np.uint8)
    with opened(runtime, sample) as model:
        wanted = model.run([byte_values[pixels]])[0].copy()
        if model.absorb(byte_values):
            np.testing.assert_array_equal(model.run([pixels])[0], wanted)
        else:
            np.testing.assert_array_equal(model.run([byte_values[pixels]])[0], wanted)


def test_it_runs_on_real_values(runtime: Any, sample: Path) -> None:
    with opened(runtime, sample) as model:
        output = model.run([VALUES])[0].copy()
        assert output.dtype == np.float32
        other = model.run([-VALUES[None]])[0].copy()
        assert (output != other).any()
        np.testing.assert_array_equal(model.run([VALUES])[0], output)
        if model.inputs[0].quantized:
            np.testing.assert_allclose(output, [VALUES], atol=model.inputs[0].scale[0])
            np.testing.assert_allclose(other, [-VALUES], atol=model.inputs[0].scale[0])


def test_resetting_does_no_harm(runtime: Any, sample: Path) -> None:
    with opened(runtime, sample) as model:
        before = model.run([VALUES])[0].copy()
        model.reset()
        np.testing.assert_array_equal(model.run([VALUES])[0], before)


def test_two_models_at_once(runtime: Any, sample: Path) -> None:
    with (
        opened(runtime, sample) as one,
        opened(runtime, sample) as other,
    ):
        first = one.run([VALUES])[0].copy()
        second = other.run([-VALUES])[0].copy()
        np.testing.assert_array_equal(one.run([VALUES])[0], first)
        np.testing.assert_array_equal(other.run([-VALUES])[0], second)
        np.testing.assert_array_equal(one.run([-VALUES])[0], second)


@pytest.mark.parametrize("inputs", [[], [VALUES, VALUES], [VALUES[:8]], [VALUES.reshape(3, 3)]])
def test_inputs_that_do_not_fit_are_refused_and_do_no_harm(
    runtime: Any, sample: Path, inputs: list[np.ndarray]
) -> None:
    with opened(runtime, sample) as model:
        with pytest.raises(ModelError, match=sample.name):
            model.run(inputs)
        assert model.run([VALUES])[0].shape == model.outputs[0].shape


def test_a_closed_model_is_refused(runtime: Any, sample: Path) -> None:
    with opened(runtime, sample) as model:
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


LEARNING = [
    name
    for name in plugins.built_in("runtimes")
    if plugins.abilities(plugins.load("runtimes", name), Abilities).learns
]


@pytest.mark.parametrize("name", LEARNING)
def test_a_model_that_learns_does_so_only_when_it_is_to(name: str, tmp_path: Path) -> None:
    runtime = plugins.load("runtimes", name)
    sample = SAMPLES[name][1](tmp_path / SAMPLES[name][0])
    with runtime.open(sample, runtime.Config(), CPU, None) as model:
        before = [output.copy() for output in model.run([VALUES])]
        for _ in range(200):
            model.run([-VALUES])
        for output, kept in zip(model.run([VALUES]), before, strict=True):
            np.testing.assert_array_equal(output, kept)
        assert isinstance(model, Learning)
        assert list(tmp_path.iterdir()) == [sample]


@pytest.mark.parametrize("name", LEARNING)
def test_a_model_that_learned_goes_on_from_its_folder_and_from_inputs_of_one_meaning(
    name: str, tmp_path: Path
) -> None:
    runtime = plugins.load("runtimes", name)
    sample = SAMPLES[name][1](tmp_path / SAMPLES[name][0])
    folder = tmp_path / "learned"
    folder.mkdir()
    with runtime.open(sample, runtime.Config(), CPU, None) as model:
        assert model.learn(folder, "accelerations") == ""
        for window in np.random.default_rng(0).normal(size=(200, 1, 9)).astype(np.float32):
            model.run([window])
        learned = [output.copy() for output in model.run([VALUES])]
    with runtime.open(sample, runtime.Config(), CPU, None) as model:
        assert model.learn(folder, "accelerations") == ""
        for output, kept in zip(model.run([VALUES]), learned, strict=True):
            np.testing.assert_array_equal(output, kept)
    with runtime.open(sample, runtime.Config(), CPU, None) as model:
        assert "learns again" in model.learn(folder, "pressures")
        assert not np.array_equal(model.run([VALUES])[0], learned[0])
