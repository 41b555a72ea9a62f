"""Roots and requests made on a workstation: a device takes what people make here, and nothing else."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest

from limpet.trust import chain, requests
from limpet_convert import cli, sign
from limpet_convert.errors import ConvertError
from limpet_convert.libraries import need
from support import bundles, models

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime.now(timezone.utc)


class Workstation:
    """A folder with keys, and the commands that are typed there."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys
        for name in ("root.key", "root2.key", "release.key", "second.key", "ops.key"):
            sign.keygen(folder / name)

    def run(self, *words: str) -> tuple[int, str]:
        paths = [
            str(self.folder / word) if word.endswith((".key", ".pub", ".json", ".limpet")) else word
            for word in words
        ]
        status = cli.main(paths)
        said = self._capsys.readouterr()
        return status, said.out + said.err

    def done(self, *words: str) -> dict[str, Any]:
        status, text = self.run(*words, "--json")
        assert status == 0, text
        found: dict[str, Any] = json.loads(text)
        return found

    def key(self, name: str) -> str:
        return sign.key_id(sign.signer(self.folder / name).public)

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Workstation:
    return Workstation(tmp_path, capsys)


NEW = (
    "root",
    "new",
    "root.json",
    "--root",
    "root.key",
    "--models",
    "release.key.pub",
    "--operators",
    "ops.key.pub",
)


def test_a_first_root_is_one_that_a_device_takes(desk: Workstation) -> None:
    made = desk.done(*NEW)
    assert made["missing"] == []
    roots = chain.anchored(desk.read("root.json"))
    assert roots.role("targets").keyids == [desk.key("release.key")]
    assert roots.role("timestamp").keyids == [desk.key("ops.key")]
    status, text = desk.run(*NEW)
    assert status == 1
    assert "there already" in text


def test_two_people_sign_a_root_one_after_the_other(desk: Workstation) -> None:
    made = desk.done(*NEW, "--root", "root2.key.pub", "--threshold", "root=2")
    assert made["missing"] == [f"1 of its own keys must sign: {desk.key('root2.key')[:16]}"]
    status, text = desk.run("root", "renew", "root.json", "--key", "root.key")
    assert status == 1
    assert "not signed yet" in text
    assert "Run: limpet-convert root sign" in text
    assert desk.done("root", "sign", "root.json", "--key", "root2.key")["missing"] == []
    assert chain.anchored(desk.read("root.json")).version == 1
    status, text = desk.run("root", "sign", "root.json", "--key", "release.key")
    assert status == 1
    assert "not a root key" in text


def test_keys_are_added_and_revoked_in_new_versions(desk: Workstation) -> None:
    desk.done(*NEW)
    desk.done(
        "root", "add-key", "root.json", "models", "second.key.pub", "--key", "root.key", "--threshold", "models=2"
    )
    made = desk.done(
        "root",
        "remove-key",
        "2.root.json",
        "models",
        desk.key("release.key")[:10],
        "--key",
        "root.key",
        "--threshold",
        "models=1",
    )
    assert (made["version"], made["missing"]) == (3, [])
    roots = chain.anchored(desk.read("root.json"))
    for name in ("2.root.json", "3.root.json"):
        roots = chain.followed(roots, desk.read(name))
    assert roots.role("targets").keyids == [desk.key("second.key")]
    assert roots.former["targets"] == {desk.key("release.key")}
    status, text = desk.run("root", "remove-key", "3.root.json", "models", "0123", "--key", "root.key")
    assert status == 1
    assert "has 0 keys that begin with" in text


def test_the_roots_own_key_is_changed_with_both_signatures(desk: Workstation) -> None:
    desk.done(*NEW)
    desk.done("root", "add-key", "root.json", "root", "root2.key.pub", "--key", "root.key")
    made = desk.done("root", "remove-key", "2.root.json", "root", "root.key.pub", "--key", "root2.key")
    assert made["missing"] == []
    shown = desk.done("root", "show", "3.root.json")
    assert shown["roles"]["root"]["keys"] == [desk.key("root2.key")]
    assert shown["missing"] == []


def test_a_root_without_a_key_that_must_sign_is_not_written(desk: Workstation) -> None:
    desk.done(*NEW)
    status, text = desk.run(
        "root", "remove-key", "root.json", "models", desk.key("release.key"), "--key", "root.key"
    )
    assert status == 1
    assert "role models has 0 keys, and 1 must sign" in text
    assert not (desk.folder / "2.root.json").exists()


def request(desk: Workstation, *more: str) -> bytes:
    model = models.dense(desk.folder / "m.tflite", 3, 3).read_bytes()
    bundles.bundle(desk.folder / "motion-8.limpet", {"model.tflite": model}, version=8)
    status, text = desk.run(
        "desired", "motion-8.limpet", "--pipeline", "p", "--url", "https://models.example.com/8", *more
    )
    assert status == 0, text
    return text.encode()


def test_a_patch_comes_before_the_whole_bundle(desk: Workstation) -> None:
    patch = {"url": "https://models.example.com/p", "patch_of": "1" * 64, "sha256": "2" * 64, "length": 9}
    sources = json.loads(request(desk, "--source", json.dumps(patch)))["sources"]
    assert [one["url"][-1] for one in sources] == ["p", "8"]
    assert sources[0]["patch_of"] == "1" * 64
    for wrong, why in ("{", "Write one JSON object"), ('{"uri": "x"}', "unknown key 'uri'"):
        status, text = desk.run(
            "desired", "motion-8.limpet", "--pipeline", "p", "--source", wrong, "--url", "https://a"
        )
        assert (status, why in text) == (1, True)


def test_a_signed_request_is_one_that_a_device_takes(desk: Workstation) -> None:
    desk.done(*NEW)
    payload = request(
        desk, "--key", "ops.key", "--allow-older", "--device", "press-07", "--policy", "{ shadow_windows = 9 }"
    )
    found = requests.read(
        payload, requests.Addressed("press-07", "p", NOW), chain.anchored(desk.read("root.json"))
    )
    assert found.signed_by == (desk.key("ops.key"),)
    assert (found.request.version, found.request.allow_older, found.request.policy.shadow_windows) == (8, True, 9)
    assert found.request.length == (desk.folder / "motion-8.limpet").stat().st_size


def test_a_plain_request_is_one_that_a_device_takes(desk: Workstation) -> None:
    found = requests.read(request(desk), requests.Addressed("press-07", "p", NOW), None)
    assert found.signed_by == ()
    assert abs(found.request.serial - NOW.timestamp()) < 600


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--allow-older",), "counts only in a signed request"),
        (("--policy", "{ shadow = 1 }"), "unknown key 'shadow'"),
        (("--policy", "{ shadow_windows = -1 }"), "no device takes this request"),
        (("--chunks", "abc"), "no device takes this request"),
    ],
)
def test_a_request_that_no_device_takes_is_not_written(
    desk: Workstation, words: tuple[str, ...], why: str
) -> None:
    request(desk)
    status, text = desk.run("desired", "motion-8.limpet", "--pipeline", "p", "--url", "https://x/8", *words)
    assert status == 1
    assert why in text


@pytest.mark.parametrize(("module", "extra"), [("tuf.not_there", "updates"), ("not_there", "convert")])
def test_a_package_that_is_missing_is_named_with_its_extra(module: str, extra: str) -> None:
    with pytest.raises(ConvertError, match=rf"{module} is not installed; .*limpet\[{extra}\]"):
        need(module)
