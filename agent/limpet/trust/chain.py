"""From the root in the configuration to the newest one: each is signed by the one before it, and by itself.

A root that is not the next version, or that too few keys signed, ends the chain. Only the newest root's expiry
counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from limpet.contracts.trust import TrustedRole, TrustReport
from limpet.errors import TrustError
from limpet.trust import documents
from limpet.untrusted import reading
from limpet.wording import short_hash

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from securesystemslib.signer import Signature
    from tuf.api.metadata import Metadata, Role, Root

    from limpet.contracts.trust import RoleName

MOST_ROOTS = 1024
"""Roots of a chain."""
SOON = 30
"""Days before the expiry of the root from which on there is a warning."""
_ROLES: dict[RoleName, str] = {"root": "root", "models": "targets", "operators": "timestamp"}
"""TUF's names of roles."""
_SIGNED = {"targets": "a model", "timestamp": "a request"}
"""What the keys of a role sign."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Roots:
    """A chain of roots that was verified. ``newest`` is in force.

    ``former`` has, by role as TUF calls it, the keys that earlier roots had and ``newest`` does not: they are
    revoked. ``problem``: why there is no root after this one, if there should be.
    """

    newest: Metadata[Root]
    former: dict[str, frozenset[str]]
    problem: str = ""

    @property
    def version(self) -> int:
        """That of the root in force."""
        return self.newest.signed.version

    def role(self, name: str) -> Role:
        """Return a role of the root in force."""
        return self.newest.signed.roles[name]

    def signers(self, role: str, signatures: Mapping[str, Signature], payload: bytes) -> tuple[str, ...]:
        """Return the ids of the keys of a role whose signature is right. Each key counts once."""
        return _signers(self.newest.signed, role, signatures, payload)

    def refuse_too_few(self, role: str, signatures: Mapping[str, Signature], signers: tuple[str, ...]) -> None:
        """Raise ``TrustError`` if a role's threshold is not met. Its text says what each signature is worth."""
        threshold = self.role(role).threshold
        if len(signers) >= threshold:
            return
        worth = [self._worth(role, keyid) for keyid in list(signatures)[:4] if keyid not in signers]
        count = f"{threshold} {'signature' if threshold == 1 else 'signatures'}"
        if role == "targets" and not worth:
            worth = ["with another key, run on a workstation: limpet-convert sign FILE --key KEY"]
        raise TrustError("; ".join([f"{_SIGNED[role]} needs {count} and has {len(signers)}", *worth]))

    def _worth(self, role: str, keyid: str) -> str:
        key = short_hash(keyid)
        if keyid in self.role(role).keyids:
            return f"the signature of key {key} is wrong: the content was changed, or something else was signed"
        if keyid in self.former.get(role, ()):
            return f"key {key} was removed from the root, so it is revoked"
        if keyid in self.newest.signed.keys:
            return f"key {key} is known, but not for this"
        return f"key {key} is unknown to this device"


def anchored(data: bytes) -> Roots:
    """Return the chain that begins with the root of the configuration. ``TrustError``."""
    first = documents.root(data, "the root of trust")
    _refuse_unsigned(first, first, "its own")
    return Roots(newest=first, former={})


def followed(roots: Roots, data: bytes) -> Roots:
    """Return the chain with one more root. ``TrustError`` says why it does not follow."""
    return extended(roots, documents.root(data, "the next root"))


def extended(roots: Roots, new: Metadata[Root]) -> Roots:
    """Return the chain with one more root, see ``followed``."""
    old, version = roots.newest, new.signed.version
    if version <= old.signed.version:
        raise TrustError(f"root {version} is not newer than root {old.signed.version}, which is in force")
    if version != old.signed.version + 1:
        raise TrustError(
            f"root {version} does not follow root {old.signed.version}. The roots between them are needed, too"
        )
    _refuse_unsigned(new, old, f"root {old.signed.version}'s")
    _refuse_unsigned(new, new, "its own")
    former = {
        name: (roots.former.get(name, frozenset()) | set(old.signed.roles[name].keyids)) - set(role.keyids)
        for name, role in new.signed.roles.items()
    }
    return Roots(newest=new, former={name: frozenset(keys) for name, keys in former.items()})


class Updated(NamedTuple):
    """A chain with new roots. ``added`` are those of them that are new, in order."""

    roots: Roots
    added: list[Metadata[Root]]


def updated(roots: Roots, new: Sequence[Metadata[Root]]) -> Updated:
    """Return the chain with those of ``new`` that are newer: all of them, or none.

    ``TrustError`` if the newest one is older than the root in force, if one is missing between them, or if one is
    not rightly signed. Nothing is added if the newest one is in force already: brokers repeat what is retained.
    """
    ordered = sorted(new, key=lambda one: one.signed.version)
    if not ordered:
        raise TrustError("there is no root in the message")
    last = ordered[-1]
    if last.signed.version == roots.version:
        if documents.signed_bytes(last) != documents.signed_bytes(roots.newest):
            raise TrustError(f"root {roots.version} is in force, and this is another one with the same version")
        return Updated(roots, [])
    added = [one for one in ordered if one.signed.version > roots.version] or [last]
    for one in added:
        roots = extended(roots, one)
    return Updated(roots, added)


def report_of(roots: Roots, now: datetime) -> TrustReport:
    """Return what is trusted, for people and for health."""
    signed = roots.newest.signed
    left = (signed.expires - now).days
    problem = roots.problem
    if signed.expires <= now:
        problem = problem or f"root {signed.version} has expired on {signed.expires:%Y-%m-%d}; send a newer one"
    elif left < SOON:
        problem = problem or f"root {signed.version} expires on {signed.expires:%Y-%m-%d}, in {left} days"
    return TrustReport(
        models="signed",
        root=signed.version,
        expires=signed.expires,
        roles={
            name: TrustedRole(list(signed.roles[role].keyids), signed.roles[role].threshold)
            for name, role in _ROLES.items()
        },
        problem=problem[:1000],
    )


def _refuse_unsigned(new: Metadata[Root], by: Metadata[Root], whose: str) -> None:
    payload = documents.signed_bytes(new)
    count, role = len(_signers(by.signed, "root", new.signatures, payload)), by.signed.roles["root"]
    if count < role.threshold:
        raise TrustError(
            f"root {new.signed.version} has {count} of the {role.threshold} signatures that {whose} keys must make"
        )


def _signers(root: Root, role: str, signatures: Mapping[str, Signature], payload: bytes) -> tuple[str, ...]:
    with reading("a signature"):
        return tuple(root.get_verification_result(role, payload, dict(signatures)).signed)
