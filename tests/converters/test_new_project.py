"""`limpet-convert init` writes a file that works, and a failed run leaves no bundle that looks new."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from limpet_convert import new_project, package, project, tuning
from limpet_convert.cli import main
from limpet_convert.errors import ConvertError
from limpet_convert.new_project import Recorded
from limpet_convert.tuning import Candidate
from support import models

if TYPE_CHECKING:
    from collections.abc import Sequence

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HEAD = "time,ax,ay\n"


def record(path: Path, value: float, rows: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEAD + "".join(f"{row / 100:.2f},{value},{-value}\n" for row in range(rows)))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model on single samples of two channels, whose scores are its input, and recordings that it gets right."""
    monkeypatch.chdir(tmp_path)
    models.same(tmp_path / "Motion.tflite", (1, 2), "float32")
    for part in ("train", "test"):
        record(tmp_path / "recordings" / part / "left" / "a.csv", 1.0)
        record(tmp_path / "recordings" / part / "right" / "a.csv", -1.0)
    return tmp_path


def test_the_file_works_as_it_stands(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "Motion.tflite", "--data", "recordings"]) == 0
    said = capsys.readouterr().out
    assert "convert.toml: tflite model, 16 windows of 1 samples to verify with" in said
    assert "check: the labels are in alphabetical order, left, right" in said
    assert 'check: if the model has no softmax at its end, add activation = "softmax" to [bundle.decoder]' in said
    assert said.endswith("next: limpet-convert run convert.toml\n")
    tables = tomllib.loads((folder / "convert.toml").read_text())
    assert tables["bundle"]["labels"] == ["left", "right"]
    assert tables["bundle"]["channels"] == ["ax", "ay"]
    assert tables["bundle"]["rate"] == 100
    assert not tables.keys() & {"coreml", "sign"}
    assert "max_size_ratio" not in tables["verify"]
    assert project.read(folder / "convert.toml").bundle.name == "motion"


