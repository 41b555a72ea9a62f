"""Roots of trust, signed bundles and signed requests, made with python-tuf as anybody's tools make them."""

from __future__ import annotations

import copy
import json
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Role, Root, TargetFile, Targets

from support import bundles, models

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

NOW = datetime(2027, 1, 1, tzinfo=timezone.utc)
LATER = datetime(2040, 1, 1, tzinfo=timezone.utc)
PAST = datetime(2026, 1, 1, tzinfo=timezone.utc)
REQUEST_TYPE = "application/vnd.limpet.desired+json"


def key() -> CryptoSigner:
    return CryptoSigner.generate_ed25519()


class Keys:
    """A key for each role, and one more of each."""

    def __init__(self) -> None:
        self.root, self.root2 = key(), key()
        self.maker, self.maker2 = key(), key()
        self.operator = key()


def root(
    keys: Keys,
    version: int = 1,
    *,
    expires: datetime = LATER,
    signers: Sequence[CryptoSigner] | None = None,
    thresholds: dict[str, int] | None = None,
    **roles: Sequence[CryptoSigner],
) -> bytes:
    """Return a root. ``roles``: other keys than the usual one for a role."""
    wanted = {
        "root": [keys.root],
        "targets": [keys.maker],
        "timestamp": [keys.operator],
        "snapshot": [keys.operator],
        **roles,
    }
    least = thresholds or {}
    signed = Root(
        version=version,
        expires=expires,
        keys={one.public_key.keyid: one.public_key for each in wanted.values() for one in each},
        roles={
            name: Role([one.public_key.keyid for one in each], least.get(name, 1)) for name, each in wanted.items()
        },
    )
    return signed_by(Metadata(signed), wanted["root"] if signers is None else signers)


def signed_by(metadata: Metadata[Any], signers: Sequence[CryptoSigner]) -> bytes:
    for one in signers:
        metadata.sign(one, append=True)
    return metadata.to_bytes()


def signature(
    manifest: bytes,
    signers: Sequence[CryptoSigner],
    *,
    name: str = "motion",
    version: int = 3,
    expires: datetime = LATER,
) -> bytes:
    path = f"{name}/{version}/manifest.json"
    targets = Targets(version=1, expires=expires, targets={path: TargetFile.from_data(path, manifest)})
    return signed_by(Metadata(targets), signers)


def bundle(
    path: Path,
    signers: Sequence[CryptoSigner],
    *,
    expires: datetime = LATER,
    signed: bytes | None = None,
    **fields: Any,
) -> Path:
    """Write a bundle with a model that works, signed. ``signed``: another member ``signature``."""
    model = models.dense(path.with_suffix(".tflite"), 3, 3)
    members = {"model.tflite": model.read_bytes()}
    model.unlink()
    manifest = bundles.manifest(members, **{"decoder": {"kind": "regress"}, **fields})
    read = json.loads(manifest)
    made = signed or signature(manifest, signers, name=read["name"], version=read["version"], expires=expires)
    return bundles.zipped(path, [("manifest.json", manifest), ("signature", made), *members.items()])


def request(fields: dict[str, Any], signers: Sequence[CryptoSigner] = ()) -> bytes:
    """Return a request, in an envelope if somebody signs it."""
    content = json.dumps(
        {"model": "motion", "version": 3, "sha256": "a" * 64, "length": 1000, "pipeline": "p", **fields}
    ).encode()
    if not signers:
        return content
    envelope = Envelope(content, REQUEST_TYPE, {})
    for one in signers:
        envelope.sign(one)
    return json.dumps(envelope.to_dict()).encode()


def changed(document: bytes, **fields: Any) -> bytes:
    """Return a document with other fields in its signed part, and its old signatures."""
    read = copy.deepcopy(json.loads(document))
    read["signed"].update(fields)
    return json.dumps(read).encode()


def days(count: float) -> timedelta:
    return timedelta(days=count)
