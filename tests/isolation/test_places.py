"""A sandbox holds for the files and folders that were there when it was entered, not for their names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet.isolation.permissions import Permissions
from limpet.isolation.places import Places

if TYPE_CHECKING:
    from pathlib import Path


def test_what_was_put_under_the_name_of_another_file_or_folder_cannot_be_opened(tmp_path: Path) -> None:
    store, file, cache = tmp_path / "store", tmp_path / "file", tmp_path / "cache"
    for folder in (store, cache):
        folder.mkdir()
    file.touch()
    places = Places(Permissions(read=frozenset({store, file, tmp_path / "absent"}), change=frozenset({cache})))
    assert places.open([store / "model", file, tmp_path / "absent"])
    for name in ("model", "new"):
        (store / name).touch()
    (store / "new").replace(store / "model")
    assert places.open([store / "model"]), "its folder is the same"
    (tmp_path / "absent").touch()
    assert not places.open([tmp_path / "absent"])
    (tmp_path / "new").touch()
    (tmp_path / "new").replace(file)
    assert not places.open([file])
    file.unlink()
    assert places.open([file]), "a new worker could read it no better"
    store.rename(tmp_path / "aside")
    store.mkdir()
    (store / "model").touch()
    assert not places.open([store / "model"])
    assert places.open([])
    cache.rmdir()
    assert not places.open([])
