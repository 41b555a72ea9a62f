"""One model that others made, in the three formats that they ship: do they agree on the same sound?

basic-pitch 0.4.0 (Spotify, Apache-2.0) transcribes music. Its wheel has the network as ``.tflite``, ``.onnx`` and
``.mlpackage``, each made by another converter.
"""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from limpet.contracts.delegate import CPU
from limpet.models.coreml import specification
from limpet.runtimes import tflite
from limpet_convert import mil
from limpet_convert.graph import Graph

if TYPE_CHECKING:
    from limpet.contracts.data import Array

onnxruntime: Any = pytest.importorskip("onnxruntime", reason="needs the environment of `make parity`")

pytestmark = [
    pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning"),
    # coremltools' own sources, where Python compiles them for the first time.
    pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning"),
]

RATE, SAMPLES = 22050, 43844
NAMES = {"Identity": 0, "Identity_1": 1, "Identity_2": 2}
"""Core ML's names of the outputs, and the number by which the other formats call them."""
A4, E5 = 69 - 21, 76 - 21  # MIDI notes as columns of the 88 keys


@pytest.fixture(scope="module")
def folder() -> Path:
    try:
        distribution = metadata.distribution("basic-pitch")
    except metadata.PackageNotFoundError:
        pytest.skip("needs basic-pitch 0.4.0: pip install --no-deps basic-pitch==0.4.0")
    return Path(str(distribution.locate_file("basic_pitch/saved_models/icassp_2022")))


@pytest.fixture(scope="module")
def sound() -> Array:
    """Two notes, A4 and E5, the second after a second, and a little noise: (1, 43844, 1)."""
    seconds = np.arange(SAMPLES) / RATE
    tones = np.sin(2 * np.pi * 440 * seconds) + np.sin(2 * np.pi * 659.26 * seconds) * (seconds > 1)
    noise = np.random.default_rng(0).normal(0, 0.01, SAMPLES)
    return (0.3 * tones + noise).astype(np.float32).reshape(1, SAMPLES, 1)


@pytest.fixture(scope="module")
def by_coreml(folder: Path, sound: Array) -> list[Array]:
    program = mil.Program(folder / "nmp.mlpackage")
    assert [NAMES[spec.name] for spec in program.outputs] == [0, 1, 2]
    return program.run([sound])


@pytest.fixture(scope="module")
def by_tflite(folder: Path, sound: Array) -> list[Array]:
    with tflite.open(folder / "nmp.tflite", tflite.Config(), CPU, [sound.shape]) as model:
        found = [output.copy() for output in model.run([sound])]
        order = [int(spec.name.rpartition(":")[2]) for spec in model.outputs]
    return [found[order.index(number)] for number in range(3)]


@pytest.fixture(scope="module")
def by_onnx(folder: Path, sound: Array) -> list[Array]:
    session = onnxruntime.InferenceSession(str(folder / "nmp.onnx"), providers=["CPUExecutionProvider"])
    names = [f"StatefulPartitionedCall:{number}" for number in range(3)]
    found: list[Array] = session.run(names, {session.get_inputs()[0].name: sound})
    return found


def test_it_hears_the_two_notes(by_coreml: list[Array]) -> None:
    notes = by_coreml[1][0]
    assert notes.shape == (172, 88)
    early, late = notes[20:70].mean(0), notes[110:160].mean(0)
    assert early.argmax() == A4
    assert set(np.argsort(late)[-2:]) == {A4, E5}


@pytest.mark.parametrize("other", ["by_tflite", "by_onnx"])
@pytest.mark.parametrize("output", range(3))
def test_the_formats_agree(
    by_coreml: list[Array], other: str, output: int, request: pytest.FixtureRequest
) -> None:
    theirs = request.getfixturevalue(other)[output]
    assert theirs.shape == by_coreml[output].shape
    np.testing.assert_allclose(by_coreml[output], theirs, atol=1e-3)


