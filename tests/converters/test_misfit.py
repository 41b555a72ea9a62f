"""A model that does not fit its windows is refused before the work, with the key to change and its value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from msgspec.structs import replace

from limpet_convert import misfit, project
from limpet_convert.cli import main
from limpet_convert.data import Windows
from limpet_convert.errors import ConvertError
from limpet_convert.misfit import Layout
from limpet_convert.project import Bundle
from support import models
from support.protobuf import onnx

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from limpet_convert.project import Project

PLAIN = Bundle(name="m", version=1, task="regress")


@pytest.mark.parametrize(
    ("shape", "option", "window", "said"),
    [
        ([1, 6, 64], "channels_last", [64, 6], 'last already. Set model.options.layout to "as_is"'),
        ([1, 6, 64], "as_is", [64, 6], 'channels first. Set model.options.layout to "channels_last"'),
        ([1, 3, 96, 96], "as_is", [96, 96, 3], 'channels first. Set model.options.layout to "channels_last"'),
        ([1, 96, 3, 96], "channels_last", [96, 96, 3], 'last already. Set model.options.layout to "as_is"'),
        ([1, 100, 6], "", [50, 6], "Set bundle.window.size to 100"),
        ([1, 100, 6], "channels_last", [50, 6], "Set bundle.window.size to 100"),
        (
            [1, 6, 100],
            "channels_last",
            [50, 6],
            'Set model.options.layout to "as_is" and bundle.window.size to 100',
        ),
        ([1, 100, 6], "", [100, 9], "Set bundle.channels to the 6 that the model was trained on"),
        ([1, 100, 6], "", [1, 9], "Set bundle.window.size to 100 and bundle.channels to the 6 that"),
        ([1, 6], "", [50, 6], "Set bundle.window.size to 1"),
        ([1, 1, 100, 6], "", [50, 6], "Set bundle.window.size to 100"),
        ([1, 16000], "", [8000, 1], "Set bundle.window.size to 16000"),
        ([1, 6, 64], "", [64, 6], "first layer that takes [64, 6] and swaps the axes"),
        ([1, 600], "", [100, 6], "first layer that takes [100, 6] and reshapes it to [600]"),
        ([1, 96, 96, 3], "", [480, 640, 3], '[{ kind = "resize", height = 96, width = 96 }]'),
        ([1, 7, 5, 3, 2], "", [9, 9], "Change bundle.window, bundle.channels or bundle.transforms so that"),
    ],
)
def test_the_error_names_the_key_and_its_value(
    shape: list[int], option: str, window: list[int], said: str
) -> None:
    with pytest.raises(ConvertError) as caught:
        misfit.refuse_shape(shape, window, Layout(option), PLAIN)
    text = str(caught.value)
    assert said in text
    assert f"input has shape {shape}" in text
    assert f"windows of shape {window}" in text
    assert (f'with layout = "{option}"' in text) == bool(option)


def test_a_change_that_the_error_names_makes_it_fit() -> None:
    layout = Layout("channels_last")
    assert layout.turned([1, 6, 64]) == [1, 64, 6]
    assert Layout("as_is").turned([1, 3, 96, 96]) == [1, 96, 96, 3]
    assert layout.turned([1, 96, 96, 3]) == [1, 3, 96, 96]
    assert layout.turned([1, 6]) is None
    misfit.refuse_shape([1, 64, 6], [64, 6], Layout(layout.other), PLAIN)


def test_transforms_are_what_to_change_where_there_are_some() -> None:
    bundle = Bundle(name="m", version=1, task="regress", transforms=[{"kind": "spectrum"}])
    with pytest.raises(ConvertError, match=r"and bundle.transforms give .*Change bundle.transforms so that they"):
        misfit.refuse_shape([1, 40, 6], [33, 6], Layout(""), bundle)


def seen(*values: float) -> Windows:
    return Windows(np.array([values], np.float32), None, {})


@pytest.mark.parametrize(
    ("dtype", "values", "said"),
    [
        ("int32", [1, 2.5], "takes whole numbers (int32), and the windows have 2.5. Record whole numbers, or"),
        ("int8", [1, 300], "(int8), from -128 to 127, and the windows have 300"),
        ("uint8", [-1, 3], "from 0 to 255, and the windows have -1"),
        ("bool", [0, 2], "(bool), from 0 to 1, and the windows have 2"),
        ("int64", [1, 1 << 24], "Numbers from 16,777,216 on are not exact in windows"),
    ],
)
def test_numbers_that_an_integer_input_cannot_hold_are_refused(
    dtype: str, values: Sequence[float], said: str
) -> None:
    with pytest.raises(ConvertError) as caught:
        misfit.refuse_numbers(np.dtype(dtype), seen(*values), PLAIN)
    assert said in str(caught.value)


def test_whole_numbers_are_cast() -> None:
    for dtype in ("int8", "uint8", "int32", "int64", "bool"):
        misfit.refuse_numbers(np.dtype(dtype), seen(0, 1), PLAIN)
    misfit.refuse_numbers(np.dtype("float32"), seen(0.5, 1e30), PLAIN)


@pytest.fixture
def wanted(tmp_path: Path) -> Project:
    """A model of two numbers in and two out, ten windows, and a target for each number."""
    models.same(tmp_path / "m.tflite", (1, 2), "float32")
    random = np.random.default_rng(0)
    for name in ("train", "test"):
        np.save(tmp_path / f"{name}.npy", random.normal(size=(10, 2)).astype(np.float32))
    np.save(tmp_path / "targets.npy", random.normal(size=(10, 2)))
    text = """
    model.path = "m.tflite"
    data = { calibration = "train.npy", test = "test.npy", targets = "targets.npy" }
    bundle = { name = "m", version = 1, task = "regress", decoder = { kind = "regress" } }
    """
    (tmp_path / "convert.toml").write_text(text)
    return project.read(tmp_path / "convert.toml")


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (np.ones(10), "all 10 windows have the same target (1)"),
        (np.arange(10.0), "the model gives 2 numbers for each of 10 windows. Write an array of shape [10, 2]"),
        (np.arange(7.0), "7 targets for 10 windows"),
    ],
)
def test_targets_that_prove_nothing_end_a_run_before_the_work(
    wanted: Project, targets: Any, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(wanted.base / "targets.npy", targets)
    assert main(["run", str(wanted.file)]) != 0
    assert said in capsys.readouterr().err
    assert not (wanted.build / "ranges.json").exists()
    assert not (wanted.build / "int8.tflite").exists()


def test_windows_are_compared_with_the_file_before_it_is_converted(wanted: Project) -> None:
    def of(path: str, window: Sequence[int], **options: Any) -> None:
        model = project.Model(path=wanted.base / path, options=options)
        misfit.refuse_early(replace(wanted, model=model), window)

    (wanted.base / "m.onnx").write_bytes(onnx(shape=[1, 6, 100]))
    of("m.onnx", [100, 6])
    with pytest.raises(ConvertError, match=r'Set model.options.layout to "channels_last"'):
        of("m.onnx", [100, 6], layout="as_is")
    with pytest.raises(ConvertError, match=r"Set bundle.window.size to 100"):
        of("m.onnx", [50, 6])
    (wanted.base / "open.onnx").write_bytes(onnx(shape=[-1, 6, -1]))
    of("open.onnx", [50, 6])
    of("open.onnx", [50, 6], shape=[6, 50])
