"""Signatures of bundles: an attacker who has the network and the store gets no model to run."""

from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from attack import bundles as attacks
from limpet.deployment.local import examined
from limpet.errors import DeployError
from limpet.models.bundle import Terms, examine
from limpet.trust.settings import Trust
from support import bundles, models, trusting
from support.trusting import LATER, PAST, Keys

if TYPE_CHECKING:
    from pathlib import Path

KEYS = Keys()


class Device:
    """A device with a root of trust."""

    def __init__(self, folder: Path, root: bytes = trusting.root(KEYS)) -> None:
        self.folder = folder
        (folder / "root.json").write_bytes(root)
        self.trust = Trust(anchor=folder / "root.json", chain=folder / "trust")

    def newer(self, version: int, root: bytes) -> None:
        self.trust.chain.mkdir(exist_ok=True)
        (self.trust.chain / f"{version}.root.json").write_bytes(root)

    def examine(self, path: Path, **terms: Any) -> Any:
        return examine(path, Terms(trust=terms.pop("trust", self.trust), **terms))

    def refuses(self, path: Path, why: str, **terms: Any) -> None:
        with pytest.raises(DeployError, match=why):
            self.examine(path, **terms)

    @property
    def bundle(self) -> Path:
        return self.folder / "motion-3.limpet"


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


def rewritten(path: Path, **members: bytes) -> Path:
    """Put other contents into members of a bundle."""
    with zipfile.ZipFile(path) as archive:
        found = {info.filename: archive.read(info) for info in archive.infolist()}
    return bundles.zipped(path, list({**found, **{k.replace("_", "."): v for k, v in members.items()}}.items()))


def test_a_signed_bundle_says_who_signed_it(device: Device) -> None:
    found = device.examine(trusting.bundle(device.bundle, [KEYS.maker]))
    assert found.signed_by == (KEYS.maker.public_key.keyid,)
    assert found.in_date


def test_without_a_root_unsigned_bundles_and_bare_models_run(tmp_path: Path) -> None:
    model = models.dense(tmp_path / "dense.tflite", 3, 3)
    assert examine(model).signed_by == ()
    assert examine(bundles.bundle(tmp_path / "m.limpet", {"model.tflite": model.read_bytes()})).name == "motion"


def test_with_a_root_an_unsigned_bundle_does_not_run(device: Device) -> None:
    model = models.dense(device.folder / "dense.tflite", 3, 3)
    device.refuses(bundles.bundle(device.bundle, {"model.tflite": model.read_bytes()}), "limpet-convert sign")
    device.refuses(model, "limpet-convert package")


def test_attack_bad_signature_is_refused(device: Device) -> None:
    path = trusting.bundle(device.bundle, [KEYS.maker])
    with zipfile.ZipFile(path) as archive:
        document = json.loads(archive.read("signature"))
    sig = document["signatures"][0]["sig"]
    document["signatures"][0]["sig"] = ("0" if sig[0] != "0" else "1") + sig[1:]
    device.refuses(rewritten(path, signature=json.dumps(document).encode()), "signature of key .* is wrong")


def test_attack_unknown_key_is_refused(device: Device) -> None:
    stranger = trusting.key()
    device.refuses(trusting.bundle(device.bundle, [stranger]), f"key {stranger.public_key.keyid[:16]} is unknown")


def test_attack_key_of_another_role_is_refused(device: Device) -> None:
    device.refuses(trusting.bundle(device.bundle, [KEYS.operator]), "is known, but not for this")


def test_attack_expired_signature_is_refused(device: Device) -> None:
    device.refuses(
        trusting.bundle(device.bundle, [KEYS.maker], expires=PAST), "signature has expired on 2026-01-01"
    )


def test_attack_clock_set_back_does_not_revive_a_signature(device: Device) -> None:
    path = trusting.bundle(device.bundle, [KEYS.maker])
    known = Trust(anchor=device.trust.anchor, chain=device.trust.chain, latest=LATER.timestamp() + 1)
    device.refuses(path, "has expired", trust=known)


