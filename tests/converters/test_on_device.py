"""``limpet-convert verify`` and ``tune`` with a device: what they compare, estimate, print and write."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from limpet.errors import ConfigError
from limpet.runtimes import tflite
from limpet_convert import cli, on_device, profiles, project, reference, report, runners, tuning
from limpet_convert.compare import Outputs
from limpet_convert.data import Windows
from limpet_convert.devices import Login, Ran, open_device
from limpet_convert.profiles import Estimate, Profile
from limpet_convert.project import Verify
from limpet_convert.report import Found
from limpet_convert.tuning import Candidate, Target
from support import models
from support.answers import inferred
from support.sshd import Sshd, sshd

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.contracts.data import FloatArray
    from limpet_convert.project import Variant

LIMPET = str(Path(sys.executable).parent / "limpet")
PROJECT = """
[model]
path = "float.tflite"
[data]
calibration = "seen.npy"
test = "seen.npy"
targets = "targets.npy"
[bundle]
name = "motion"
version = 1
task = "classify"
labels = ["x", "y", "z"]
decoder = { kind = "classify" }
[verify]
max_size_ratio = 2
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project whose model says which of three numbers is the largest."""
    values = np.random.default_rng(0).uniform(-6, 6, (200, 3)).astype(np.float32)
    np.save(tmp_path / "seen.npy", values)
    np.save(tmp_path / "targets.npy", values.argmax(axis=1))
    models.dense(tmp_path / "float.tflite", 3, 3, int8=False)
    models.dense(tmp_path / "int8.tflite", 3, 3)
    (tmp_path / "convert.toml").write_text(PROJECT)
    return tmp_path


def verify(folder: Path, *more: str) -> int:
    first, *models = (str(folder / name) for name in ("convert.toml", "float.tflite", "int8.tflite"))
    return cli.main(["verify", first, "--models", *models, *more])


def test_verify_compares_with_the_device(server: Sshd, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(folder, "--device", server.url(limpet=LIMPET)) == 0
    printed = capsys.readouterr().out
    assert f"{tflite.package} {tflite.version} (Limpet " in printed
    assert "agreement with the same model here 100.00%" in printed
    assert any(line.startswith("int8 on ") and "accuracy 1.0000 -> " in line for line in printed.splitlines())


def test_a_device_that_is_away_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(folder, "--device", "ssh://127.0.0.1:1") == 1
    assert "limpet-convert: 127.0.0.1 cannot be reached" in capsys.readouterr().err


class Liar:
    """A device that gives the outputs in another order of windows."""

    name = "liar"
    any_model = True

    def run(self, model: Path, windows: FloatArray) -> Ran:
        values = runners.run_all(runners.open_model(model), windows)
        answer = inferred(limpet="9", runtime="r 1", delegate="npu", delegate_share=0.5)
        return Ran([np.ascontiguousarray(one[::-1]) for one in values], [3.0, 1.0, 2.0], answer)


def test_a_device_that_answers_otherwise_fails_and_the_report_says_so(folder: Path) -> None:
    read = project.read(folder / "convert.toml")
    values = np.load(folder / "seen.npy")
    windows = Windows(values, values.argmax(axis=1), {})
    exact, here = Outputs([values], 100), Outputs([values], 25)
    found = on_device.measure(Liar(), folder / "int8.tflite", exact, here, windows, read.bundle, Verify())
    assert found.run_us == 2.0
    assert any("agreement" in failure for failure in found.exact.failures)
    assert found.here.agreement < 0.9
    content = Found([], None, None, {}, found)
    text = report.markdown(read, content)
    assert "## On liar" in text
    assert "delegate `npu` (50% of the ops), 2 µs a run (median). It misses: accuracy lost" in text
    content = report.as_dict(read, content)
    assert (content["passed"], content["device"]["delegate"], content["device"]["median_run_us"]) == (
        False,
        "npu",
        2,
    )


def test_a_profile_is_measured_and_read_again(server: Sshd, tmp_path: Path) -> None:
    path = tmp_path / "pi.toml"
    url = server.url(limpet=LIMPET)
    assert cli.main(["tune", "--measure-profile", str(path), "--device", url]) == 0
    read = profiles.read(str(path))
    assert set(read.run_us) == set(reference.NAMES)
    assert min(read.run_us.values()) > 0
    assert tflite.version in read.source
    assert read.refusal("float", 1 << 40) == ""


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["--measure-profile", "x.toml"], 1, "of which device?"),
        (["--device", "mqtt://127.0.0.1/press-07/motion"], 1, "runs the model that it has"),
        (["--profile", "edgetp"], 78, "did you mean 'edgetpu'"),
        (["--profile", "gone.toml"], 78, "gone.toml: there is no such file"),
    ],
)
def test_what_tune_cannot_do_is_one_line(
    arguments: list[str], status: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["tune", *arguments]) == status
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('name = "x"', "source is missing"),
        ('name = "x"\nsource = "s"\nvariants = ["int4"]', "variants"),
        ('name = "x"\nsource = "s"\nmax_size = 0', "max_size"),
        ('name = "x"\nsource = "s"\n[run_us]\nconv-int8 = 3', "conv-float is missing"),
        ('name = "x"\nsource = "s"\n[run_us]\nmobilenet = 3', "run_us"),
        ("name = ", "not TOML"),
    ],
)
def test_a_profile_with_a_mistake_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "x.toml").write_text(text)
    with pytest.raises(ConfigError, match=says):
        profiles.read(str(tmp_path / "x.toml"))


@pytest.mark.parametrize("name", profiles.names())
def test_profiles_that_are_here_say_where_they_are_from(name: str) -> None:
    read = profiles.read(name)
    assert read.name == name
    assert read.source.startswith("https://")
    assert read.run_us == {}


class Fixed:
    """A clock by which every model takes the same."""

    label = "fixed"

    def __init__(self, time: float) -> None:
        self._time = time

    def __call__(self, path: Path, inputs: FloatArray, variant: Variant) -> float:  # noqa: ARG002
        return self._time


def test_an_estimate_is_the_time_here_by_the_ratio_of_its_numbers(tmp_path: Path) -> None:
    known = Profile(name="pi", source="s", run_us={"conv-float": 20.0, "conv-int8": 30.0, "conv-int16x8": 5.0})
    estimate = Estimate(known, Fixed(10.0))
    assert estimate.label == "estimated for pi"
    path, inputs = tmp_path / "m.tflite", np.zeros((1, 1), np.float32)
    variants: list[Variant] = ["float", "float16", "int8", "mixed", "dynamic", "int16x8"]
    assert [estimate(path, inputs, one) for one in variants] == [20, 20, 30, 30, 30, 5]


def test_what_a_device_does_not_take_is_no_choice() -> None:
    edgetpu = Profile(name="edgetpu", source="s", variants=["int8"], max_size=1000)
    assert edgetpu.refusal("float", 10) == "edgetpu takes int8 only"
    assert edgetpu.refusal("int8", 1001) == "edgetpu takes 1,000 B at most"
    refused = Candidate("float", 10, 0.0, 1.0, refused=edgetpu.refusal("float", 10))
    taken = Candidate("int8", 20, 1.0, 2.0)
    assert tuning.front([refused, taken]) == [taken]
    assert (Target().met(taken), Target().met(refused)) == (True, False)


@pytest.mark.parametrize("name", reference.NAMES)
def test_references_are_the_same_bytes_and_run(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.tflite"
    path.write_bytes(reference.model(name))
    assert reference.model(name) == path.read_bytes()
    (output,) = runners.open_model(path).run(list(reference.image()))
    assert output.shape[1:] == reference.image().shape[1:]
    assert float(output.std()) > 0.05


def test_a_device_is_timed_by_many_runs_of_few_bytes(server: Sshd, tmp_path: Path) -> None:
    clock = tuning.There(open_device(server.url(limpet=LIMPET), Login()))
    model = models.dense(tmp_path / "m.tflite", 3, 3)
    assert clock(model, np.zeros((7, 3), np.float32), "int8") > 0
    assert clock.answer.delegate == "cpu"
    assert clock.label.startswith("measured on ")
