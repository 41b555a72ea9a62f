"""Files of updates: what a deployer that was taken over left behind is no bundle, and leads nowhere."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from limpet.supervision.update_files import PART, UpdateFiles
from limpet.updates.state import Deployed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECRET = b"a secret"
BUNDLE = Deployed(model="motion", version=1, sha256="a" * 64, file_sha256="b" * 64, length=len(SECRET))


@pytest.fixture
def files(tmp_path: Path) -> UpdateFiles:
    return UpdateFiles(tmp_path)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_bytes(SECRET)
    return path


def link(part: Path, secret: Path) -> None:
    part.symlink_to(secret)


def second_name(part: Path, secret: Path) -> None:
    os.link(secret, part)


def fifo(part: Path, _secret: Path) -> None:
    os.mkfifo(part)


def folder(part: Path, _secret: Path) -> None:
    (part / "in/deep").mkdir(parents=True)


@pytest.mark.parametrize("attack", [link, second_name, fifo, folder])
def test_attack_a_download_that_is_no_file_of_its_own_is_not_placed(
    files: UpdateFiles, secret: Path, tmp_path: Path, attack: Callable[[Path, Path], None]
) -> None:
    attack(files.make_download("p") / PART, secret)
    assert files.whole("p") is None
    with pytest.raises(FileNotFoundError):
        files.place("p", BUNDLE)
    files.delete_download("p")
    assert not (tmp_path / "downloads/p").exists()
    assert secret.read_bytes() == SECRET


def test_a_link_in_place_of_a_folder_is_replaced_and_not_followed(files: UpdateFiles, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/precious").write_bytes(SECRET)
    for name in ("downloads", "deployed", "requests"):
        (tmp_path / name).symlink_to(tmp_path / "elsewhere")
    assert files.requests() == []
    files.prune([])
    files.delete_other_downloads([])
    assert files.make_download("p").resolve() == tmp_path / "downloads/p"
    assert (tmp_path / "elsewhere/precious").read_bytes() == SECRET


def test_a_bundle_is_placed_once_and_others_are_pruned(files: UpdateFiles, tmp_path: Path) -> None:
    (files.make_download("p") / PART).write_bytes(SECRET)
    files.place("p", BUNDLE)
    files.place("p", BUNDLE)  # as after a power cut between the file and the state
    (tmp_path / "deployed/motion-0.limpet").write_bytes(b"old")
    files.prune([BUNDLE])
    assert [path.name for path in (tmp_path / "deployed").iterdir()] == ["motion-1.limpet"]
    assert files.path(BUNDLE).read_bytes() == SECRET


def test_only_names_of_pipelines_are_requests(files: UpdateFiles, tmp_path: Path) -> None:
    (tmp_path / "requests").mkdir()
    for name in ("p.json", "p.limpet", "..json", "new", "a b.json", ".hidden.json"):
        (tmp_path / "requests" / name).write_bytes(b"{}")
    assert files.requests() == [("p", tmp_path / "requests/p.json")]


def test_a_local_bundle_that_is_a_hard_link_stays_where_it_is_and_the_error_says_so(tmp_path: Path) -> None:
    other, local = tmp_path / "other", tmp_path / "requests" / "p.limpet"
    local.parent.mkdir()
    other.write_bytes(b"bundle")
    local.hardlink_to(other)
    with pytest.raises(OSError, match="it has another name elsewhere, as a hard link"):
        UpdateFiles(tmp_path).take_local("p")
    assert local.read_bytes() == other.read_bytes() == b"bundle"
