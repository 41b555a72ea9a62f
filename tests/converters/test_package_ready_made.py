"""A bundle from a model that is ready-made: the device runs it as `limpet-convert package` promised."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from limpet import cli as agent
from limpet.models import bundle as bundles
from limpet_convert import cli
from support import models

if TYPE_CHECKING:
    from limpet.models.manifest import Manifest

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests/data/cases"


def package(model: Path, *options: str) -> Path:
    """Package a model beside itself, and return the bundle."""
    out = model.parent / "out"
    assert cli.main(["package", str(model), "--output", str(out), *options]) == 0
    (found,) = out.iterdir()
    return found


def manifest(bundle: Path) -> Manifest:
    return bundles.manifest_of(bundle)


def member(bundle: Path, name: str) -> bytes:
    with zipfile.ZipFile(bundle) as archive:
        return archive.read(name)


def golden(bundle: Path) -> dict[str, Any]:
    return dict(np.load(io.BytesIO(member(bundle, "golden.npz"))))


def infer(bundle: Path, values: Any, capsys: pytest.CaptureFixture[str], *options: str) -> list[dict[str, Any]]:
    """Return what `limpet infer` makes of samples."""
    np.save(bundle.parent / "rows.npy", np.asarray(values))
    capsys.readouterr()
    assert agent.main(["infer", "--json", str(bundle), str(bundle.parent / "rows.npy"), *options]) == 0
    return [json.loads(line)["output"] for line in capsys.readouterr().out.splitlines()]


CONFIG = """
[device]
id = "press-07"
state = "state"
[sources.sensor]
kind = "replay"
path = "rows.npy"
speed = "flat-out"
{channels}
[pipelines.motion]
source = "sensor"
model = "{model}"
[jsonl]
path = "results.jsonl"
"""


def checked(bundle: Path, values: Any, channels: str = "") -> None:
    """See that `limpet check` passes a configuration with the bundle on such samples."""
    np.save(bundle.parent / "rows.npy", np.asarray(values))
    config = bundle.parent / "limpet.toml"
    config.write_text(CONFIG.format(model=bundle.name, channels=channels))
    assert agent.main(["check", str(config)]) == 0


@pytest.mark.parametrize("kind", ["float32", "int8", "uint8"])
def test_models_of_every_dtype_become_bundles_that_run(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = models.dense(tmp_path / "m.tflite", 3, 3, int8=kind != "float32", dtype=kind)
    (tmp_path / "labels.txt").write_bytes("\N{ZERO WIDTH NO-BREAK SPACE}katze\r\nhund\r\nvogel\r\n\r\n".encode())
    bundle = package(model, "--labels", str(tmp_path / "labels.txt"), "--channels", "ax,ay,az", "--rate", "50")
    assert member(bundle, "model.tflite") == model.read_bytes()
    found = manifest(bundle)
    assert (found.name, found.version, found.task, found.rate) == ("m", 1, "classify", 50)
    assert (found.inputs[0].channels, found.inputs[0].dtype) == (["ax", "ay", "az"], kind)
    rows = np.array([[0, 5, 1], [0, 1, 5]], np.float32)
    outputs = infer(bundle, rows, capsys, "--channels", "ax,ay,az", "--rate", "50")
    assert [one["label"] for one in outputs] == ["hund", "vogel"]
    checked(bundle, rows, 'channels = ["ax", "ay", "az"]\nrate = 50')
    assert cli.main(["inspect", str(bundle)]) == 0


def test_golden_vectors_without_samples_use_the_quantized_range_and_the_card_says_so(tmp_path: Path) -> None:
    bundle = package(models.dense(tmp_path / "m.tflite", 4, 4))
    vectors = golden(bundle)
    assert vectors["input_0"].shape == (8, 1, 4)
    assert vectors["input_0"].min() < -6
    assert vectors["input_0"].max() > 6
    np.testing.assert_allclose(vectors["output_0"], vectors["input_0"], atol=0.07)
    assert "random values with seed 1" in member(bundle, "MODEL_CARD.md").decode()
    assert "Nothing. The model was packaged as it was." in member(bundle, "MODEL_CARD.md").decode()


def test_the_same_model_and_options_give_the_same_bytes(tmp_path: Path) -> None:
    first = package(models.dense(tmp_path / "m.tflite", 4, 4)).read_bytes()
    assert package(tmp_path / "m.tflite").read_bytes() == first


def test_golden_vectors_of_a_recording_are_its_windows_after_the_transforms(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = models.conv(tmp_path / "m.tflite", size=4, channels=3)
    rows = np.random.default_rng(0).normal(size=(64, 4, 3)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    options = (
        "--window",
        "4",
        "--transforms",
        '[{kind = "normalise", mean = 1.0, std = 2.0}]',
        "--decoder",
        "regress",
    )
    bundle = package(model, *options, "--samples", str(tmp_path / "rows.npy"), "--golden", "16")
    wanted = (rows.reshape(16, 1, 4, 4, 3) - 1) / 2
    np.testing.assert_allclose(golden(bundle)["input_0"], wanted, atol=1e-6)
    assert "16 windows of rows.npy" in member(bundle, "MODEL_CARD.md").decode()
    assert len(infer(bundle, rows, capsys)) == 16


def test_an_array_of_windows_is_taken_as_windows(tmp_path: Path) -> None:
    model = models.conv(tmp_path / "m.tflite", size=4, channels=3)
    windows = np.random.default_rng(0).normal(size=(5, 4, 4, 3)).astype(np.float32)
    np.save(tmp_path / "w.npy", windows)
    options = ("--window", "4", "--decoder", "regress", "--samples", str(tmp_path / "w.npy"))
    np.testing.assert_array_equal(golden(package(model, *options))["input_0"][:, 0], windows)


def test_labels_of_the_models_own_metadata_are_taken_without_line_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m.tflite").write_bytes((CASES / "crlf.tflite").read_bytes())
    bundle = package(tmp_path / "m.tflite")
    assert member(bundle, "labels.txt") == "cat\ndog\nGröße\n".encode()
    shape = manifest(bundle).inputs[0].shape
    assert infer(bundle, np.zeros((1, *shape[1:]), np.float32), capsys)[0]["label"] in {"cat", "dog", "Größe"}


def test_the_models_that_come_with_limpet_can_be_packaged_again(tmp_path: Path) -> None:
    for path, options in (
        (ROOT / "bench/models/keyword-1.limpet", ("--window", "49")),
        (ROOT / "agent/limpet/demo_data/shuttle-1.limpet", ()),
    ):
        before = manifest(path)
        model = tmp_path / before.name / "model.tflite"
        model.parent.mkdir()
        model.write_bytes(member(path, before.model))
        bundle = package(model, "--name", before.name, "--version", "7", *options)
        after = manifest(bundle)
        assert bundle.name == f"{before.name}-7.limpet"
        assert [t.shape for t in (*after.inputs, *after.outputs)] == [
            t.shape for t in (*before.inputs, *before.outputs)
        ]
        assert after.inputs[0].scale == pytest.approx(before.inputs[0].scale)


def test_a_model_that_remembers_is_packaged_as_asked_and_proven_so(tmp_path: Path) -> None:
    model = models.accumulator(tmp_path / "m.tflite")
    lasting = package(model, "--stateful", "true")
    values = golden(lasting)
    np.testing.assert_allclose(values["output_0"], np.cumsum(values["input_0"], axis=0), atol=1e-5)
    assert manifest(lasting).stateful is True
    alone = package(model, "--stateful", "false")
    np.testing.assert_allclose(golden(alone)["output_0"], golden(alone)["input_0"], atol=1e-6)


def test_each_of_several_inputs_gets_what_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = models.two(tmp_path / "m.tflite", 1)
    assert cli.main(["package", str(model), "--output", str(tmp_path / "out")]) == 1
    assert "nothing says what" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())
    bundle = package(model, "--inputs", '{ a = ["x"], b = { constant = 2.0 } }')
    outputs = infer(bundle, [[3.0]], capsys, "--channels", "x")
    assert sorted(outputs[0]["values"].values()) == [5, 6]


def test_a_window_of_one_channel_is_normalised_element_by_element(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = models.column(tmp_path / "m.tflite")
    mean = [float(n) for n in range(60)]
    options = ["--window", "60", "--decoder", "regress"]
    bundle = package(model, *options, "--transforms", f'[{{kind = "normalise", mean = {mean}, std = 2.0}}]')
    outputs = infer(bundle, np.arange(60, dtype=np.float32)[:, None] + 2, capsys)
    plain = infer(model, np.ones((60, 1), np.float32), capsys, *options)
    assert outputs == plain
    assert set(outputs[0]["values"].values()) == {2.0}
    assert agent.main(["bench", str(bundle), "--seconds", "0.1"]) == 0


def test_an_input_without_dimensions_can_be_a_constant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = models.times(tmp_path / "m.tflite")
    assert cli.main(["package", str(model), "--output", str(tmp_path / "out")]) == 1
    assert "nothing says what x, factor of this model gets" in capsys.readouterr().err
    bundle = package(model, "--inputs", '{ x = ["p", "q"], factor = { constant = 3.0 } }')
    outputs = infer(bundle, [[3.0, 4.0]], capsys, "--channels", "p,q")
    assert sorted(outputs[0]["values"].values()) == [9, 12]


def test_a_model_without_input_is_refused_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = models.started(tmp_path / "m.tflite")
    assert cli.main(["package", str(model), "--output", str(tmp_path / "out")]) == 1
    assert "m.tflite: the model's first graph takes no input" in capsys.readouterr().err


def test_a_signed_bundle_is_proven_by_a_root(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["keygen", str(tmp_path / "release.key")]) == 0
    model = models.dense(tmp_path / "m.tflite", 4, 4)
    bundle = package(model, "--sign", str(tmp_path / "release.key"))
    key, root = str(tmp_path / "release.key"), str(tmp_path / "root.json")
    assert cli.main(["root", "new", root, "--root", key, "--models", key]) == 0
    assert cli.main(["inspect", str(bundle), "--root", root]) == 0
    assert "signed by" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (["--window", "soon"], 78, "--window: 'soon': give samples, as 128, or time, as 2s or 500ms"),
        (["--version", "0"], 78, "--version"),
        (["--name", "No Spaces"], 78, "name"),
        (["--labels", "gone.txt"], 1, "gone.txt: No such file"),
        (["--decoder", "clasify"], 78, "did you mean 'classify'"),
        (["--transforms", '[{kind = "normalize"}]'], 78, "did you mean 'normalise'"),
        (["--inputs", '{ inptu = ["x"] }'], 1, "no input 'inptu' (did you mean 'input'?)"),
        (["--window", "3", "--channels", "a,b"], 1, "give --window, --channels or --transforms"),
        (["--samples", "gone.npy"], 1, "gone.npy"),
    ],
)
def test_options_that_cannot_be_are_one_line_and_leave_nothing(
    options: list[str], status: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = models.dense(tmp_path / "m.tflite", 4, 4)
    assert cli.main(["package", str(model), "--output", str(tmp_path / "out"), *options]) in {status, 1, 78}
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
    assert not list(tmp_path.glob("out/*"))


def test_a_model_that_no_runtime_here_runs_is_named_by_its_own_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = models.unknown(tmp_path / "flex.tflite", "FlexErf")
    assert cli.main(["package", str(model), "--output", str(tmp_path / "out")]) == 1
    assert "flex.tflite: " in (error := capsys.readouterr().err)
    assert "FlexErf" in error


def test_options_for_a_model_are_refused_beside_a_project(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "convert.toml").touch()
    assert cli.main(["package", str(tmp_path / "convert.toml"), "--labels", "l.txt"]) == 78
    assert "--labels: is for a .tflite model" in capsys.readouterr().err
