"""`limpet model list` and `install` where a root of trust, or a key for the disk, decides. No daemon runs."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from limpet import cli
from limpet.models import bundle, deployed, sealed
from limpet.updates.state import Deployed, Update, Updates
from support import models, trusting
from support.bundles import bundle as made
from support.trusting import Keys

if TYPE_CHECKING:
    from pathlib import Path

KEYS = Keys()
CONFIG = """
[device]
id = "press-07"
state = "state"

[sources.s]
kind = "replay"
path = "recording.csv"
rate = 10

[pipelines.p]
source = "s"
model = "motion"

[jsonl]
path = "results.jsonl"
"""
TRUST = '\n[trust]\nroot = "root.json"\n'
KEY = '\n[updates]\nencryption_key_file = "key"\n'


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "state/models").mkdir(parents=True)
    (tmp_path / "root.json").write_bytes(trusting.root(KEYS))
    path = tmp_path / "limpet.toml"
    path.write_text(CONFIG)
    return path


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    status = cli.main(["model", *map(str, words)])
    said = capsys.readouterr()
    return status, said.out + said.err


def rows(capsys: pytest.CaptureFixture[str], config: Path) -> dict[int, dict[str, Any]]:
    return {row["version"]: row for row in json.loads(run(capsys, "list", config, "--json")[1])}


def unsigned(folder: Path, version: int) -> Path:
    model = models.dense(folder / "dense.tflite", inputs=3, outputs=3).read_bytes()
    return made(folder / f"motion-{version}.limpet", {"model.tflite": model}, name="motion", version=version)


def test_with_a_root_an_unsigned_bundle_is_untrusted_and_not_installed(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unsigned(tmp_path / "state/models", 1)
    assert rows(capsys, config)[1]["problem"] == ""
    config.write_text(CONFIG + TRUST)
    row = rows(capsys, config)[1]
    assert row["untrusted"]
    assert "untrusted" in run(capsys, "list", config)[1].splitlines()[2]
    file = unsigned(tmp_path, 2)
    status, text = run(capsys, "install", file, "--yes", "--config", config)
    assert status == 1
    assert f"{file}: " in text
    assert "Nothing was changed" in text
    assert list((tmp_path / "state/requests").iterdir()) == []


def test_a_signed_bundle_waits_for_the_daemon_and_the_list_has_its_key(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(CONFIG + TRUST)
    file = trusting.bundle(tmp_path / "motion-2.limpet", [KEYS.maker], name="motion", version=2)
    status, text = run(capsys, "install", file, "--yes", "--shadow", "7", "--config", config)
    assert (status, text) == (0, "p: motion 2 waits. The update begins when the daemon starts\n")
    order = json.loads((tmp_path / "state/requests/p.json").read_bytes())
    assert order["order"] == "update"
    assert order["desired"]["policy"] == {"shadow_windows": 7}
    assert order["desired"]["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert (tmp_path / "state/requests/p.limpet").read_bytes() == file.read_bytes()
    file.rename(tmp_path / "state/models/motion-2.limpet")
    assert rows(capsys, config)[2]["signed_by"] == [KEYS.maker.public_key.keyid]
    assert KEYS.maker.public_key.keyid[:16] in run(capsys, "list", config)[1]


def test_an_encrypted_bundle_is_listed_and_opened_only_with_its_key(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = unsigned(tmp_path, 3)
    data, identity = plain.read_bytes(), bundle.examine(plain).sha256
    digest = hashlib.sha256(data).hexdigest()
    one = Deployed(model="motion", version=3, sha256=identity, file_sha256=digest, length=len(data))
    (tmp_path / "key").write_bytes(bytes(32))
    (tmp_path / "state/deployed").mkdir()
    placed = tmp_path / "state/deployed/motion-3.limpet"
    with plain.open("rb") as content, placed.open("wb") as target:
        sealed.seal(content, len(data), target, sealed.file_key(bytes(32), digest))
    deployed.write(tmp_path / "state", Updates(pipelines={"p": Update(pipeline="p", stage="good", good=one)}))
    config.write_text(CONFIG + KEY)
    row = rows(capsys, config)[3]
    assert (row["state"], row["where"], row["problem"]) == ("good", "deployed", "")
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "run"))
    assert rows(capsys, config)[3]["problem"] == ""
    placed.write_bytes(placed.read_bytes()[:-1] + b"x")
    assert "changed on the disk" in rows(capsys, config)[3]["problem"]


def test_on_a_device_without_updates_there_is_nothing_to_go_back_to(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (config, config.with_name("other.toml")):
        path.write_text(CONFIG.replace('"state"', f'"{path.stem}"'))
        status, text = run(capsys, "rollback", "p", "--config", path)
        assert status == 1
        assert "p: There is no other model to go back to." in text
        assert "no pipeline runs a model that came by an update" in run(capsys, "rollback", "--config", path)[1]
        assert "there is no pipeline 'q'" in run(capsys, "history", "q", "--config", path)[1]
        assert run(capsys, "history", "--config", path) == (0, "now  p: no model has run yet\n")
        assert "there is no bundle in" in run(capsys, "list", path)[1]
    assert not (tmp_path / "state/requests").exists()
