"""Roots: which ones are taken, and which follow on others."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from limpet.errors import LimpetError, TrustError
from limpet.trust import chain, documents
from support import trusting
from support.trusting import LATER, NOW, PAST, Keys, days

if TYPE_CHECKING:
    from collections.abc import Callable

    from securesystemslib.signer import CryptoSigner

KEYS = Keys()
FIRST = trusting.root(KEYS)


def anchored() -> chain.Roots:
    return chain.anchored(FIRST)


def test_a_root_that_follows_is_in_force() -> None:
    new = trusting.root(KEYS, 2, targets=[KEYS.maker2])
    roots = chain.followed(anchored(), new)
    assert roots.version == 2
    assert roots.role("targets").keyids == [KEYS.maker2.public_key.keyid]


def test_keys_of_the_root_can_be_changed_if_old_and_new_ones_sign() -> None:
    new = trusting.root(KEYS, 2, root=[KEYS.root2], signers=[KEYS.root, KEYS.root2])
    third = trusting.root(KEYS, 3, root=[KEYS.root2])
    assert chain.followed(chain.followed(anchored(), new), third).version == 3


@pytest.mark.parametrize("signer", [KEYS.root, KEYS.root2], ids=["root", "root2"])
def test_a_change_of_the_roots_keys_needs_both_signatures(signer: CryptoSigner) -> None:
    new = trusting.root(KEYS, 2, root=[KEYS.root2], signers=[signer])
    with pytest.raises(TrustError, match="0 of the 1 signatures"):
        chain.followed(anchored(), new)


def test_attack_downgraded_root_is_refused() -> None:
    roots = chain.followed(anchored(), trusting.root(KEYS, 2))
    with pytest.raises(TrustError, match="not newer than root 2"):
        chain.followed(roots, FIRST)
    with pytest.raises(TrustError, match="not newer than root 2"):
        chain.updated(roots, documents.roots(FIRST))


def test_attack_other_root_of_the_same_version_is_refused() -> None:
    other = trusting.root(KEYS, 1, targets=[KEYS.maker2])
    with pytest.raises(TrustError, match="another one with the same version"):
        chain.updated(anchored(), documents.roots(other))


def test_a_skipped_version_is_refused() -> None:
    with pytest.raises(TrustError, match="does not follow root 1"):
        chain.followed(anchored(), trusting.root(KEYS, 3))


def test_attack_root_below_its_threshold_is_refused() -> None:
    both = {"root": [KEYS.root, KEYS.root2]}
    first = trusting.root(KEYS, thresholds={"root": 2}, **both)
    new = trusting.root(KEYS, 2, thresholds={"root": 2}, signers=[KEYS.root], **both)
    with pytest.raises(TrustError, match="1 of the 2 signatures"):
        chain.followed(chain.anchored(first), new)


def test_a_root_that_its_own_keys_did_not_sign_is_no_anchor() -> None:
    with pytest.raises(TrustError, match="0 of the 1 signatures"):
        chain.anchored(trusting.root(KEYS, signers=[KEYS.maker]))


def test_only_the_newest_roots_expiry_counts() -> None:
    old = chain.anchored(trusting.root(KEYS, expires=PAST))
    assert "has expired" in chain.report_of(old, NOW).problem
    assert chain.report_of(chain.followed(old, trusting.root(KEYS, 2)), NOW).problem == ""


def test_a_root_that_expires_soon_is_a_warning() -> None:
    roots = chain.anchored(trusting.root(KEYS, expires=NOW + days(10)))
    assert "in 10 days" in chain.report_of(roots, NOW).problem


def test_several_roots_in_one_message_are_taken_together_in_any_order() -> None:
    second, third = trusting.root(KEYS, 2), trusting.root(KEYS, 3)
    payload = b"[" + b",".join([third, second, FIRST]) + b"]"
    after = chain.updated(anchored(), documents.roots(payload))
    assert [one.signed.version for one in after.added] == [2, 3]
    assert after.roots.version == 3


def test_the_root_in_force_again_changes_nothing() -> None:
    after = chain.updated(anchored(), documents.roots(FIRST))
    assert after.added == []
    assert after.roots.version == 1


def test_a_report_names_keys_by_role() -> None:
    report = chain.report_of(anchored(), NOW)
    assert report.expires == LATER
    assert report.roles["operators"].keys == [KEYS.operator.public_key.keyid]


def twice(document: dict[str, Any]) -> dict[str, Any]:
    """Give the maker's key a second id, and let both count."""
    signed, old = document["signed"], KEYS.maker.public_key.keyid
    signed["keys"]["f" * 64] = signed["keys"][old]
    signed["roles"]["targets"] = {"keyids": [old, "f" * 64], "threshold": 2}
    return document


def role(**fields: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def change(document: dict[str, Any]) -> dict[str, Any]:
        document["signed"]["roles"]["targets"].update(fields)
        return document

    return change


def field(name: str, value: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def change(document: dict[str, Any]) -> dict[str, Any]:
        document["signed"][name] = value
        return document

    return change


ODD: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "one key under two ids": twice,
    "a threshold of 0": role(threshold=0),
    "a threshold of 2^40": role(threshold=1 << 40),
    "a threshold that is true": role(threshold=True),
    "a threshold above the keys": role(threshold=2),
    "a key that is not in the root": role(keyids=["e" * 64]),
    "a key twice in a role": role(keyids=[KEYS.maker.public_key.keyid] * 2, threshold=2),
    "keyids that are a text": role(keyids="ab"),
    "a date that is none": field("expires", "2030-13-45T99:00:00Z"),
    "a date with an offset": field("expires", "2030-01-01T00:00:00+05:00"),
    "a date in other digits": field("expires", "٢٠٣٠-01-01T00:00:00Z"),
    "version 0": field("version", 0),
    "version 2^80": field("version", 1 << 80),
    "another major version of TUF": field("spec_version", "9.0.0"),
    "a type of key that is not Ed25519": lambda document: {
        **document,
        "signed": json.loads(json.dumps(document["signed"]).replace('"ed25519"', '"rsa"')),
    },
    "no role targets": lambda document: {
        **document,
        "signed": {**document["signed"], "roles": {"root": document["signed"]["roles"]["root"]}},
    },
    "a type of metadata that is none": field("_type", "targets"),
}


@pytest.mark.parametrize("what", ODD)
def test_a_root_of_odd_form_is_refused(what: str) -> None:
    with pytest.raises(LimpetError):
        chain.anchored(json.dumps(ODD[what](json.loads(FIRST))).encode())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"signed": NaN, "signatures": []}',
        FIRST.replace(b'"version":1', b'"version":1.5'),
        FIRST.replace(b'"version":1', b'"version":1,"version":2'),
        FIRST.replace(b'"version":1', b'"version":' + b"9" * 5000),
        b" " * documents.LARGEST_ROOT + FIRST,
    ],
)
def test_what_is_no_root_is_refused(data: bytes) -> None:
    with pytest.raises(LimpetError):
        chain.anchored(data)


def test_too_many_roots_in_a_message_are_refused() -> None:
    with pytest.raises(TrustError, match="at most 16"):
        documents.roots(b"[" + b",".join([b"{}"] * 17) + b"]")
