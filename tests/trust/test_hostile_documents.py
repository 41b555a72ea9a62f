"""Any JSON in any place of a root, a signature or a request is refused, or changes nothing that is signed."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from limpet.errors import LimpetError
from limpet.trust import bundles, chain, documents, requests
from support import trusting
from support.trusting import NOW, Keys

KEYS = Keys()
FIRST = trusting.root(KEYS)
SECOND = json.loads(trusting.root(KEYS, 2, targets=[KEYS.maker, KEYS.maker2], thresholds={"targets": 2}))
MANIFEST = b'{"name": "motion", "version": 3}'
SIGNATURE = json.loads(trusting.signature(MANIFEST, [KEYS.maker]))
REQUEST = json.loads(trusting.request({"serial": 7}, [KEYS.operator]))
ROOTS = chain.anchored(FIRST)

ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=True)
    | st.text(max_size=20)
    | st.sampled_from(["root", "targets", "f" * 64, "ed25519", "2030-01-01T00:00:00Z", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return where in a document something is."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, each in inner for place in places(each, (*path, key)))]


def put(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    changed = json.loads(json.dumps(document))
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return changed


def written(document: Any) -> bytes:
    return json.dumps(document).encode()


@settings(max_examples=150, deadline=None)
@given(place=st.sampled_from(places(SECOND)), value=ODD)
def test_a_root_with_anything_in_it_is_refused_or_is_the_one_that_was_signed(
    place: tuple[Any, ...], value: Any
) -> None:
    with contextlib.suppress(LimpetError):
        after = chain.updated(ROOTS, documents.roots(written(put(SECOND, place, value))))
        assert after.roots.newest.signed.to_dict() == SECOND["signed"]


@settings(max_examples=150, deadline=None)
@given(place=st.sampled_from(places(SIGNATURE)), value=ODD)
def test_a_signature_with_anything_in_it_is_refused_or_is_the_one_that_was_made(
    place: tuple[Any, ...], value: Any
) -> None:
    with contextlib.suppress(LimpetError):
        data = written(put(SIGNATURE, place, value))
        found = bundles.verdict(ROOTS, bundles.Claimed("motion", 3, MANIFEST, data), NOW)
        assert found == bundles.Verdict((KEYS.maker.public_key.keyid,))
        assert documents.signature(data).signed.to_dict() == SIGNATURE["signed"]


@settings(max_examples=150, deadline=None)
@given(place=st.sampled_from(places(REQUEST)), value=ODD)
def test_a_request_with_anything_in_it_is_refused_or_is_the_one_that_was_signed(
    place: tuple[Any, ...], value: Any
) -> None:
    data = written(put(REQUEST, place, value))
    requests.id_of(data)
    with contextlib.suppress(LimpetError):
        found = requests.read(data, requests.Addressed("press-07", "p", NOW), ROOTS)
        assert (found.request.serial, len(found.signed_by)) == (7, 1)
