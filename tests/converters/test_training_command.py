"""``limpet-convert train``: what its command line and the environment lack is said before anything is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from limpet_convert import cli
from limpet_convert.errors import ConvertError
from limpet_convert.training import backends
from support.recorded_motion import motion, write

if TYPE_CHECKING:
    from pathlib import Path


def test_all_that_is_wrong_with_the_options_is_said_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--name", "Bad Name", "--budget", "0", "--target", "az", "--false-alarms", "2", "--window", "-1")
    assert cli.main(["train", str(tmp_path / "none"), *options]) == 78
    errors = capsys.readouterr().err
    for part in (
        "--name",
        "--budget",
        "--target",
        "--false-alarms",
        "--window",
        "no such folder. Run: limpet record",
    ):
        assert part in errors


def test_the_folder_that_is_learned_from_is_no_test(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path / "in", [[("idle", motion("idle", 2, 1))]])
    assert cli.main(["train", str(folder), "--test", str(tmp_path / "in" / ".." / "in")]) == 78
    assert "--test: is the folder that is learned from" in capsys.readouterr().err


def test_a_bundle_that_exists_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path / "in", [[("idle", motion("idle", 2, 1))]])
    (tmp_path / "motion-3.limpet").touch()
    assert cli.main(["train", str(folder), "--output", str(tmp_path), "--version", "3"]) == 78
    assert "motion-3.limpet exists" in capsys.readouterr().err


def test_without_a_framework_it_is_said_what_to_install() -> None:
    none = {"torch": ("no_such_module",), "keras": ("no_such_module",)}
    with pytest.raises(ConvertError, match=r"Run: pip install 'limpet\[convert-torch\]'"):
        backends.choose("", none)
    one = {"torch": ("json",), "keras": ("no_such_module",)}
    with pytest.raises(
        ConvertError, match=r"pip install 'limpet\[convert-tensorflow\]', or leave out --framework"
    ):
        backends.choose("keras", one)
