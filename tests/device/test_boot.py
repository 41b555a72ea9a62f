from __future__ import annotations

import re
import resource
from typing import TYPE_CHECKING

import pytest

from limpet.device import boot, state_files
from limpet.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def test_runs_are_counted_and_never_repeat(tmp_path: Path) -> None:
    names = [boot.next_boot(tmp_path) for _ in range(3)]
    counts = [int(name.split("-")[0]) for name in names]
    assert counts == [1, 2, 3]
    assert len({name.split("-")[1][:6] for name in names}) == 1


def test_a_record_that_was_put_back_brings_no_name_again(tmp_path: Path) -> None:
    boot.next_boot(tmp_path)
    kept = (tmp_path / "boot.json").read_bytes()
    first = boot.next_boot(tmp_path)
    (tmp_path / "boot.json").write_bytes(kept)
    again = boot.next_boot(tmp_path)
    assert first.split("-")[0] == again.split("-")[0] == "2"
    assert first != again


def test_a_lock_that_is_another_name_of_a_file_is_not_taken(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"x")
    state = tmp_path / "state"
    state.mkdir()
    (state / "lock").hardlink_to(secret)
    notices: list[str] = []
    claim = boot.lock(state, notices.append)
    assert claim
    claim.close()
    assert not (state / "lock").samefile(secret)
    assert "another name" in notices[0]


def test_a_lost_or_damaged_record_begins_anew_under_another_name(tmp_path: Path) -> None:
    first = boot.next_boot(tmp_path)
    (tmp_path / "boot.json").write_bytes(b"\x00" * 20)
    second = boot.next_boot(tmp_path)
    assert first.split("-")[0] == second.split("-")[0] == "1"
    assert first != second


def test_where_nothing_can_be_written_the_name_is_random(tmp_path: Path) -> None:
    names = {boot.next_boot(tmp_path / "absent") for _ in range(5)}
    assert len(names) == 5
    assert all(re.fullmatch("0-[0-9a-f]{12}", name) for name in names)


def test_one_supervisor_at_a_time(tmp_path: Path) -> None:
    claim = boot.lock(tmp_path / "state")
    assert claim is not None
    with pytest.raises(ConfigError, match="another limpet"):
        boot.lock(tmp_path / "state")
    claim.close()
    again = boot.lock(tmp_path / "state")
    assert again is not None
    again.close()


def test_a_state_that_cannot_be_made_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert boot.lock(tmp_path / "file" / "state") is None


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    state_files.replace(path, b"old")
    state_files.replace(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_does_not_fit_is_named(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(OSError, match=f"File too large: '{tmp_path}/pins.json'"):
            state_files.replace(tmp_path / "pins.json", bytes(100))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
