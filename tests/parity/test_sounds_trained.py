"""From recorded sound to a bundle that hears it: by `limpet infer`, in the daemon, and from a microphone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from limpet.recordings import folder as recordings
from support.microphone import NAME, Microphone
from support.recorded_sound import RATE, SOUNDS, sound, write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.data import FloatArray

pytest.importorskip("keras", reason="needs the environment of `make parity`")
pytest.importorskip("torch", reason="needs the environment of `make parity`")

ENVIRONMENT = os.environ | {
    "PYTHONPATH": os.pathsep.join(str(Path(__file__).parents[2] / name) for name in ("agent", "converters"))
}
BUNDLE = "noise-1.limpet"


def session(folder: Path, first: int, count: int, suffix: str = ".wav") -> Path:
    return write(
        folder, [[(label, sound(label, 4, 10 * (first + n))) for label in SOUNDS] for n in range(count)], suffix
    )


def train(folder: Path, output: Path, *options: str) -> dict[str, Any]:
    program = [sys.executable, "-m", "limpet_convert", "train", str(folder), "--output", str(output), "--json"]
    done = subprocess.run(
        [*program, "--name", "noise", "--budget", "6", *options],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def infer(bundle: Path, file: Path, state: Path) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "limpet", "infer", "--json", str(bundle), str(file)],
        env=ENVIRONMENT | {"STATE_DIRECTORY": str(state)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def run(source: str, bundle: Path, folder: Path, count: int, environment: dict[str, str]) -> list[dict[str, Any]]:
    """Run the daemon with a source and three lines for the pipeline, until it has given so many results."""
    folder.mkdir()
    (folder / "limpet.toml").write_text(
        f"""
[device]
id = "test"
[jsonl]
path = "{folder / "out.jsonl"}"
[sources.ears]
{source}
[pipelines.noise]
source = "ears"
model = "{bundle}"
"""
    )
    running = subprocess.Popen(
        [sys.executable, "-m", "limpet", "run", str(folder / "limpet.toml"), "--print"],
        env=ENVIRONMENT | environment | {"STATE_DIRECTORY": str(folder / "state")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stdout is not None
    found: list[dict[str, Any]] = []
    try:
        while len(found) < count and (line := running.stdout.readline()):
            found.append(json.loads(line))
    finally:
        running.terminate()
        _, errors = running.communicate(timeout=60)
    assert len(found) == count, errors[-2000:]
    return found


@pytest.fixture(scope="module", params=["torch", "keras"])
def trained(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Path, Path]:
    """The report of a training, its folder, and a session that it has not seen."""
    base = tmp_path_factory.mktemp(request.param)
    test = session(base / "test", 100, 2, ".flac")
    report = train(session(base / "seen", 0, 5), base / "out", "--test", str(test), "--framework", request.param)
    return report, base / "out", test


def truth(one: recordings.Recording, result: dict[str, Any], size: int) -> str:
    """Return the label of a window; empty if it lies in two spans."""
    begin, end = (result["sample"] - size + 1) / RATE, result["sample"] / RATE
    return next((span.label for span in one.spans if span.begin <= begin and end < span.end), "")


def test_infer_the_daemon_and_a_microphone_give_the_same_answers(
    trained: tuple[dict[str, Any], Path, Path], tmp_path: Path
) -> None:
    report, output, test = trained
    one = recordings.read(test).recordings[0]
    values, _ = soundfile.read(test / one.file, dtype="int16", always_2d=True)
    inferred = infer(output / BUNDLE, test / one.file, tmp_path)
    pairs = [
        (true, said["output"]["label"])
        for said in inferred
        if (true := truth(one, said, report["setting"]["window"]))
    ]
    right = np.mean([true == said for true, said in pairs])
    assert len(pairs) >= 30
    assert right >= 0.9
    assert report["test"]["accuracy"] >= 0.9
    assert report["agreement_with_float"] >= 0.95
    replayed = run(
        f'kind = "replay"\npath = "{test / one.file}"\nspeed = 8.0',
        output / BUNDLE,
        tmp_path / "replay",
        len(inferred),
        {},
    )
    assert [said["output"] for said in replayed] == [said["output"] for said in inferred]
    microphone = Microphone(tmp_path / "mic", values)
    heard = run(
        f'kind = "audio"\ndevice = "{NAME}"',
        output / BUNDLE,
        tmp_path / "audio",
        len(inferred),
        microphone.environment,
    )
    assert [said["sample"] for said in heard] == [said["sample"] for said in inferred]
    assert [said["output"] for said in heard] == [said["output"] for said in inferred]


def test_the_bundle_has_what_the_device_needs_and_is_small(trained: tuple[dict[str, Any], Path, Path]) -> None:
    report, output, _ = trained
    described = subprocess.run(
        [sys.executable, "-m", "limpet", "inspect", str(output / BUNDLE)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert '"kind": "log_mel"' in described
    assert "hiss, hum, knock in windows of 1.02 s" in described
    assert report["variant"] == "int8"
    assert report["sizes"]["model"] < 64 * 1024


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_a_machine_that_sounds_otherwise_is_reported_and_its_normal_sound_rarely(
    tmp_path: Path, framework: str
) -> None:
    def parts(first: int, strange: Sequence[tuple[str, FloatArray]]) -> list[tuple[str, FloatArray]]:
        return [("normal", sound("hum", 10, first)), *strange]

    folder = write(tmp_path / "in", [parts(n, [("knocks", sound("knock", 3, n))]) for n in range(5)])
    report = train(folder, tmp_path / "out", "--task", "anomaly", "--framework", framework)
    assert report["held_out"]["auc"] > 0.95
    test = write(tmp_path / "test", [parts(90, [("", sound("knock", 6, 91))])])
    file = test / recordings.read(test).recordings[0].file
    results = infer(tmp_path / "out" / BUNDLE, file, tmp_path / "state")
    normal = [one["output"]["anomalous"] for one in results if one["sample"] < 10 * RATE]
    after = 10 * RATE + report["setting"]["window"]
    knocking = [one["output"]["anomalous"] for one in results if one["sample"] >= after]
    assert np.mean(normal) <= 0.2
    assert np.mean(knocking) >= 0.9
