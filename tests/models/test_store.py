from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from limpet.contracts.assignment import Folders
from limpet.errors import DeployError
from limpet.models.store import candidates, find, stored

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    for name in ("motion-2", "motion-9", "motion-10", "motion-fast-1", "odd", "door-3"):
        (folder / f"{name}.limpet").touch()
    return folder


def test_the_highest_version_counts(tmp_path: Path, store: Path) -> None:
    assert find("motion", Folders(tmp_path, tmp_path, store)) == store / "motion-10.limpet"
    assert find("motion-fast", Folders(tmp_path, tmp_path, store)) == store / "motion-fast-1.limpet"


def test_a_path_starts_at_the_base(tmp_path: Path, store: Path) -> None:
    (tmp_path / "here.tflite").touch()
    assert find("here.tflite", Folders(tmp_path, tmp_path, store)) == tmp_path / "here.tflite"
    assert find("models/door-3.limpet", Folders(tmp_path, tmp_path, store)) == store / "door-3.limpet"
    assert (
        find(str(store / "door-3.limpet"), Folders(tmp_path / "elsewhere", tmp_path, store))
        == store / "door-3.limpet"
    )


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("motoin", r"no model 'motoin' in .*did you mean 'motion'"),
        ("zebra", r"there are: door, motion, motion-fast\)"),
        ("odd", "no model 'odd'"),
        ("motion-10", "no model 'motion-10'"),
        ("models/dor-3.limpet", r"no file .*dor-3\.limpet \(did you mean 'door-3\.limpet'"),
        ("missing.tflite", r"no file .*missing\.tflite"),
        ("models/", "no file"),
    ],
)
def test_what_is_not_there(tmp_path: Path, store: Path, name: str, reason: str) -> None:
    with pytest.raises(DeployError, match=reason):
        find(name, Folders(tmp_path, tmp_path, store))


def test_no_store_at_all(tmp_path: Path) -> None:
    assert stored(tmp_path / "nowhere") == {}
    with pytest.raises(DeployError, match="no model 'motion' in "):
        find("motion", Folders(tmp_path, tmp_path, tmp_path / "nowhere"))


def test_a_folder_or_a_fifo_in_place_of_a_model_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "folder.tflite").mkdir()
    os.mkfifo(tmp_path / "fifo.tflite")
    for name in ("folder.tflite", "fifo.tflite"):
        with pytest.raises(DeployError, match="is not a regular file"):
            find(name, Folders(tmp_path, tmp_path, tmp_path))


def test_all_versions_are_candidates_the_highest_first(tmp_path: Path, store: Path) -> None:
    found = candidates("motion", Folders(tmp_path, tmp_path, store))
    assert [one.path.name for one in found] == ["motion-10.limpet", "motion-9.limpet", "motion-2.limpet"]
    assert [(one.version, one.lower) for one in found] == [(10, True), (9, True), (2, False)]


def test_a_version_that_is_named_is_the_only_candidate(tmp_path: Path, store: Path) -> None:
    folders = Folders(tmp_path, tmp_path, store)
    (named,) = candidates("motion@9", folders)
    assert (named.path, named.lower) == (store / "motion-9.limpet", False)
    (absent,) = candidates("motion@3", folders)
    assert "no version 3 of 'motion'" in absent.problem
    assert "there are: 10, 9, 2" in absent.problem


def test_a_model_that_is_not_there_is_a_candidate_with_a_problem(tmp_path: Path, store: Path) -> None:
    (absent,) = candidates("motoin", Folders(tmp_path, tmp_path, store))
    assert "did you mean 'motion'" in absent.problem


def test_names_that_no_bundle_can_have_go_into_no_message(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    for name in (b"\xff\x1b[31m-1", b"../../x-1".replace(b"/", b"_"), b"x" * 65 + b"-1", b"motion-1"):
        (folder / os.fsdecode(name + b".limpet")).touch()
    assert stored(folder).keys() == {"motion"}
    (absent,) = candidates("zebra", Folders(tmp_path, tmp_path, folder))
    assert absent.problem.endswith("there is no model 'zebra' in " + f"{folder} (there are: motion)")
    (folder / os.fsdecode(b"\xff\x1b[31m.tflite")).touch()
    (absent,) = candidates("models/zebra.tflite", Folders(tmp_path, tmp_path, folder))
    assert absent.problem.encode().decode().isprintable()


def test_a_store_whose_files_have_no_version_says_how_they_must_be_named(tmp_path: Path) -> None:
    for name in ("motion", "motion-v3", "motion-1.2"):
        (tmp_path / f"{name}.limpet").touch()
    (absent,) = candidates("motion", Folders(tmp_path, tmp_path, tmp_path))
    assert absent.problem.endswith("(no file there is named motion-VERSION.limpet)")


def test_a_version_has_the_digits_0_to_9(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    for version in ("1", "01", "\N{ARABIC-INDIC DIGIT ONE}", "\N{FULLWIDTH DIGIT ONE}"):
        (folder / f"motion-{version}.limpet").touch()
    assert stored(folder) == {"motion": {1: folder / "motion-1.limpet"}}


def test_a_store_of_thousands_of_names_makes_a_short_message(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    for number in range(2000):
        (folder / f"{number}-{'x' * 50}-1.limpet").touch()
        (folder / f"motion-{number}.limpet").touch()
    for model in ("zebra", "motion@9999"):
        (absent,) = candidates(model, Folders(tmp_path, tmp_path, folder))
        assert len(absent.problem) < 4000
        assert " more" in absent.problem
