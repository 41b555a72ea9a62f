"""Roots, signatures of bundles and signed requests: bytes from outside become values of python-tuf.

Limpet is stricter than TUF. Keys are Ed25519 and have the id that TUF computes, so one key cannot have two ids. No
number is a fraction, no key of an object occurs twice, and sizes are bounded. ``TrustError`` says what is wrong.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import Meta
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey
from tuf.api.metadata import Metadata, Root, Targets

from limpet.contracts.trust import KeyId
from limpet.contracts.updates import LARGEST_DESIRED
from limpet.errors import TrustError
from limpet.untrusted import reading
from limpet.wording import counted, short_hash

if TYPE_CHECKING:
    from collections.abc import Iterable

LARGEST_ROOT = 1 << 16
"""Bytes of one root."""
LARGEST_SIGNATURE = 1 << 16
"""Bytes of a bundle's member ``signature``."""
MOST_KEYS = 32
"""Keys of a role."""
MOST_SIGNATURES = 64
"""Signatures of a document. Those of keys that the root does not know are among them."""
MOST_NEW = 16
"""Roots that come in one message."""
REQUEST_TYPE = "application/vnd.limpet.desired+json"
"""``payloadType`` of a signed request."""

_PEOPLE_SAY = {"targets": "models", "timestamp": "operators", "snapshot": "operators"}
"""What people call TUF's roles, in messages to them."""

T = TypeVar("T")

_ONE = Meta(min_length=1, max_length=1)


class _KeyValue(msgspec.Struct, forbid_unknown_fields=True):
    public: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class _Key(msgspec.Struct, forbid_unknown_fields=True):
    keytype: Literal["ed25519"]
    scheme: Literal["ed25519"]
    keyval: _KeyValue


class _Role(msgspec.Struct):
    keyids: Annotated[list[KeyId], Meta(max_length=MOST_KEYS)]
    threshold: Annotated[int, Meta(ge=1, le=MOST_KEYS)]


class _Roles(msgspec.Struct, forbid_unknown_fields=True):
    root: _Role
    targets: _Role
    snapshot: _Role
    timestamp: _Role


class _Signed(msgspec.Struct, kw_only=True):
    version: Annotated[int, Meta(ge=1, le=1 << 31)]
    spec_version: Annotated[str, Meta(pattern=r"^1\.[0-9]{1,3}(\.[0-9]{1,3})?\Z")]
    expires: Annotated[
        str, Meta(pattern=r"^[1-9][0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z\Z", max_length=20)
    ]


class _Root(_Signed, kw_only=True):
    type: Literal["root"] = msgspec.field(name="_type")
    keys: Annotated[dict[KeyId, _Key], Meta(max_length=4 * MOST_KEYS)]
    roles: _Roles


class _Hashes(msgspec.Struct, forbid_unknown_fields=True):
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class _Target(msgspec.Struct):
    length: Annotated[int, Meta(ge=0, le=1 << 31)]
    hashes: _Hashes


class _Targets(_Signed, kw_only=True):
    type: Literal["targets"] = msgspec.field(name="_type")
    targets: Annotated[dict[Annotated[str, Meta(max_length=200)], _Target], _ONE]
    delegations: None = None


class _Signature(msgspec.Struct):
    keyid: KeyId
    sig: Annotated[str, Meta(pattern=r"^([0-9a-f]{128})?\Z")]
    """Empty for a key that is still to sign, as TUF's tools write it."""


class _RootDocument(msgspec.Struct, forbid_unknown_fields=True):
    signatures: Annotated[list[_Signature], Meta(max_length=MOST_SIGNATURES)]
    signed: _Root


class _TargetsDocument(msgspec.Struct, forbid_unknown_fields=True):
    signatures: Annotated[list[_Signature], Meta(max_length=MOST_SIGNATURES)]
    signed: _Targets


class _EnvelopeSignature(msgspec.Struct):
    keyid: KeyId
    sig: Annotated[str, Meta(max_length=128)]


class _Envelope(msgspec.Struct, forbid_unknown_fields=True):
    payload: Annotated[str, Meta(max_length=2 * LARGEST_DESIRED)]
    payloadType: Literal["application/vnd.limpet.desired+json"]  # noqa: N815 - DSSE's name
    signatures: Annotated[list[_EnvelopeSignature], Meta(max_length=MOST_SIGNATURES)]


