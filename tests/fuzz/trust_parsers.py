"""Roots of trust, signatures of bundles, and signed requests come over the network, or in a file of a stranger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fuzz.registry import Prepared, parser
from limpet.trust import bundles, chain, documents, requests
from support import trusting
from support.trusting import LATER, NOW, Keys

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST = b'{"name": "motion", "version": 3}'
TO = requests.Addressed("press-07", "p", NOW)


@parser("roots of trust")
def _roots(_: Path) -> Prepared:
    keys = Keys()
    first, second = trusting.root(keys), trusting.root(keys, 2, targets=[keys.maker2])
    trusted = chain.anchored(first)

    def take(data: bytes) -> None:
        after = chain.updated(trusted, documents.roots(data))
        assert after.roots.version == 1 + len(after.added)
        chain.report_of(after.roots, NOW)

    return Prepared([first, second, b"[" + first + b"," + second + b"]"], take)


@parser("signatures of bundles")
def _signatures(_: Path) -> Prepared:
    keys = Keys()
    trusted = chain.anchored(trusting.root(keys))
    sound = trusting.signature(MANIFEST, [keys.maker])

    def take(data: bytes) -> None:
        found = bundles.verdict(trusted, bundles.Claimed("motion", 3, MANIFEST, data), NOW)
        # What else is changed is not signed: the order of keys, or a signature of another key.
        assert found.signed_by == (keys.maker.public_key.keyid,)
        assert documents.signature(data).signed.expires == LATER

    return Prepared([sound, trusting.signature(MANIFEST, [keys.maker, keys.maker2])], take)


@parser("requests for models")
def _requests(_: Path) -> Prepared:
    keys = Keys()
    trusted = chain.anchored(trusting.root(keys))
    plain = trusting.request(
        {"expires": "2027-06-01T00:00:00Z", "devices": ["press-07"], "window": {"idle": True}}
    )
    signed = trusting.request({"serial": 7}, [keys.operator])

    def take(data: bytes) -> None:
        requests.id_of(data)
        found = requests.read(data, TO, trusted)
        assert not found.signed_by or found.request.serial == 7

    return Prepared([plain, signed], take)
