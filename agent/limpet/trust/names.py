"""Which keys a signature names. Nothing is verified here, and no cryptography is loaded."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from limpet.contracts.trust import KeyId
from limpet.errors import UnreadableError
from limpet.untrusted import reading


class _Signature(msgspec.Struct):
    keyid: KeyId
    sig: str


class _Signed(msgspec.Struct):
    signatures: Annotated[list[_Signature], Meta(max_length=64)]


def named(signature: bytes) -> list[str]:
    """Return the ids of the keys that a bundle's member ``signature`` names; none if it cannot be read."""
    try:
        with reading("a signature"):
            return [one.keyid for one in msgspec.json.decode(signature, type=_Signed).signatures if one.sig]
    except UnreadableError:
        return []
