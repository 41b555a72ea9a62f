import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from limpet.device.boot import holder
from limpet.device.state_files import as_owner, give_to_owner


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_made_in_the_state_directory_becomes_its_owners(tmp_path: Path) -> None:
    state, secret = tmp_path / "state", tmp_path / "secret"
    (state / "cache" / "models").mkdir(parents=True)
    (state / "boot.json").touch()
    secret.touch()
    (state / "link").symlink_to(secret)
    os.link(secret, state / "second-name")
    os.chown(state, 65534, 65534)
    give_to_owner(state)
    assert {(state / name).stat().st_uid for name in ("cache", "cache/models", "boot.json")} == {65534}
    assert secret.stat().st_uid == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_who_becomes_the_owner_of_a_directory_may_send_no_signal_to_a_process_of_root(tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, 65534)
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom limpet.device import state_files\n"
        "state_files.become_owner(Path(sys.argv[1]))\nprint(os.getresuid(), os.getresgid())\n"
        "os.kill(int(sys.argv[2]), 0)"
    )
    command = [sys.executable, "-c", code, tmp_path, str(os.getpid())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "(65534, 65534, 65534) (65534, 65534, 65534)\n"
    assert "PermissionError" in done.stderr


def test_only_a_lock_in_the_directory_itself_says_who_holds_it(tmp_path: Path) -> None:
    state, elsewhere = tmp_path / "state", tmp_path / "elsewhere"
    state.mkdir()
    with elsewhere.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        (state / "lock").symlink_to(elsewhere)
        assert holder(state) is None
        (state / "lock").unlink()
        elsewhere.rename(state / "lock")
        assert holder(state) == os.getpid()
    assert holder(state) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_work_as_the_owner_of_a_link_has_that_users_rights_and_ends(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("/root")
    os.chown(link, 65534, 65534, follow_symlinks=False)
    before = os.getresuid(), os.getresgid(), os.getgroups()
    with as_owner(link / "none"):
        assert (os.geteuid(), os.getegid(), os.getgroups()) == (65534, 65534, [])
    assert (os.getresuid(), os.getresgid(), os.getgroups()) == before
