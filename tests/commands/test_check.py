"""``limpet check`` leaves nothing behind that is in the service's way."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from limpet import cli
from support import models

BUNDLE = Path(__file__).parents[2] / "agent" / "limpet" / "demo_data" / "shuttle-1.limpet"
CONFIG = """
[device]
id = "d"
state = "state"
[jsonl]
[sources.s]
kind = "serial"
port = "/dev/none"
channels = ["f1", "f2", "f3", "f4", "f5", "f6", "f7", "f8", "f9"]
[pipelines.p]
source = "s"
model = "shuttle"
"""


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory with a bundle; whose it is, tests decide."""
    (tmp_path / "limpet.toml").write_text(CONFIG)
    (tmp_path / "state" / "models").mkdir(parents=True)
    shutil.copy(BUNDLE, tmp_path / "state" / "models")
    return tmp_path / "state"


def check(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", str(state.with_name("limpet.toml"))]) == 0
    assert capsys.readouterr().out == "p: s -> shuttle 1 on cpu\n"


def test_ones_own_cache_is_used(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check(state, capsys)
    assert len(list((state / "cache").iterdir())) > 0


def test_nothing_is_written_into_somebody_elses_state(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = state.with_name("limpet.toml")
    path.write_text(CONFIG.replace('state = "state"', 'state = "theirs"\nmodels = "state/models"'))
    theirs = state.with_name("theirs")
    if os.geteuid() == 0:
        theirs.mkdir()
        os.chown(theirs, 65534, 65534)
    else:
        theirs.symlink_to("/usr")
    check(state, capsys)
    assert not (theirs / "cache").exists()


def test_no_state_directory_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "limpet.toml"
    path.write_text(CONFIG.replace('model = "shuttle"', f'model = "{BUNDLE}"'))
    check(tmp_path / "state", capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["limpet.toml"]


DETECTOR = """
[device]
id = "d"
[jsonl]
[sources.s]
kind = "serial"
port = "/dev/none"
channels = ["a", "b"]
[pipelines.p]
source = "s"
model = "boxes.tflite"
decoder = { kind = "detect", labels = ["cat", "dog"] }
"""


def test_outputs_that_no_decoder_reads_are_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "limpet.toml"
    path.write_text(DETECTOR)
    models.dense(tmp_path / "boxes.tflite", 2, 9)
    assert cli.main(["check", str(path)]) == 78
    assert "decoder: the layout of outputs of shape [1, 9] is not to be told" in capsys.readouterr().err
    models.dense(tmp_path / "boxes.tflite", 2, 6)
    assert cli.main(["check", str(path)]) == 0
