"""``limpet trust``: a person shows, enrols and updates the root of trust; `limpet check` follows it."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import pytest

from limpet import Pipeline, cli
from limpet.errors import LimpetError
from support import models, trusting
from support.trusting import PAST, Keys, days

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
model = "motion-3.limpet"

[jsonl]
path = "results.jsonl"
"""
TRUST = '\n[trust]\nroot = "root.json"\n'


class Device:
    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys
        self.config = folder / "limpet.toml"
        (folder / "recording.csv").write_text("a,b,c\n" + "1,2,3\n" * 8)
        self.config.write_text(CONFIG)

    def run(self, *words: str | Path) -> tuple[int, str]:
        status = cli.main([str(word) for word in words])
        said = self._capsys.readouterr()
        return status, said.out + said.err

    def file(self, name: str, data: bytes) -> Path:
        (self.folder / name).write_bytes(data)
        return self.folder / name

    def rooted(self, root: bytes) -> None:
        self.file("root.json", root)
        self.config.write_text(CONFIG + TRUST)


@pytest.fixture
def device(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Device:
    return Device(tmp_path, capsys)


def test_a_device_without_a_root_says_so(device: Device) -> None:
    status, text = device.run("trust", "show", device.config)
    assert status == 0
    assert "no root of trust" in text
    assert json.loads(device.run("trust", "show", "--json", device.config)[1])["models"] == "unsigned"


def test_a_root_that_the_configuration_does_not_name_is_not_in_use(device: Device) -> None:
    root = device.file("root.json", trusting.root(KEYS))
    text = device.run("trust", "show", device.config)[1]
    assert f"{root} is not in use. Add these lines to {device.config}" in text


def test_a_root_is_enrolled_with_its_fingerprint_and_then_shown(device: Device) -> None:
    root = device.file("theirs.json", trusting.root(KEYS))
    status, text = device.run("trust", "enrol", root, device.config)
    assert status == 1
    assert "cannot ask" in text
    fingerprint = text.split("fingerprint ")[1][:64]
    status, text = device.run("trust", "enrol", root, device.config, "--fingerprint", "0" * 64)
    assert status == 1
    assert not (device.folder / "root.json").exists()
    status, text = device.run("trust", "enrol", root, device.config, "--fingerprint", fingerprint)
    assert status == 0
    assert TRUST.strip() in text
    device.config.write_text(CONFIG + TRUST)
    shown = json.loads(device.run("trust", "show", "--json", device.config)[1])
    assert (shown["models"], shown["root"], shown["fingerprint"]) == ("signed", 1, fingerprint)
    assert shown["roles"]["models"] == {"keys": [KEYS.maker.public_key.keyid], "threshold": 1}
    assert KEYS.operator.public_key.keyid[:16] in device.run("trust", "show", device.config)[1]


def test_another_root_does_not_replace_the_one_that_is_there(device: Device) -> None:
    device.rooted(trusting.root(KEYS))
    other = device.file("other.json", trusting.root(Keys()))
    status, text = device.run("trust", "enrol", other, device.config, "--yes")
    assert status == 1
    assert "limpet trust update" in text
    assert (device.folder / "root.json").read_bytes() == trusting.root(KEYS)


def test_a_root_that_its_keys_did_not_sign_is_not_enrolled(device: Device) -> None:
    root = device.file("theirs.json", trusting.root(KEYS, signers=[]))
    status, text = device.run("trust", "enrol", root, device.config, "--yes")
    assert status == 1
    assert "theirs.json: root 1 has 0 of the 1 signatures" in text


def test_newer_roots_are_taken_and_older_ones_are_not(device: Device) -> None:
    device.rooted(trusting.root(KEYS))
    second = device.file("2.root.json", trusting.root(KEYS, 2))
    third = device.file("3.root.json", trusting.root(KEYS, 3))
    assert "root 1" in device.run("trust", "update", third, "--config", device.config)[1]
    assert "root 3 is in force" in device.run("trust", "update", third, second, "--config", device.config)[1]
    status, text = device.run("trust", "update", second, "--config", device.config)
    assert status == 1
    assert "not newer than root 3" in text
    assert "in force already" in device.run("trust", "update", third, "--config", device.config)[1]
    assert json.loads(device.run("trust", "show", "--json", device.config)[1])["root"] == 3


def test_check_refuses_what_is_not_signed_and_takes_what_is(device: Device) -> None:
    device.rooted(trusting.root(KEYS))
    trusting.bundle(device.folder / "motion-3.limpet", [trusting.key()])
    status, text = device.run("check", device.config)
    assert status == 78
    assert "is unknown to this device" in text
    trusting.bundle(device.folder / "motion-3.limpet", [KEYS.maker])
    assert device.run("check", device.config)[0] == 0


def test_check_warns_of_a_root_that_expires_and_refuses_one_that_is_none(device: Device) -> None:
    trusting.bundle(device.folder / "motion-3.limpet", [KEYS.maker])
    device.rooted(trusting.root(KEYS, expires=datetime.now(timezone.utc) + days(10)))
    assert "warning: trust: root 1 expires on" in device.run("check", device.config)[1]
    device.rooted(trusting.root(KEYS, expires=PAST))
    assert "root 1 has expired on 2026-01-01" in device.run("check", device.config)[1]
    device.rooted(b"{}")
    status, text = device.run("check", device.config)
    assert status == 78
    assert "trust.root" in text


def test_check_follows_the_newest_root(device: Device) -> None:
    device.rooted(trusting.root(KEYS))
    trusting.bundle(device.folder / "motion-3.limpet", [KEYS.maker])
    newer = device.file("2.root.json", trusting.root(KEYS, 2, targets=[KEYS.maker2]))
    device.run("trust", "update", newer, "--config", device.config)
    status, text = device.run("check", device.config)
    assert status == 78
    assert "it is revoked" in text


def test_programs_and_infer_follow_the_root(device: Device) -> None:
    device.rooted(trusting.root(KEYS))
    model = models.dense(device.folder / "dense.tflite", 3, 3)
    with pytest.raises(LimpetError, match="there is no file"):
        Pipeline.from_config(device.config, "p")
    trusting.bundle(device.folder / "motion-3.limpet", [trusting.key()])
    with pytest.raises(LimpetError, match="is unknown to this device"):
        Pipeline.from_config(device.config, "p")
    trusting.bundle(device.folder / "motion-3.limpet", [KEYS.maker])
    with Pipeline.from_config(device.config, "p") as pipeline:
        assert pipeline.infer([1, 2, 3])
    with Pipeline(model) as pipeline:
        assert pipeline.infer([1, 2, 3])


def test_lists_of_models_show_what_is_not_trusted(device: Device) -> None:
    device.rooted(trusting.root(KEYS))
    store = device.folder / "state/models"
    store.mkdir(parents=True)
    trusting.bundle(store / "motion-3.limpet", [trusting.key()])
    trusting.bundle(store / "motion-2.limpet", [KEYS.maker], version=2)
    rows = json.loads(device.run("model", "list", "--json", device.config)[1])
    assert ["is unknown" in row["problem"] if row["problem"] else False for row in rows] == [True, False]
