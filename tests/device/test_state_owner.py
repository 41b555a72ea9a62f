import os
from pathlib import Path

import pytest

from limpet.device.state_files import give_to_owner


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
