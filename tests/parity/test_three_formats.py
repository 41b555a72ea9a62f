"""One model that others made, in the three formats that they ship: do they agree on the same sound?

basic-pitch 0.4.0 (Spotify, Apache-2.0) transcribes music. Its wheel has the network as ``.tflite``, ``.onnx`` and
``.mlpackage``, each made by another converter.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from limpet import coreml_file
from limpet.accelerators.delegate_kinds import CPU
from limpet.runtimes import tflite
from limpet_convert import mil

if TYPE_CHECKING:
    from limpet.types import Array

onnxruntime: Any = pytest.importorskip("onnxruntime", reason="needs the environment of `make parity`")

pytestmark = pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")

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
    description = coreml_file.read(folder / "nmp.mlpackage")
    assert (description.kind, description.macos) == ("mlProgram", "12")
    assert description.inputs[0].spec.shape == (1, SAMPLES, 1)
    assert description.metadata["com.github.apple.coremltools.source"] == "tensorflow==2.12.0"
