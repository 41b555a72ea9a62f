"""The member ``signature`` of a bundle: TUF's metadata of role ``targets`` with the manifest as its one target."""

from __future__ import annotations

import zipfile
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from limpet.errors import LimpetError
from limpet.models import bundle as bundles
from limpet_convert import package, sign
from limpet_convert.errors import ConvertError
from limpet_convert.libraries import need

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from limpet.models.manifest import Manifest
    from limpet_convert.sign import Signer

DAYS = 730
"""Days after which a signature expires, unless another date is chosen."""


class Signing(NamedTuple):
    """Who signs, and until when the signature lets a device install the model."""

    signers: tuple[Signer, ...]
    expires: datetime


def expiry(text: str | None, days: int = DAYS) -> datetime:
    """Return a date such as ``2030-01-01`` as midnight UTC; without one, the day in ``days`` days."""
    if text is None:
        today = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
        return today + timedelta(days=days)
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=timezone.utc)
    except ValueError as error:
        raise ConvertError(f"{text}: not a date; write it as 2030-01-01") from error


def made(manifest: Manifest, head: bytes, signing: Signing) -> bytes:
    """Return the signature of a manifest, whose bytes are ``head``."""
    metadata: Any = need("tuf.api.metadata")
    trust: Any = need("limpet.trust.bundles")
    path = trust.target_path(manifest.name, manifest.version)
    target = metadata.TargetFile.from_data(path, head)
    signed = metadata.Metadata(metadata.Targets(expires=signing.expires, targets={path: target}))
    sign.sign(signed.signatures, sign.documents().signed_bytes(signed), signing.signers)
    document: bytes = signed.to_bytes()
    return document


def writer(signing: Signing | None) -> Callable[[Manifest, bytes], bytes] | None:
    """Return what ``package.write`` makes the signature with; ``None`` for an unsigned bundle."""
    return None if signing is None else partial(made, signing=signing)


def add(path: Path, signers: Sequence[Signer], expires: datetime | None) -> list[str]:
    """Sign a bundle in place, and return the ids of all keys that have signed it.

    A signature of others for the same manifest stays, and so does its expiry. With ``expires``, it is replaced.
    """
    manifest = bundles.manifest_of(path)
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    head, before = members[bundles.MANIFEST], members.get(bundles.SIGNATURE)
    if before is not None and expires is None and (signed := _same(manifest, head, before)) is not None:
        sign.sign(signed.signatures, sign.documents().signed_bytes(signed), signers)
        document = signed.to_bytes()
    else:
        document = made(manifest, head, Signing(tuple(signers), expires or expiry(None)))
    rest = {name: data for name, data in members.items() if name not in {bundles.MANIFEST, bundles.SIGNATURE}}
    package.replace_file(path, package.zipped({bundles.MANIFEST: head, bundles.SIGNATURE: document, **rest}))
    return list(sign.documents().signature(document).signatures)


def _same(manifest: Manifest, head: bytes, before: bytes) -> Any:
    """Return a signature if it is for this manifest, else ``None``."""
    trust: Any = need("limpet.trust.bundles")
    try:
        signed = sign.documents().signature(before)
        ((path, target),) = signed.signed.targets.items()
        target.verify_length_and_hashes(head)
    except (LimpetError, trust.LengthOrHashMismatchError):
        return None
    return signed if path == trust.target_path(manifest.name, manifest.version) else None


def proven(path: Path, roots: Sequence[Path]) -> tuple[str, ...]:
    """Return the ids of the keys of a root that signed a bundle. ``ConvertError`` if the root does not permit it.

    ``roots``: files of the first root and those that follow on it, in order.
    """
    sign.documents()
    chain: Any = need("limpet.trust.chain")
    trust: Any = need("limpet.trust.bundles")
    manifest = bundles.manifest_of(path)
    with zipfile.ZipFile(path) as archive:
        there = bundles.SIGNATURE in archive.namelist()
        claimed = trust.Claimed(
            manifest.name,
            manifest.version,
            archive.read(bundles.MANIFEST),
            archive.read(bundles.SIGNATURE) if there else None,
        )
    try:
        trusted = chain.anchored(roots[0].read_bytes())
        for one in roots[1:]:
            trusted = chain.followed(trusted, one.read_bytes())
        verdict = trust.verdict(trusted, claimed, datetime.now(timezone.utc))
    except LimpetError as error:
        raise ConvertError(f"{path}: {error}") from error
    if verdict.expired:
        raise ConvertError(f"{path}: {verdict.expired}")
    signed_by: tuple[str, ...] = verdict.signed_by
    return signed_by
