"""From a folder of recordings to a bundle that runs: each framework, each task, and what leaves no bundle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from limpet.recordings import folder as recordings
from support.recorded_motion import RATE, motion, write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.data import FloatArray

pytest.importorskip("keras", reason="needs the environment of `make parity`")
pytest.importorskip("torch", reason="needs the environment of `make parity`")

LABELS = ("idle", "shake", "walk")
ENVIRONMENT = os.environ | {
    "PYTHONPATH": os.pathsep.join(str(Path(__file__).parents[2] / name) for name in ("agent", "converters"))
}
BUNDLE = "motion-1.limpet"


def session(folder: Path, first: int, count: int) -> Path:
    """Write recordings that have every label each."""
    return write(folder, [[(label, motion(label, 6, first + n)) for label in LABELS] for n in range(count)])


def command(folder: Path, output: Path, *options: str) -> list[str]:
    program = [sys.executable, "-m", "limpet_convert", "train", str(folder), "--output", str(output), "--json"]
    return [*program, "--budget", "20", *options]


def train(folder: Path, output: Path, *options: str, status: int = 0) -> dict[str, Any]:
    done = subprocess.run(
        command(folder, output, *options),
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == status, done.stderr[-2000:]
    report: dict[str, Any] = json.loads(done.stdout)  # nothing else is on standard output
    return report


def limpet(*arguments: str, state: Path) -> list[dict[str, Any]]:
    """Run the agent, and return the lines of JSON that it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "limpet", *arguments],
        env=ENVIRONMENT | {"STATE_DIRECTORY": str(state)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A training session of four recordings, and a test session of another seed."""
    base = tmp_path_factory.mktemp("recordings")
    return session(base / "training", 0, 4), session(base / "test", 100, 1)


@pytest.fixture(scope="module", params=["torch", "keras"])
def trained(
    request: pytest.FixtureRequest, folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Path, str]:
    """The report of a training, its folder and the framework."""
    output = tmp_path_factory.mktemp(request.param)
    report = train(folders[0], output, "--test", str(folders[1]), "--framework", request.param)
    return report, output, request.param


def expected(recording: recordings.Recording, sample: int, size: int) -> str:
    """Return the label of a window by its last sample; empty if it lies in none, or in two."""
    begin, end = (sample - size + 1) / RATE, sample / RATE
    return next((s.label for s in recording.spans if s.begin <= begin and end < s.end), "")


def test_the_daemon_says_on_another_session_what_the_report_says(
    trained: tuple[dict[str, Any], Path, str], folders: tuple[Path, Path], tmp_path: Path
) -> None:
    report, output, _ = trained
    [recording] = recordings.read(folders[1]).recordings
    (tmp_path / "limpet.toml").write_text(
        f"""
[device]
id = "test"
[sources.imu]
kind = "replay"
path = "{folders[1] / recording.file}"
speed = 8.0
[pipelines.motion]
source = "imu"
model = "{output / BUNDLE}"
[jsonl]
path = "{tmp_path / "out.jsonl"}"
"""
    )
    results = limpet("run", str(tmp_path / "limpet.toml"), "--once", "--print", state=tmp_path / "state")
    pairs = [
        (expected(recording, one["sample"], report["setting"]["window"]), one["output"]["label"])
        for one in results
    ]
    judged = [true == said for true, said in pairs if true]
    assert report["split_by"] == "recording"
    assert len(judged) >= 10
    assert np.mean(judged) >= 0.95
    assert np.mean(judged) == pytest.approx(report["test"]["accuracy"], abs=0.03)
    assert report["held_out"]["accuracy"] > 0.85


def test_the_same_folder_gives_the_same_bundle_and_its_project_file_makes_it_again(
    trained: tuple[dict[str, Any], Path, str], folders: tuple[Path, Path], tmp_path: Path
) -> None:
    report, output, framework = trained
    made = (output / BUNDLE).read_bytes()
    if report["search"]["complete"]:  # else the clock has ended it, which the report says
        train(folders[0], tmp_path, "--test", str(folders[1]), "--framework", framework)
        assert (tmp_path / BUNDLE).read_bytes() == made
    again = tmp_path / "again"
    subprocess.run(
        [sys.executable, "-m", "limpet_convert", "run", str(output / "convert.toml"), "--output", str(again)],
        env=ENVIRONMENT,
        check=True,
        timeout=300,
    )
    assert (again / BUNDLE).read_bytes() == made
    assert {path.name for path in output.iterdir()} >= {"train.json", "train.md", "train.png", "convert.toml"}


def test_a_second_training_gets_the_next_version(
    trained: tuple[dict[str, Any], Path, str], folders: tuple[Path, Path]
) -> None:
    _, output, framework = trained
    report = train(folders[0], output, "--framework", framework, "--max-kb", "8")
    assert (output / "motion-2.limpet").is_file()
    assert report["version"] == 2
    assert report["sizes"]["model"] <= 8 * 1024


def test_labels_at_random_give_no_bundle_and_a_report_that_says_why(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    parts = [[(str(random.choice(LABELS[:2])), motion("walk", 3, 20 * n + k)) for k in range(4)] for n in range(8)]
    output = tmp_path / "out"
    report = train(write(tmp_path / "in", parts), output, status=1)
    assert report["bundle"] is None
    assert "no better than chance" in report["why"]
    assert not list(output.glob("*.limpet"))
    assert "No bundle was written." in (output / "train.md").read_text()


def normal_and(folder: Path, strange: Sequence[tuple[str, FloatArray]]) -> Path:
    return write(folder, [[("normal", motion("walk", 12, n)), *strange] for n in range(5)])


@pytest.mark.parametrize("framework", ["torch", "keras"])
@pytest.mark.parametrize("labelled", [True, False])
def test_anomalies_are_reported_and_normal_windows_rarely(
    tmp_path: Path, framework: str, *, labelled: bool
) -> None:
    strange = [("jammed", motion("shake", 4, 50))] if labelled else []
    folder = normal_and(tmp_path / "in", strange)
    report = train(folder, tmp_path, "--task", "anomaly", "--name", "pump", "--framework", framework)
    assert report["held_out"]["false_alarms"] <= 0.02
    assert ("auc" in report["held_out"]) == labelled
    test = write(tmp_path / "test", [[("", motion("walk", 20, 90)), ("", motion("shake", 6, 91))]])
    file = test / recordings.read(test).recordings[0].file
    results = limpet("infer", "--json", str(tmp_path / "pump-1.limpet"), str(file), state=tmp_path / "state")
    normal = [one["output"]["anomalous"] for one in results if one["sample"] < 20 * RATE]
    after = 20 * RATE + report["setting"]["window"]
    shaken = [one["output"]["anomalous"] for one in results if one["sample"] >= after]
    assert np.mean(normal) <= 0.1
    assert np.mean(shaken) >= 0.9


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_a_channel_is_estimated_from_the_others(tmp_path: Path, framework: str) -> None:
    def related(seed: int) -> FloatArray:
        values = motion("walk", 16, seed)
        slow = 5 + 3 * np.sin(np.arange(len(values)) / 60 + seed)
        values[:, 0] *= slow
        return np.concatenate([values, slow[:, np.newaxis].astype(np.float32)], axis=1)

    folder = write(tmp_path / "in", [[("", related(n))] for n in range(4)], units=["g", "g", "g", "mm"])
    options = ("--task", "regress", "--target", "c3", "--name", "load", "--framework", framework)
    test = write(tmp_path / "other", [[("", related(n))] for n in range(10, 12)], units=["g", "g", "g", "mm"])
    report = train(folder, tmp_path, *options, "--test", str(test))
    assert report["test"]["r2"] > 0.5
    assert report["held_out"]["r2"] > 0.5
    assert report["held_out"]["mae"] < report["held_out"]["baselines"]["mae of the mean"] / 2
    values = related(77)
    test = write(tmp_path / "test", [[("", values)]])
    file = test / recordings.read(test).recordings[0].file
    results = limpet("infer", "--json", str(tmp_path / "load-1.limpet"), str(file), state=tmp_path / "state")
    size = report["setting"]["window"]
    errors = [
        abs(one["output"]["values"]["c3"] - values[one["sample"] - size + 1 : one["sample"] + 1, 3].mean())
        for one in results
    ]
    assert results[0]["output"]["units"] == {"c3": "mm"}
    assert np.mean(errors) < report["held_out"]["baselines"]["mae of the mean"] / 2


def test_ctrl_c_leaves_what_was_there_and_nothing_else(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "motion-1.limpet").write_bytes(b"an older bundle")
    running = subprocess.Popen(
        [
            "env",
            "--default-signal=INT",
            *command(folders[0], tmp_path, "--budget", "300"),
        ],  # a shell's & ignores it
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stderr is not None
    line = ""
    while "Features to try" not in line:  # the search has begun
        line = running.stderr.readline()
        assert line
    time.sleep(0.5)
    running.send_signal(signal.SIGINT)
    output, errors = running.communicate(timeout=60)
    assert running.returncode == 130
    assert output == ""
    assert "No bundle was written." in errors
    assert [path.name for path in tmp_path.iterdir()] == ["motion-1.limpet"]
    assert (tmp_path / "motion-1.limpet").read_bytes() == b"an older bundle"