def test_what_was_accepted_in_date_runs_after_an_expiry_and_is_not_installed_anew(device: Device) -> None:
    path = trusting.bundle(device.bundle, [KEYS.maker])
    known = Trust(
        anchor=device.trust.anchor,
        chain=device.trust.chain,
        latest=LATER.timestamp() + 1,
        accepted=(device.examine(path).sha256,),
    )
    assert not device.examine(path, trust=known).in_date
    device.refuses(path, "has expired", trust=known, new=True)


def test_with_an_expired_root_no_new_model_is_taken(tmp_path: Path) -> None:
    device = Device(tmp_path, trusting.root(KEYS, expires=PAST))
    device.refuses(trusting.bundle(device.bundle, [KEYS.maker]), "root 1 has expired")


def test_attack_revoked_key_is_refused_also_for_a_model_that_was_good(device: Device) -> None:
    path = trusting.bundle(device.bundle, [KEYS.maker])
    good = device.examine(path).sha256
    device.newer(2, trusting.root(KEYS, 2, targets=[KEYS.maker2]))
    known = Trust(anchor=device.trust.anchor, chain=device.trust.chain, accepted=(good,))
    device.refuses(path, "was removed from the root, so it is revoked", trust=known)
    device.newer(3, trusting.root(KEYS, 3, targets=[KEYS.maker2]))
    device.refuses(path, "was removed from the root, so it is revoked")


def test_attack_other_models_manifest_is_refused(device: Device) -> None:
    other = trusting.signature(b"{}", [KEYS.maker], name="door", version=3)
    device.refuses(
        trusting.bundle(device.bundle, [], signed=other), "that of door/3/manifest.json, not of motion/3/manifest"
    )


def test_attack_manifest_that_was_not_signed_is_refused(device: Device) -> None:
    other = trusting.signature(b"{}", [KEYS.maker])
    device.refuses(trusting.bundle(device.bundle, [], signed=other), "manifest is not the one that was signed")


def test_attack_swapped_member_is_refused(device: Device) -> None:
    path = trusting.bundle(device.bundle, [KEYS.maker])
    with zipfile.ZipFile(path) as archive:
        model = bytearray(archive.read("model.tflite"))
    model[-1] ^= 1
    device.refuses(rewritten(path, model_tflite=bytes(model)), "has the sha256")


def test_attack_mix_of_two_bundles_is_refused(device: Device) -> None:
    path = trusting.bundle(device.bundle, [KEYS.maker])
    other = trusting.bundle(device.folder / "motion-2.limpet", [KEYS.maker], version=2, description="older")
    with zipfile.ZipFile(other) as archive:
        manifest, signature = archive.read("manifest.json"), archive.read("signature")
    mixed = rewritten(trusting.bundle(path, [KEYS.maker]), manifest_json=manifest)
    device.refuses(mixed, "signature is that of motion/3/manifest.json, not of motion/2/manifest")
    device.refuses(
        rewritten(trusting.bundle(path, [KEYS.maker]), signature=signature),
        "signature is that of motion/2/manifest.json, not of motion/3/manifest",
    )


def test_attack_threshold_not_met_is_refused(tmp_path: Path) -> None:
    both = [KEYS.maker, KEYS.maker2]
    device = Device(tmp_path, trusting.root(KEYS, targets=both, thresholds={"targets": 2}))
    device.refuses(
        trusting.bundle(device.bundle, [KEYS.maker]), "needs 2 signatures and has 1; with another key, run"
    )
    found = device.examine(trusting.bundle(device.bundle, both))
    assert set(found.signed_by) == {one.public_key.keyid for one in both}


def test_attack_one_key_under_two_ids_does_not_count_twice(tmp_path: Path) -> None:
    both = [KEYS.maker, KEYS.maker2]
    device = Device(tmp_path, trusting.root(KEYS, targets=both, thresholds={"targets": 2}))
    path = trusting.bundle(device.bundle, [KEYS.maker])
    with zipfile.ZipFile(path) as archive:
        document = json.loads(archive.read("signature"))
    (only,) = document["signatures"]
    for keyid in (KEYS.maker2.public_key.keyid, "f" * 64):
        document["signatures"] = [only, {**only, "keyid": keyid}]
        device.refuses(
            rewritten(path, signature=json.dumps(document).encode()), "a model needs 2 signatures and has 1"
        )
    document["signatures"] = [only, only]
    device.refuses(rewritten(path, signature=json.dumps(document).encode()), "signature")


