"""The commands that need no training framework, and what stands behind them."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from limpet.contracts.data import TensorSpec
from limpet.contracts.fields import WindowSpec
from limpet_convert import cli, compare, graph, pairing, runners, tuning
from limpet_convert.commands import _shared
from limpet_convert.compare import Outputs
from limpet_convert.data import Windows
from limpet_convert.errors import ConvertError
from limpet_convert.graph import Graph, Tracer
from limpet_convert.project import Bundle, Verify
from limpet_convert.tuning import Candidate, Target
from support import models

if TYPE_CHECKING:
    from limpet.contracts.data import FloatArray

ROOT = Path(__file__).parents[2]


def test_inspect_shows_a_model_and_a_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", str(models.dense(tmp_path / "m.tflite", 4, 3, layers=2))]) == 0
    printed = capsys.readouterr().out
    assert "in:  input [1, 4] int8 scale 0.0625 zero 3" in printed
    assert "FULLY_CONNECTED 2" in printed
    assert cli.main(["inspect", str(ROOT / "agent/limpet/demo_data/shuttle-1.limpet")]) == 0
    assert "not signed" in capsys.readouterr().out


def test_diff_tells_parts_and_answers_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exact = models.dense(tmp_path / "float.tflite", 4, 4, int8=False)
    int8 = models.dense(tmp_path / "int8.tflite", 4, 4)
    assert cli.main(["diff", str(exact), str(int8)]) == 0
    printed = capsys.readouterr().out
    assert "dtypes: float32 1 -> int8 1" in printed
    assert "output 0 (output) [4] and output 0 (output): differ by 0.03" in printed
    assert cli.main(["diff", str(exact), str(exact)]) == 0
    assert "made of the same parts" in capsys.readouterr().out


def test_diff_takes_inputs_of_a_file_and_says_what_is_wrong_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(models.dense(tmp_path / "m.tflite", 4, 4))
    rows = np.ones((3, 4), np.float32)
    np.save(tmp_path / "rows.npy", rows)
    np.savez(tmp_path / "named.npz", input=rows)
    np.savez(tmp_path / "other.npz", output=rows)
    np.save(tmp_path / "wide.npy", np.ones((3, 5), np.float32))
    (tmp_path / "text.npy").write_text("1, 2, 3")
    for name in ("rows.npy", "named.npz"):
        assert cli.main(["diff", model, model, "--inputs", str(tmp_path / name)]) == 0
        assert "outputs over 3 inputs" in capsys.readouterr().out
    for name, said in (
        ("other.npz", "no array for input input; there is: output"),
        ("wide.npy", "does not take inputs of [5]"),
        ("text.npy", "neither .npy nor .npz"),
    ):
        assert cli.main(["diff", model, model, "--inputs", str(tmp_path / name)]) == 1
        assert said in capsys.readouterr().err


def test_convert_takes_a_model_without_a_project(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = models.two(tmp_path / "two.tflite")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["convert", str(model), "--output", "made"]) == 0
    assert "two.tflite: " in capsys.readouterr().out
    assert (tmp_path / "made/two.tflite").read_bytes() == model.read_bytes()
    for arguments, status, said in (
        ([], 78, "would be written over itself"),
        (["--options", "{ shape = "], 78, "not a table of TOML"),
        (["--options", "3"], 78, "must be a table"),
        (["--options", "{ shape = [3] }"], 78, "shape"),
    ):
        assert cli.main(["convert", str(model), *arguments]) == status
        assert said in capsys.readouterr().err
    assert cli.main(["convert", "gone.onnx"]) == 1
    assert "gone.onnx: no such file" in capsys.readouterr().err


def test_diff_compares_models_with_two_inputs_and_two_outputs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(models.two(tmp_path / "two.tflite"))
    assert cli.main(["diff", model, model]) == 0
    printed = capsys.readouterr().out
    assert printed.count("differ by 0 at most") == 2
    np.save(tmp_path / "one.npy", np.ones((3, 4), np.float32))
    assert cli.main(["diff", model, model, "--inputs", str(tmp_path / "one.npy")]) == 1
    assert "no array for input" in capsys.readouterr().err


def spec(name: str, *shape: int) -> TensorSpec:
    return TensorSpec(name, shape, np.dtype(np.float32))


def test_inputs_are_paired_by_name_then_by_size_then_by_order() -> None:
    ours = [spec("serving_default_x:0", 1, 6), spec("serving_default_z:0", 1, 3)]
    assert pairing.inputs(ours, [spec("z", 1, 3), spec("x", 1, 6)]) == [1, 0]
    assert pairing.inputs(ours, [spec("a", -1, 3), spec("b", -1, 6)]) == [1, 0]
    assert pairing.inputs(ours[:1] * 2, [spec("a", 1, 6), spec("b", 1, 6)]) == [0, 1]
    with pytest.raises(ConvertError, match=r"first model has 2 .* the second 1 \(x\)"):
        pairing.inputs(ours, [spec("x", 1, 6)])


def test_outputs_are_paired_by_what_they_hold() -> None:
    random = np.random.default_rng(0)
    wave, step = random.normal(size=(4, 3)), np.ones((4, 3))
    found = pairing.ordered([wave, step], [step + 1e-4, (wave + 1e-3)[:, None]])
    np.testing.assert_allclose(found[0], wave + 1e-3)
    np.testing.assert_allclose(found[1], step + 1e-4)
    with pytest.raises(ConvertError, match=r"has 3 values; the second model has none of that size, only \[5\]"):
        pairing.ordered([wave], [np.ones((4, 5))])


def test_channels_are_moved_to_where_a_model_has_them() -> None:
    windows = np.arange(2 * 20 * 6).reshape(2, 20, 6)
    assert runners.laid_out(windows, spec("x", 1, 20, 6)) is windows
    np.testing.assert_array_equal(runners.laid_out(windows, spec("x", 1, 6, 20))[0], windows[0].T)
    images = np.zeros((2, 3, 8, 9))
    assert runners.laid_out(images, spec("x", 1, 8, 9, 3)).shape == (2, 8, 9, 3)
    with pytest.raises(ConvertError, match=r"input 'x' has shape \[1, 7, 20\]"):
        runners.laid_out(windows, spec("x", 1, 7, 20))


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["inspect", "gone.tflite"], 1, "no such file"),
        (["run", "gone.toml"], 78, "there is no such file. Run: limpet-convert init"),
        (["diff", "gone.tflite", "gone.h5"], 1, "gone"),
    ],
)
def test_errors_are_a_line_and_an_exit_status(
    arguments: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == status
    assert said in capsys.readouterr().err


def test_a_model_cut_short_and_no_inputs_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = models.dense(tmp_path / "m.tflite", 4, 4)
    short = tmp_path / "short.tflite"
    short.write_bytes(model.read_bytes()[:200])
    for arguments in (["inspect", str(short)], ["diff", str(short), str(model)]):
        assert cli.main(arguments) == 1
        assert "short.tflite: not a TFLite model, or damaged" in capsys.readouterr().err
    assert cli.main(["diff", str(model), str(model), "--count", "0"]) == 1
    assert "0 inputs compare nothing" in capsys.readouterr().err


def test_where_nothing_can_be_written_is_said_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = models.dense(tmp_path / "m.tflite", 4, 4, int8=False)
    (tmp_path / "taken").write_text("a file")
    assert cli.main(["convert", str(model), "--output", str(tmp_path / "taken")]) == 1
    assert capsys.readouterr().err == f"limpet-convert: {tmp_path / 'taken'}: File exists\n"


def test_sharing_vectors_makes_a_file_smaller_and_changes_nothing_else(tmp_path: Path) -> None:
    data = models.conv(tmp_path / "m.tflite", channels=16, layers=4).read_bytes()
    smaller = graph.smaller(data)
    assert len(smaller) < len(data)
    assert graph.smaller(smaller) == smaller
    image = np.random.default_rng(0).uniform(-7, 7, (1, 8, 8, 16)).astype(np.float32)
    np.testing.assert_array_equal(Tracer(data)(image)[0], Tracer(smaller)(image)[0])


def test_constants_lie_on_sixteen_bytes(tmp_path: Path) -> None:
    smaller = graph.smaller(models.conv(tmp_path / "m.tflite", channels=12, layers=3).read_bytes())
    weights = [bytes(b.data) for b in Graph(smaller).model.buffers if b.data is not None and len(b.data) > 64]
    assert weights
    assert all(any(smaller.startswith(w, at) for at in range(0, len(smaller), 16)) for w in weights)


BUNDLE = Bundle(name="m", version=1, task="classify", labels=["a", "b"], window=WindowSpec(size=1))


def outputs(*rows: list[float], size: int = 100) -> Outputs:
    values: FloatArray = np.array(rows, np.float32)
    return Outputs([values], size)


def windows(*targets: int) -> Windows:
    return Windows(np.zeros((len(targets), 1), np.float32), np.array(targets), {})


def test_a_comparison_counts_points_agreement_and_changes() -> None:
    exact = outputs([0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.3, 0.7])
    other = outputs([0.9, 0.1], [0.4, 0.6], [0.1, 0.9], [0.3, 0.7], size=25)
    groups = np.array(["x", "x", "y", "y"])
    found = compare.compare("int8", exact, other, windows(0, 0, 1, 1), BUNDLE, groups)
    assert (found.metric_loss_points, found.agreement, found.size_ratio) == (25, 0.75, 0.25)
    assert found.changes == [{"from": "a", "to": "b", "windows": 1}]
    assert found.groups["x"] == {
        "accuracy": 0.5,
        "windows": 2,
        "low": pytest.approx(0.061, abs=1e-3),
        "high": pytest.approx(0.939, abs=1e-3),
    }
    assert found.errors[0]["largest"] == pytest.approx(0.4)
    failures = compare.judged(found, Verify(max_size_ratio=0.2)).failures
    assert [text.split()[0] for text in failures] == ["accuracy", "agreement", "size"]


def test_a_larger_model_that_answers_alike_passes_unless_a_size_is_asked_for() -> None:
    exact, other = (outputs([0.9, 0.1], [0.1, 0.9], size=size) for size in (100, 250))
    found = compare.compare("other.onnx", exact, other, windows(0, 1), BUNDLE)
    assert compare.judged(found, Verify()).failures == []
    assert compare.judged(found, Verify(max_size_ratio=1.0)).failures == ["size 2.500 of float, at most 1"]


def test_a_model_that_is_the_same_passes_every_threshold() -> None:
    exact = outputs([0.9, 0.1], [0.1, 0.9])
    found = compare.compare("int8", exact, exact, windows(0, 1), BUNDLE)
    assert compare.judged(found, Verify(max_metric_loss=0, min_agreement=1, max_calibration_loss=0)).failures == []


def test_two_models_that_guess_alike_do_not_pass_where_a_least_metric_is_set() -> None:
    guesses = outputs([0.9, 0.1], [0.9, 0.1])
    found = compare.compare("int8", guesses, guesses, windows(0, 1), BUNDLE)
    assert compare.judged(found, Verify(min_metric=0.5)).failures == []
    assert compare.judged(found, Verify(min_metric=0.9)).failures == ["accuracy 0.5, at least 0.9"]


def test_a_model_that_gives_no_numbers_passes_nothing() -> None:
    regress = Bundle(name="m", version=1, task="regress")
    targets = Windows(np.zeros((4, 1), np.float32), np.array([0.0, 1.0, 2.0, 3.0]), {})
    exact, other = outputs([0.0], [1.0], [2.0], [3.0]), outputs([0.0], [np.nan], [2.0], [3.0])
    failures = compare.judged(compare.compare("int8", exact, other, targets, regress), Verify()).failures
    assert [text.split()[0] for text in failures] == ["r2", "agreement"]


def test_numbers_agree_within_a_tenth_of_their_spread() -> None:
    regress = Bundle(name="m", version=1, task="regress")
    targets = Windows(np.zeros((4, 1), np.float32), np.array([0.0, 1.0, 2.0, 3.0]), {})
    exact, other = outputs([0.0], [1.0], [2.0], [3.0]), outputs([0.05], [1.0], [2.3], [3.0])
    assert compare.compare("int8", exact, other, targets, regress).agreement == 0.75


def test_numbers_that_are_not_one_an_output_are_refused() -> None:
    regress = Bundle(name="m", version=1, task="regress")
    with pytest.raises(ConvertError, match="2 numbers for 4 outputs of the model over 2 windows"):
        compare.compare("int8", outputs([0, 1], [1, 0]), outputs([0, 1], [1, 0]), windows(0, 1), regress)


def test_a_class_that_is_none_is_refused() -> None:
    with pytest.raises(ConvertError, match="2 is no class; they count from 0 to 1"):
        compare.compare("int8", outputs([0, 1]), outputs([0, 1]), windows(2), BUNDLE)


def test_the_front_leaves_out_what_another_beats() -> None:
    small, exact = Candidate("small", 10, 2.0, 5.0), Candidate("exact", 40, 0.0, 9.0)
    beaten = Candidate("beaten", 40, 2.0, 9.0)
    assert tuning.front([exact, beaten, small]) == [small, exact]
    assert Target(size=20).met(small)
    assert not Target(size=20, loss=1.0).met(small)


def test_a_figure_that_is_not_finite_is_null_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    document = {"loss": float("nan"), "share": np.float64(0.5), "windows": np.int64(3), "file": Path("a.json")}
    _shared.emit(Namespace(json=True), document, ())
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert found == {"loss": None, "share": 0.5, "windows": 3, "file": "a.json"}
