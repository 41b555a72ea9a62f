"""Whether a bundle may run: its member ``signature`` is TUF's metadata of role ``targets``.

It has exactly one target, ``NAME/VERSION/manifest.json``, with length and SHA-256 of the manifest's bytes. The
manifest has the hashes of all other members, so parts of two bundles do not go together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
from tuf.api.exceptions import LengthOrHashMismatchError

from limpet.errors import TrustError
from limpet.trust import documents

if TYPE_CHECKING:
    from datetime import datetime

    from limpet.trust.chain import Roots

ROLE = "targets"
UNSIGNED = (
    "it is not signed, and this device has a root of trust, so only signed models run. On a workstation, run: "
    "limpet-convert sign FILE --key KEY"
)


class Claimed(NamedTuple):
    """Name and version as a bundle's manifest has them, the manifest, and the member ``signature``."""

    name: str
    version: int
    manifest: bytes
    signature: bytes | None


class Verdict(msgspec.Struct, frozen=True):
    """A bundle that may run. ``signed_by``: ids of the keys. ``expired``: why no device may newly install it."""

    signed_by: tuple[str, ...]
    expired: str = ""


def target_path(name: str, version: int) -> str:
    """Return what a signature calls the manifest of a model."""
    return f"{name}/{version}/manifest.json"


def verdict(roots: Roots, bundle: Claimed, now: datetime) -> Verdict:
    """Return what the signature of a bundle is worth.

    ``TrustError`` or ``UnreadableError`` if it is worth nothing.
    """
    if bundle.signature is None:
        raise TrustError(UNSIGNED)
    metadata = documents.signature(bundle.signature)
    signers = roots.signers(ROLE, metadata.signatures, documents.signed_bytes(metadata))
    roots.refuse_too_few(ROLE, metadata.signatures, signers)
    ((path, target),) = metadata.signed.targets.items()
    wanted = target_path(bundle.name, bundle.version)
    if path != wanted:
        raise TrustError(f"its signature is that of {path[:100]}, not of {wanted}")
    try:
        target.verify_length_and_hashes(bundle.manifest)
    except LengthOrHashMismatchError as error:
        raise TrustError("its manifest is not the one that was signed") from error
    return Verdict(signers, _expired(roots, metadata.signed.expires, now))


def _expired(roots: Roots, until: datetime, now: datetime) -> str:
    if until <= now:
        return f"its signature has expired on {until:%Y-%m-%d}. Sign it again"
    if roots.newest.signed.expires <= now:
        when = f"{roots.newest.signed.expires:%Y-%m-%d}"
        return f"root {roots.version} has expired on {when}, so no new model is taken. Send a newer root"
    return ""
