"""Folders that a process may change: the owner of the disk may have put something else in their place."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ENTER = """
import sys
from pathlib import Path
from limpet.isolation import sandbox
from limpet.isolation.permissions import Permissions
state, folder = map(Path, sys.argv[1:])
sandbox.enter(Permissions(change=frozenset({folder})), state)
(folder / "own").write_text("")
"""


def write_own(state: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Enter a sandbox in which a folder may be changed, and write there."""
    return subprocess.run(
        [sys.executable, "-c", ENTER, state, folder], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("at", ["cache", "cache/models", "cache/models/line"])
def test_a_link_below_the_state_directory_is_set_aside(tmp_path: Path, at: str) -> None:
    state, elsewhere = tmp_path / "state", tmp_path / "elsewhere"
    (elsewhere / "models" / "line").mkdir(parents=True)
    (state / at).parent.mkdir(parents=True)
    (state / at).symlink_to(elsewhere)
    folder = state / "cache" / "models" / "line"
    entered = write_own(state, folder)
    assert entered.returncode == 0, entered.stderr
    assert (folder / "own").exists()
    assert not list(elsewhere.rglob("own"))
    assert (state / f"{at}.damaged").is_symlink()


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.write_text("")], ids=["fifo", "file"])
def test_what_is_no_folder_is_set_aside(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "cache")
    folder = tmp_path / "cache" / "models" / "line"
    assert write_own(tmp_path, folder).returncode == 0
    assert (folder / "own").exists()


def test_links_above_the_state_directory_are_somebody_elses(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    assert write_own(tmp_path / "link" / "state", tmp_path / "link" / "state" / "cache").returncode == 0
    assert (tmp_path / "disk" / "state" / "cache" / "own").exists()