def test_columns_without_names_count_as_channels(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for part in ("train", "test"):
        np.save(folder / f"{part}.npy", np.random.default_rng(0).normal(size=(60, 2)))
    arguments = ["--calibration", "train.npy", "--test", "test.npy"]
    assert main(["init", "Motion.tflite", *arguments]) == 0
    said = capsys.readouterr().out
    assert "60 windows of 1 samples to verify with" in said
    what = "an .npy file of shape [60, 2] with one number for each test window and each output of the model"
    assert f"missing: data.targets, {what}" in said
    tables = tomllib.loads((folder / "convert.toml").read_text())
    assert tables["verify"]["min_metric"] == 0
    assert "channels" not in tables["bundle"]


def test_whole_numbers_in_a_row_are_one_channel(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models.integers(folder / "tokens.tflite", size=4)
    for part in ("train", "test"):
        (folder / "tokens" / part).mkdir(parents=True)
        np.save(folder / "tokens" / part / "a.npy", np.arange(240).reshape(240, 1))
    assert main(["init", "tokens.tflite", "--data", "tokens"]) == 0
    assert "60 windows of 4 samples to verify with" in capsys.readouterr().out


def test_a_model_with_several_inputs_is_refused_with_what_to_do(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models.times(folder / "two.tflite")
    assert main(["init", "two.tflite", "--data", "recordings"]) == 1
    said = capsys.readouterr().err
    assert "the model has 2 inputs" in said
    assert "join them into one and slice it in the model's first layer" in said


def test_a_window_of_another_size_than_the_model_is_pointed_out(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", "Motion.tflite", "--data", "recordings", "--window", "4"]) == 0
    assert "check: the model takes [2], and a window has [4, 2]; leave out --window" in capsys.readouterr().out
    assert "options" not in tomllib.loads((folder / "convert.toml").read_text())["model"]


@pytest.mark.parametrize(
    ("shape", "kind", "options"),
    [
        ([50, 6], "torch", {"layout": "as_is"}),
        ([1, 50, 6], "onnx", {"layout": "as_is"}),
        ([6, 50], "torch", {}),
        ([50, 6], "keras", {}),
        ([300], "torch", {}),
        ([], "onnx", {}),
    ],
)
def test_channels_that_are_last_already_stay_there(
    shape: Sequence[int], kind: str, options: dict[str, str]
) -> None:
    assert new_project.options_for(shape, 50, 6, kind) == options


@pytest.mark.parametrize(
    ("shape", "kind", "options"),
    [([3, 48, 192], "onnx", {}), ([48, 192, 3], "onnx", {"layout": "as_is"}), ([48, 192, 3], "tflite", {})],
)
def test_pictures_are_brought_to_the_size_that_the_model_takes(
    shape: Sequence[int], kind: str, options: dict[str, str]
) -> None:
    resize = {"kind": "resize", "height": 48, "width": 192}
    assert new_project.picture_options(shape, kind) == (options, [resize])


@pytest.mark.parametrize(
    ("shape", "kind", "said"),
    [
        ([3, -1, -1], "onnx", "Run again with --options '{ shape = [3, ?, ?] }', and a number for each ?"),
        ([3, 48, 192], "tflite", "the model takes [3, 48, 192], and pictures have [height, width, 3]"),
        ([48, 192, 1], "onnx", "the model takes [48, 192, 1], and pictures"),
    ],
)
def test_a_model_that_takes_no_such_pictures_says_what_to_do(shape: Sequence[int], kind: str, said: str) -> None:
    with pytest.raises(ConvertError) as refused:
        new_project.picture_options(shape, kind)
    assert said in str(refused.value)


def test_pictures_make_a_project(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = pytest.importorskip("PIL.Image")
    models.same(folder / "sign.tflite", (1, 4, 6, 3), "float32")
    for part, label in [(part, label) for part in ("train", "test") for label in ("no", "yes")]:
        (folder / "pictures" / part / label).mkdir(parents=True)
        image.new("RGB", (12, 9), "green").save(folder / "pictures" / part / label / "a.png")
    assert main(["init", "sign.tflite", "--data", "pictures"]) == 0
    said = capsys.readouterr().out
    assert "convert.toml: tflite model, 2 pictures to verify with" in said
    assert "check: the model gets pixels from 0 to 255 in the order RGB" in said
    tables = tomllib.loads((folder / "convert.toml").read_text())
    assert tables["bundle"]["transforms"] == [{"kind": "resize", "height": 4, "width": 6}]
    assert tables["bundle"]["labels"] == ["no", "yes"]


def test_an_open_size_is_set_by_an_option(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: ARG001
    assert new_project.set_shape([3, -1], {"shape": [1, 3, 50]}) == [3, 50]
    assert new_project.set_shape([3, -1], {}) == [3, -1]
    assert main(["init", "Motion.tflite", "--data", "recordings", "--options", "{ shape = [3] }"]) == 1
    assert "options.shape is [3], and the model's input has shape [?, 2]" in capsys.readouterr().err


def test_the_same_sizes_mean_channels_first() -> None:
    assert new_project.options_for([6, 6], 6, 6, "torch") == {}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.keras", "--data", "recordings"], "none.keras: no such file"),
        (["Motion.tflite"], "Name the recordings with --calibration, --test"),
        (["Motion.tflite", "--data", "elsewhere"], "elsewhere has no folders train and test"),
        (["Motion.tflite", "--calibration", "recordings/train"], "Name the recordings with --test"),
        (["Motion.tflite", "--calibration", "x", "--test", "x"], "x: no such file or folder"),
        (["Motion.tflite", "--data", "recordings", "--channels", "ax,az"], "az"),
        (["recordings/train/left/a.csv", "--data", "recordings"], "a.csv"),
    ],
)
def test_what_is_missing_is_said_and_nothing_is_written(
    folder: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", *arguments]) != 0
    assert said in capsys.readouterr().err
    assert not (folder / "convert.toml").exists()


def test_an_existing_file_is_kept(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "convert.toml").write_text("mine")
    assert main(["init", "Motion.tflite", "--data", "recordings"]) == 78
    assert "convert.toml exists already. Use --force to overwrite it" in capsys.readouterr().err
    assert main(["init", "Motion.tflite", "--data", "recordings", "--force", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["windows"] == 16


@pytest.mark.parametrize(
    ("shape", "channels", "kind", "window"),
    [
        ([128, 6], 6, "keras", 128),
        ([6, 128], 6, "torch", 128),
        ([1, 128, 6], 6, "tflite", 128),
        ([6, 6], 6, "keras", 6),
        ([9], 9, "keras", 1),
        ([16000], 1, "tflite", 16000),
        ([16000, 1], 1, "tflite", 16000),
    ],
)
def test_the_window_is_found_in_the_shape(shape: Sequence[int], channels: int, kind: str, window: int) -> None:
    assert new_project.window_of(shape, channels, kind) == window


@pytest.mark.parametrize("shape", [[], [-1, 6], [96, 96, 3], [128, 5]])
def test_other_shapes_are_refused(shape: Sequence[int]) -> None:
    with pytest.raises(ConvertError):
        new_project.window_of(shape, 6, "keras")


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("x [1, 128, 6] float32", [128, 6]),
        ("input_layer [None, 64, 3] float32", [64, 3]),
        ("serving_default: x [-1, 9] float32", [9]),
        ("x (None, 64, None) float32", [64, -1]),
        ("x [__import__('os')] float32", []),
        ("nothing", []),
    ],
)
def test_shapes_are_read_and_never_run(text: str, shape: list[int]) -> None:
    assert new_project.shape_in(text) == shape


def test_a_large_model_has_a_limit_of_its_size_and_core_ml_is_made_where_it_is_wanted() -> None:
    whole: dict[str, Any] = {
        "model": "m.keras",
        "calibration": "a",
        "test": "b",
        "name": "m",
        "task": "regress",
        "said": Recorded(["x"], None, []),
        "window": 1,
        "options": {},
    }
    small = new_project.tables(**whole, size=1000, coreml=False)
    large = new_project.tables(**whole, size=10_000_000, coreml=True)
    assert "max_size_ratio" not in small["verify"]
    assert large["verify"]["max_size_ratio"] == 0.4
    assert "coreml" not in small
    assert large["coreml"] == {"weights": "float16"}


def test_missing_packages_are_named_with_extras_that_exist() -> None:
    metadata = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    extras = metadata["project"]["optional-dependencies"]
    for kind in ("keras", "saved_model", "torch", "onnx", "tflite"):
        for line in new_project.missing_packages(kind):
            named = line.partition("limpet[")[2].partition("]")[0]
            assert set(named.split(",")) <= extras.keys()


def test_a_failed_run_leaves_no_bundle_that_looks_new(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("litert_quantizer", reason="this environment has no quantizer")
    main(["init", "Motion.tflite", "--data", "recordings"])
    text = (folder / "convert.toml").read_text().replace("min_metric = 0.5", "min_metric = 2.0")
    (folder / "convert.toml").write_text(text)
    (folder / "build").mkdir()
    (folder / "build" / "motion-1.limpet").write_text("of an earlier run")
    capsys.readouterr()
    assert main(["run"]) != 0
    captured = capsys.readouterr()
    assert "No bundle was written" in captured.out + captured.err
    assert "motion-1.limpet.previous" in captured.out + captured.err
    assert not (folder / "build" / "motion-1.limpet").exists()


def test_setting_aside_replaces_what_was_set_aside_before(tmp_path: Path) -> None:
    assert package.set_aside(tmp_path, "m", 1) is None
    for text in ("first", "second"):
        (tmp_path / "m-1.limpet").write_text(text)
        aside = package.set_aside(tmp_path, "m", 1)
        assert aside is not None
        assert aside.read_text() == text


def test_candidates_on_one_place_share_a_label() -> None:
    here = [Candidate("a", 1000, 0.0, 1.0), Candidate("b", 1010, 0.0, 1.0), Candidate("c", 5000, 2.0, 1.0)]
    assert tuning.places(here) == {(1000, 0.0): [1, 2], (5000, 2.0): [3]}
    assert tuning.places([]) == {}


def test_a_shape_without_numbers_is_none(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((4, 2), np.float32))
    assert new_project.recorded(tmp_path / "a.npy").labels == []
