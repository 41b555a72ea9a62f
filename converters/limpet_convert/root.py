"""Roots of trust: TUF's metadata of role ``root``. A change makes the next version, which old and new keys sign.

People know three roles: ``root``, ``models`` and ``operators``. TUF calls the second one ``targets``. Operators
are ``timestamp``, and ``snapshot`` as well, since TUF wants keys there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from limpet.errors import LimpetError
from limpet.wording import short_hash
from limpet_convert import package, sign
from limpet_convert.errors import ConvertError
from limpet_convert.libraries import need

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from limpet_convert.sign import Signer

DAYS = 1825
"""Days after which a root expires, unless another date is chosen."""
ROLES: Mapping[str, tuple[str, ...]] = {
    "root": ("root",),
    "models": ("targets",),
    "operators": ("timestamp", "snapshot"),
}
"""TUF's names of each role."""


def new(keys: Mapping[str, Sequence[bytes]], thresholds: Mapping[str, int], expires: datetime) -> Any:
    """Return a first root. ``keys``: public keys of 32 bytes by role. ``thresholds``: 1 unless they are here."""
    documents = sign.documents()
    metadata: Any = need("tuf.api.metadata")
    root = metadata.Root(expires=expires)
    for role, publics in keys.items():
        for tuf in ROLES[role]:
            for public in publics:
                root.add_key(documents.key_of(public), tuf)
            root.roles[tuf].threshold = thresholds.get(role, 1)
    return metadata.Metadata(root)


def read(path: Path) -> Any:
    """Return a root from its file, also one that is not signed by all. ``ConvertError``."""
    documents = sign.documents()
    try:
        return documents.root(path.read_bytes(), str(path))
    except OSError as error:
        raise ConvertError(f"{path}: {error.strerror}") from error
    except LimpetError as error:
        raise ConvertError(str(error)) from error


def following(old: Any, expires: datetime) -> Any:
    """Return the next version of a root, without signatures."""
    metadata: Any = need("tuf.api.metadata")
    document = metadata.Metadata.from_bytes(old.to_bytes())
    document.signatures.clear()
    document.signed.version = old.signed.version + 1
    document.signed.expires = expires
    return document


def add_keys(root: Any, role: str, publics: Iterable[bytes]) -> None:
    """Give a role more keys."""
    documents = sign.documents()
    for public in publics:
        for tuf in ROLES[role]:
            root.signed.add_key(documents.key_of(public), tuf)


def remove_key(root: Any, role: str, keyid: str) -> None:
    """Take a key from a role: it is revoked. ``keyid`` may be the beginning of an id. ``ConvertError``."""
    for tuf in ROLES[role]:
        found = [one for one in root.signed.roles[tuf].keyids if one.startswith(keyid)]
        if len(found) != 1:
            held = ", ".join(short_hash(one) for one in root.signed.roles[tuf].keyids) or "none"
            raise ConvertError(f"role {role} has {len(found)} keys that begin with {keyid!r}; it has: {held}")
        root.signed.revoke_key(found[0], tuf)


def set_threshold(root: Any, role: str, count: int) -> None:
    """Set how many keys of a role must sign."""
    for tuf in ROLES[role]:
        root.signed.roles[tuf].threshold = count


def write(root: Any, path: Path, signers: Sequence[Signer] = ()) -> None:
    """Sign a root and write it. ``ConvertError`` if no device would take its form."""
    documents = sign.documents()
    sign.sign(root.signatures, documents.signed_bytes(root), signers)
    data = root.to_bytes(need("tuf.api.serialization.json").JSONSerializer())
    try:
        documents.root(data, path.name)
    except LimpetError as error:
        raise ConvertError(str(error)) from error
    package.replace_file(path, data)


def missing(root: Any, before: Any | None) -> list[str]:
    """Return a sentence for each threshold that the signatures of a root do not meet yet.

    ``before``: the root that it follows, ``None`` for a first one.
    """
    found = []
    payload = sign.documents().signed_bytes(root)
    older = [] if before is None else [(before, f"root {before.signed.version}'s")]
    for by, whose in [*older, (root, "its own")]:
        result = by.signed.get_verification_result("root", payload, root.signatures)
        if not result:
            left = ", ".join(map(short_hash, result.unsigned))
            found.append(f"{result.missing} of {whose} keys must sign: {left}")
    if before is not None and root.signed.version != before.signed.version + 1:
        found.append(f"root {root.signed.version} does not follow root {before.signed.version}")
    return found