@pytest.mark.parametrize("data", [b"", b"x" * 64, b"[" * 50_000, b"{}", b'{"signed": {}, "signatures": []}'])
def test_a_member_that_is_no_signature_is_refused(device: Device, data: bytes) -> None:
    path = trusting.bundle(device.bundle, [KEYS.maker])
    device.refuses(rewritten(path, signature=data), "signature")


def test_a_signature_of_two_manifests_is_refused(device: Device) -> None:
    path = trusting.bundle(device.bundle, [KEYS.maker])
    with zipfile.ZipFile(path) as archive:
        document = archive.read("signature")
    targets = json.loads(document)["signed"]["targets"]
    two = {**targets, "motion/4/manifest.json": targets["motion/3/manifest.json"]}
    device.refuses(
        rewritten(path, signature=trusting.changed(document, targets=two)), "Expected `object` of length <= 1"
    )


def test_a_root_that_cannot_be_read_lets_no_model_run(device: Device) -> None:
    path = trusting.bundle(device.bundle, [KEYS.maker])
    device.trust.anchor.write_bytes(b"{}")
    device.refuses(path, "root.json: the root of trust could not be read: Object missing")
    device.trust.anchor.unlink()
    device.refuses(path, "root.json cannot be read: No such file")


def test_a_damaged_newer_root_leaves_the_one_before_in_force(device: Device) -> None:
    device.newer(2, b"{")
    assert device.examine(trusting.bundle(device.bundle, [KEYS.maker])).in_date


HOSTILE = {
    "zip_bomb": ("a zip of 200 MB of zeros", "is compressed; a bundle's members are stored"),
    "path_traversal": ("a member ../evil", "a bundle has no folders, and plain names only"),
    "absolute_path": ("a member /tmp/evil", "a bundle has no folders, and plain names only"),
    "huge_directory": ("a zip with a directory of 3 GB", "its directory has 3221225450 bytes"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_attack_hostile_archive_is_refused_before_anything_is_unpacked(device: Device, what: str) -> None:
    name, why = HOSTILE[what]
    device.refuses(attacks.BUNDLES[name](device.folder), why)


def test_attack_symlink_in_an_archive_is_never_followed(device: Device) -> None:
    """The link is stored as text. The manifest names its length and hash, and has no signature."""
    device.refuses(attacks.BUNDLES["a member that is a link"](device.folder), "it is not signed")


def test_attack_symlink_in_place_of_a_bundle_leads_to_no_secret(device: Device) -> None:
    secret = device.folder / "secret"
    secret.write_text("password")
    device.bundle.symlink_to(secret)
    found = examined(device.bundle, Terms(trust=device.trust))
    assert "is a link to a file that is no model" in found.problem


@pytest.mark.parametrize(
    ("requires", "why"),
    [
        ({"arch": ["riscv128"]}, "it is for riscv128; this device is "),
        ({"limpet": {"least": "99.1"}}, "it needs limpet 99.1 or newer; this is "),
        ({"runtimes": {"ai-edge-litert": {"below": "0.1"}, "tflite-runtime": {"below": "0.1"}}}, "older than 0.1"),
        ({"memory_bytes": 1 << 50}, "MB of memory; this device has"),
        ({"delegates": ["edgetpu"]}, "needs one of the delegates edgetpu; the pipeline names cpu"),
    ],
)
def test_a_bundle_for_other_devices_is_refused(tmp_path: Path, requires: dict[str, Any], why: str) -> None:
    model = models.dense(tmp_path / "dense.tflite", 3, 3).read_bytes()
    path = bundles.bundle(tmp_path / "motion-3.limpet", {"model.tflite": model}, requires=requires)
    with pytest.raises(DeployError, match=why):
        examine(path, Terms(delegates=("cpu",)))
