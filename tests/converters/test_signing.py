"""Keys, signatures of bundles, and what is refused."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from limpet.models import bundle as bundles
from limpet.models.manifest import Manifest
from limpet.trust.names import named
from limpet_convert import cli, package, sign
from limpet_convert.bundle_signature import Signing, expiry, writer
from limpet_convert.errors import ConvertError
from support import models

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def public(path: Path) -> Ed25519PublicKey:
    key = load_pem_public_key(sign.public_path(path).read_bytes())
    assert isinstance(key, Ed25519PublicKey)
    return key


def test_a_new_key_is_for_its_owner_and_never_replaced(tmp_path: Path) -> None:
    name = sign.keygen(tmp_path / "maker")
    assert (tmp_path / "maker").stat().st_mode & 0o777 == 0o600
    assert sign.key_id(public(tmp_path / "maker").public_bytes_raw()) == name
    before = (tmp_path / "maker").read_bytes()
    with pytest.raises(ConvertError, match="there already"):
        sign.keygen(tmp_path / "maker")
    assert (tmp_path / "maker").read_bytes() == before


def test_a_key_comes_with_both_its_halves_or_not_at_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "maker.pub").write_text("another's")
    assert cli.main(["keygen", str(tmp_path / "maker")]) == 1
    assert "maker.pub: there already" in capsys.readouterr().err
    assert [one.name for one in tmp_path.iterdir()] == ["maker.pub"]
    assert cli.main(["keygen", str(tmp_path / "gone" / "maker")]) == 1
    assert "maker: No such file or directory" in capsys.readouterr().err


def test_the_command_tells_the_id(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["keygen", str(tmp_path / "maker")]) == 0
    assert sign.key_id(sign.signer(tmp_path / "maker").public) in capsys.readouterr().out
    assert cli.main(["keygen", str(tmp_path / "maker")]) == 1


def rooted(folder: Path) -> Path:
    """Write a root that trusts the key ``maker``."""
    public = str(sign.public_path(folder / "maker"))
    root = folder / "root.json"
    root.unlink(missing_ok=True)
    assert cli.main(["root", "new", str(root), "--root", str(folder / "maker"), "--models", public]) == 0
    return root


def signed(folder: Path) -> Path:
    sign.keygen(folder / "maker")
    signing = Signing((sign.signer(folder / "maker"),), expiry(None))
    package.write(
        folder,
        Manifest(name="m", version=1),
        models.dense(folder / "m.tflite", 4, 4).read_bytes(),
        card="# M",
        signature=writer(signing),
    )
    return folder / "m-1.limpet"


def test_inspect_proves_that_a_device_takes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = str(signed(tmp_path))
    assert cli.main(["inspect", bundle]) == 0
    assert "says that" in capsys.readouterr().out
    root = str(rooted(tmp_path))
    assert cli.main(["inspect", bundle, "--root", root]) == 0
    assert (
        f"signed by {sign.key_id(public(tmp_path / 'maker').public_bytes_raw())[:16]}" in capsys.readouterr().out
    )
    assert cli.main(["inspect", bundle, "--root", str(tmp_path / "maker.pub")]) == 1
    assert "could not be read" in capsys.readouterr().err


def test_a_bundle_is_signed_by_several_keys_one_after_the_other(tmp_path: Path) -> None:
    bundle = signed(tmp_path)
    sign.keygen(tmp_path / "second")
    assert cli.main(["sign", str(bundle), "--key", str(tmp_path / "second")]) == 0
    ids = [sign.key_id(sign.signer(tmp_path / name).public) for name in ("maker", "second")]
    with zipfile.ZipFile(bundle) as archive:
        assert named(archive.read("signature")) == ids
        assert archive.namelist()[:2] == ["manifest.json", "signature"]
    assert cli.main(["sign", str(bundle), "--key", str(tmp_path / "second"), "--expires", "2044-01-01"]) == 0
    with zipfile.ZipFile(bundle) as archive:
        assert named(archive.read("signature")) == ids[1:]
    bundles.load(bundle, tmp_path / "cache")


@pytest.mark.parametrize("date", ["tomorrow", "2030-13-01", "2030"])
def test_a_date_that_is_none_is_refused(tmp_path: Path, date: str, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = signed(tmp_path)
    assert cli.main(["sign", str(bundle), "--key", str(tmp_path / "maker"), "--expires", date]) == 1
    assert "not a date; write it as 2030-01-01" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("member", "change", "said"),
    [
        ("model.tflite", lambda data: data[:-1] + bytes([data[-1] ^ 1]), "has the sha256"),
        ("MODEL_CARD.md", lambda _: b"# N", "'MODEL_CARD.md' is not what manifest.json says"),
        ("signature", lambda _: None, "is not signed"),
        ("signature", lambda _: bytes(64), "its signature could not be read"),
        ("manifest.json", lambda data: data.replace(b'"m"', b'"n"'), "its signature is that of m/1"),
    ],
)
def test_inspect_refuses_what_was_changed(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    member: str,
    change: Callable[[bytes], bytes | None],
    said: str,
) -> None:
    bundle, root = signed(tmp_path), rooted(tmp_path)
    changed = tmp_path / "changed.limpet"
    with zipfile.ZipFile(bundle) as old, zipfile.ZipFile(changed, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if (kept := change(data) if name == member else data) is not None:
                new.writestr(name, kept)
    assert cli.main(["inspect", str(changed), "--root", str(root)]) == 1
    assert said in capsys.readouterr().err


def test_signing_is_reproducible(tmp_path: Path) -> None:
    sign.keygen(tmp_path / "maker")
    made = []
    for _ in range(2):
        signing = Signing((sign.signer(tmp_path / "maker"),), expiry("2030-01-01"))
        package.write(tmp_path, Manifest(name="m", version=1), b"model", inputs=[np.ones(1)], outputs=[np.ones(1)])
        package.write(tmp_path, Manifest(name="m", version=1), b"model", signature=writer(signing))
        made.append((tmp_path / "m-1.limpet").read_bytes())
    assert made[0] == made[1]


def test_what_is_no_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("secret")
    subprocess.run(
        ["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024", "-out", tmp_path / "rsa"],
        check=True,
        capture_output=True,
    )
    for name, said in (("gone", "keygen"), ("text", "not a private key"), ("rsa", "not an Ed25519 key")):
        with pytest.raises(ConvertError, match=said):
            sign.signer(tmp_path / name)


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Run a real ssh-agent with one key; its socket is in the environment."""
    if shutil.which("ssh-agent") is None:
        pytest.skip("there is no ssh-agent on this machine")
    key, place = tmp_path / "id", tmp_path / "agent"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "release key", "-f", key], check=True)
    running = subprocess.Popen(["ssh-agent", "-D", "-a", place], stdout=subprocess.DEVNULL)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(place))
        for _ in range(100):
            done = subprocess.run(["ssh-add", "-q", key], capture_output=True, check=False)
            if done.returncode == 0:
                break
        yield key
    finally:
        running.send_signal(signal.SIGTERM)
        running.wait()


def test_an_agent_signs_as_a_file_does(agent: Path) -> None:
    from cryptography.hazmat.primitives.serialization import load_ssh_public_key

    signer = sign.signer("agent:release key")
    key = load_ssh_public_key(agent.with_name("id.pub").read_bytes())
    assert isinstance(key, Ed25519PublicKey)
    key.verify(signer.sign(b"a manifest"), b"a manifest")
    assert signer.public == key.public_bytes_raw() == sign.public_key(agent.with_name("id.pub"))
    with pytest.raises(ConvertError, match="it holds: release key"):
        sign.signer("agent:other")


def test_without_an_agent_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with pytest.raises(ConvertError, match="SSH_AUTH_SOCK is not set"):
        sign.signer("agent:mine")
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "gone"))
    with pytest.raises(ConvertError, match="does not answer"):
        sign.signer("agent:mine")
    assert os.environ["SSH_AUTH_SOCK"]