def test_the_package_describes_itself(folder: Path) -> None:
    description = specification.read(folder / "nmp.mlpackage")
    assert (description.kind, description.macos) == ("mlProgram", "12")
    assert description.inputs[0].spec.shape == (1, SAMPLES, 1)
    assert description.metadata["com.github.apple.coremltools.source"] == "tensorflow==2.12.0"


FORMATS = ["nmp.tflite", "nmp.onnx", "nmp.mlpackage"]


def limpet_convert(*arguments: object) -> tuple[int, str]:
    command = [sys.executable, "-m", "limpet_convert", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    return done.returncode, done.stdout


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(FORMATS, 2)))
def test_diff_pairs_the_three_outputs_of_two_formats(
    folder: Path, sound: Array, tmp_path: Path, first: str, second: str
) -> None:
    np.save(tmp_path / "sound.npy", sound)
    status, printed = limpet_convert("diff", folder / first, folder / second, "--inputs", tmp_path / "sound.npy")
    assert status == 0
    pairs = re.findall(
        r"^  output \d \((.*)\) \[.*\] and output \d \((.*)\): differ by (.*) at most", printed, re.MULTILINE
    )
    assert len(pairs) == 3
    for one, other, largest in pairs:
        assert number(one) == number(other)
        assert float(largest) < 1e-3
    assert "ops: " in printed


def number(output: str) -> int:
    """Return which output of the network it is, by TensorFlow's or by Core ML's name."""
    return NAMES[output] if output in NAMES else int(output.rpartition(":")[2])


TOML = """
[model]
path = "MODEL"
[data]
calibration = "sounds.npy"
test = "sounds.npy"
targets = "rolls.npy"
[bundle]
name = "notes"
version = 1
task = "regress"
channels = ["mono"]
rate = 22050
window = { size = 43844 }
[verify]
max_size_ratio = 1.5
"""


@pytest.fixture
def project(folder: Path, sound: Array, tmp_path: Path) -> Path:
    """A project whose held-back data are two sounds; the truth is when each of the 88 keys was struck."""
    np.save(tmp_path / "sounds.npy", np.concatenate([sound[0], sound[0, ::-1]]))
    rolls = np.zeros((2, 172, 88), np.float32)
    rolls[0, 0, A4] = rolls[0, 86, E5] = rolls[1, 0, [A4, E5]] = 1
    np.save(tmp_path / "rolls.npy", rolls)
    path = tmp_path / "convert.toml"
    path.write_text(TOML.replace("MODEL", str(folder / "nmp.tflite")))
    return path


@pytest.mark.parametrize("other", FORMATS[1:])
def test_verify_says_that_another_format_is_the_same_model(folder: Path, project: Path, other: str) -> None:
    status, printed = limpet_convert("verify", project, "--models", folder / FORMATS[0], folder / other)
    assert status == 0
    assert "agreement 100.00%" in printed


def test_verify_finds_a_model_that_is_another(folder: Path, project: Path, tmp_path: Path) -> None:
    """The same file with a few weights turned round."""
    damaged = bytearray((folder / FORMATS[0]).read_bytes())
    weights = max(Graph(bytes(damaged)).model.buffers, key=lambda one: 0 if one.data is None else len(one.data))
    at = bytes(damaged).index(bytes(weights.data))
    damaged[at : at + len(weights.data)] = bytes(len(weights.data))
    (tmp_path / "damaged.tflite").write_bytes(damaged)
    status, printed = limpet_convert(
        "verify", project, "--models", folder / FORMATS[1], tmp_path / "damaged.tflite"
    )
    assert status == 1
    assert "misses: agreement" in printed


def test_inspect_tells_what_each_format_holds(folder: Path) -> None:
    for name, op in zip(FORMATS, ("CONV_2D 32", "Conv 32", "conv 32"), strict=True):
        status, printed = limpet_convert("inspect", folder / name)
        assert status == 0
        assert op in printed
        assert "43844, 1] float32" in printed
