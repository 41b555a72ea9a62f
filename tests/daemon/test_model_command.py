"""`limpet model`: what is in the store, and a version that a person chooses."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from daemon.conftest import Configure, pipeline, replay
from daemon.test_model_versions import check, put, runs
from limpet import Pipeline
from limpet.cli import main
from support.broker import wait_until
from support.daemon import Consumer, daemon, missing

IN_MEMORY = "/dev/shm"  # noqa: S108 - a file system whose dates have 64 bits


def limpet(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "limpet", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def listed(path: Path, capsys: pytest.CaptureFixture[str]) -> dict[int, dict[str, Any]]:
    capsys.readouterr()
    assert main(["model", "list", str(path), "--json"]) == 0
    return {row["version"]: row for row in json.loads(capsys.readouterr().out)}


def test_a_version_is_chosen_kept_and_given_back(
    configure: Configure, consumer: Consumer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for version in (1, 2):
        put(tmp_path, version)
    path = configure(replay("left"), pipeline("one", "left", "motion"))
    with daemon(path) as running:
        wait_until(lambda: runs(consumer, 2))
        done = limpet("model", "use", "motion-1", path)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.endswith("one: runs motion 1\n")
        wait_until(lambda: runs(consumer, 1))
        put(tmp_path, 3)
        rows = listed(path, capsys)
        assert {version: row["state"] for version, row in rows.items()} == {
            3: "available",
            2: "previous",
            1: "running",
        }
        assert [version for version, row in rows.items() if row["pinned"]] == [1]
        assert rows[1]["pipelines"] == ["one"]
        running.stop()
        running.start()
        wait_until(lambda: runs(consumer, 1))
        assert "left -> motion 1 on cpu" in check(path)
        assert limpet("model", "use", "motion@previous", path).stdout.endswith("one: runs motion 2\n")
        assert limpet("model", "use", "motion@newest", path).stdout.endswith("one: runs motion 3\n")
        wait_until(lambda: runs(consumer, 3))
        running.stop()
    assert not missing(consumer.results("one"))


@pytest.fixture
def stored(configure: Configure, tmp_path: Path) -> Path:
    put(tmp_path, 1)
    put(tmp_path, 2)
    put(tmp_path, 3, damaged=True)
    return configure(replay("left"), pipeline("one", "left", "motion"))


def test_without_a_daemon_the_choice_holds_from_its_next_start(
    stored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["model", "use", "motion-1", str(stored)]) == 0
    assert "The daemon does not run; it uses this version when it starts" in capsys.readouterr().out
    assert "left -> motion 1 on cpu" in check(stored)
    with Pipeline.from_config(stored, "one") as opened:
        assert "model: motion 1" in repr(opened)
    rows = listed(stored, capsys)
    assert "motion-3.limpet: not a bundle, or damaged" in rows[3]["problem"]
    assert main(["model", "list", str(stored)]) == 0
    table = capsys.readouterr().out
    assert "the daemon does not run" in table
    assert "available, pinned" in table
    assert "damaged" in table


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["motion-9"], "there is no version 9 of motion in"),
        (["motion"], "which version of motion? There are: 1, 2, 3. Run: limpet model use motion-VERSION"),
        (["moton-1"], "there is no model 'moton'"),
        (["moton-1"], "did you mean 'motion'?"),
        (["motion-3"], "nothing was changed"),
        (["motion@previous"], "no other version of motion ran before"),
    ],
)
def test_what_cannot_be_chosen_changes_nothing(
    stored: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["model", "use", *arguments, str(stored)]) != 0
    assert said in capsys.readouterr().err
    assert not (stored.parent / "state" / "pins.json").exists()


def test_a_pin_whose_version_is_gone_is_shown_with_the_way_out(
    configure: Configure, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for version in (1, 2):
        put(tmp_path, version)
    path = configure(replay("left"), pipeline("one", "left", "motion"))
    assert main(["model", "use", "motion-1", str(path)]) == 0
    (tmp_path / "state" / "models" / "motion-1.limpet").unlink()
    assert main(["model", "list", str(path)]) == 0
    way_out = "limpet model use motion@newest"
    assert f"motion is pinned to version 1, which is not there. Run: {way_out}" in capsys.readouterr().out
    assert main(["check", str(path)]) != 0
    assert way_out in capsys.readouterr().err
    assert main([*way_out.split()[1:], str(path)]) == 0
    assert main(["check", str(path)]) == 0


def test_a_model_that_no_pipeline_can_take_is_not_pinned(
    stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "state" / "models"
    shutil.copy(store / "motion-1.limpet", store / "other-1.limpet")
    assert main(["model", "use", "other-1", str(stored)]) == 1
    assert "no pipeline uses the model 'other'; they use: motion" in capsys.readouterr().err
    stored.write_text(stored.read_text().replace('"motion"', '"motion@2"'))
    assert main(["model", "use", "motion-1", str(stored)]) == 1
    assert 'pipelines.one.model names a version itself. Write model = "motion" there' in capsys.readouterr().err


def test_what_lies_in_the_store_does_not_keep_the_list_from_being_shown(
    stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "state" / "models"
    (tmp_path / "secret").write_text("key")
    (store / "other-1.limpet").symlink_to(tmp_path / "secret")
    (store / f"other-{'9' * 60}.limpet").touch()
    os.utime(store / "motion-1.limpet", (-(10**9), -(10**9)))
    os.mkfifo(store / "other-3.limpet")
    rows = listed(stored, capsys)
    assert rows[1]["problem"].endswith(
        "is a link to a file that is no model: its name does not end in .limpet or .tflite"
    )
    assert rows[2]["problem"] == ""


@pytest.mark.skipif(not os.access(IN_MEMORY, os.W_OK), reason="other file systems have no such dates")
def test_a_date_that_no_calendar_has_is_shown_as_the_last_one(
    stored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        bundle = Path(folder) / "motion-2.limpet"
        shutil.move(stored.parent / "state/models/motion-2.limpet", bundle)
        os.utime(bundle, (1e14, 1e14))
        (stored.parent / "state/models/motion-2.limpet").symlink_to(bundle)
        assert listed(stored, capsys)[2]["modified"] == "9999-12-31T23:59:59Z"


def test_other_choices_that_are_lost_are_not_lost_in_silence(
    stored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (stored.parent / "state" / "pins.json").write_text('{"pins": {"other": 3}')
    assert main(["model", "use", "motion-1", str(stored)]) == 0
    assert "pins.json could not be read" in capsys.readouterr().err
    assert (stored.parent / "state" / "pins.json.damaged").exists()