def root(data: bytes, what: str = "the root") -> Metadata[Root]:
    """Return a root. ``TrustError`` or ``UnreadableError`` says what is wrong with its form."""
    return _root(_decoded(data, what, LARGEST_ROOT), what)


def roots(data: bytes) -> list[Metadata[Root]]:
    """Return the roots of a JSON array, as it comes over MQTT. One root without brackets will do."""
    found = _decoded(data, "the roots", MOST_NEW * LARGEST_ROOT)
    documents = found if isinstance(found, list) else [found]
    if len(documents) > MOST_NEW:
        raise TrustError(f"there are {len(documents)} roots in one message; at most {MOST_NEW}")
    return [_root(one, "a root") for one in documents]


def _root(document: Any, what: str) -> Metadata[Root]:
    form = _checked(document, _RootDocument, what)
    with reading(what):
        read: Metadata[Root] = Metadata.from_dict(document)
    _refuse_odd_keys(form.signed, what)
    return read


def signature(data: bytes) -> Metadata[Targets]:
    """Return the signature of a bundle: metadata of role ``targets`` with one target."""
    what = "its signature"
    document = _decoded(data, what, LARGEST_SIGNATURE)
    _checked(document, _TargetsDocument, what)
    with reading(what):
        read: Metadata[Targets] = Metadata.from_dict(document)
    return read


def envelope(data: bytes) -> Envelope:
    """Return a signed request in its envelope."""
    what = "the request"
    document = _decoded(data, what, LARGEST_DESIRED)
    _checked(document, _Envelope, what)
    with reading(what):
        return Envelope.from_dict(document)


def signed_bytes(metadata: Metadata[Any]) -> bytes:
    """Return the bytes that are signed: canonical JSON."""
    with reading("signed metadata"):
        return metadata.signed_bytes


def fingerprint(metadata: Metadata[Any]) -> str:
    """Return the SHA-256 of what is signed: that of a root is the same however its file is laid out."""
    return hashlib.sha256(signed_bytes(metadata)).hexdigest()


def key_id(public: bytes) -> str:
    """Return the id of an Ed25519 key of 32 bytes, as TUF computes it."""
    return key_of(public).keyid


def key_of(public: bytes) -> SSlibKey:
    """Return an Ed25519 key of 32 bytes as TUF has it."""
    with reading("a public key"):
        return SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(public))


def _decoded(data: bytes, what: str, largest: int) -> Any:
    """Decode JSON. Of two equal keys, some parsers take the first one and some the last, so both are refused."""
    if len(data) > largest:
        raise TrustError(f"{what} has {len(data)} bytes; at most {largest}")
    with reading(what):
        return json.loads(
            data.decode(),
            object_pairs_hook=_unique,
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
        )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice in an object")
    return found


def _refuse_number(text: str) -> Any:
    raise ValueError(f"{text[:20]}: only whole numbers are allowed")


def _checked(document: Any, kind: type[T], what: str) -> T:
    with reading(what):  # text that is no UTF-8 raises something else than a wrong form
        return msgspec.convert(document, kind)


def _refuse_odd_keys(signed: _Root, what: str) -> None:
    for keyid, key in signed.keys.items():
        if keyid != key_id(bytes.fromhex(key.keyval.public)):
            raise TrustError(
                f"{what}: key {short_hash(keyid)} does not have the id that TUF computes. "
                "One key must not count twice"
            )
    roles = {"root": signed.roles.root, "targets": signed.roles.targets}
    others = {"snapshot": signed.roles.snapshot, "timestamp": signed.roles.timestamp}
    for name, role in {**roles, **others}.items():
        said = _PEOPLE_SAY.get(name, name)
        if unknown := _missing(role.keyids, signed.keys):
            raise TrustError(f"{what}: role {said} names key {short_hash(unknown)}, which is not in the root")
        if len(role.keyids) < role.threshold and (name in roles or role.keyids):
            raise TrustError(
                f"{what}: role {said} has {counted(len(role.keyids), 'key')}, and "
                f"{role.threshold} must sign. Give it more keys, or a lower threshold"
            )


def _missing(keyids: Iterable[str], keys: dict[str, _Key]) -> str:
    return next((keyid for keyid in keyids if keyid not in keys), "")
