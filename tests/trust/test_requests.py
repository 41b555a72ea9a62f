"""Requests for a model: for whom they are, and who signed them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from limpet.errors import LimpetError, TrustError
from limpet.trust import chain, requests
from limpet.trust.settings import Trust
from limpet.wire.fork_records import ReadRequest, RequestRead
from limpet.worker import reader
from support import trusting
from support.trusting import NOW, Keys

if TYPE_CHECKING:
    from pathlib import Path

KEYS = Keys()
ROOTS = chain.anchored(trusting.root(KEYS))
TO = requests.Addressed("press-07", "p", NOW)


def read(payload: bytes) -> requests.Request:
    return requests.read(payload, TO, ROOTS)


def refused(payload: bytes, why: str) -> None:
    with pytest.raises(LimpetError, match=why):
        read(payload)


def test_a_plain_request_is_read() -> None:
    found = read(trusting.request({"serial": 7, "policy": {"share": 0.25}, "of a later Limpet": [1]}))
    assert (found.request.serial, found.request.policy.share, found.signed_by) == (7, 0.25, ())


def test_a_signed_request_says_who_signed_it() -> None:
    found = read(trusting.request({"allow_older": True}, [KEYS.operator]))
    assert found.request.allow_older
    assert found.signed_by == (KEYS.operator.public_key.keyid,)


def test_attack_request_signed_by_a_maker_of_models_is_refused() -> None:
    refused(trusting.request({}, [KEYS.maker]), "is known, but not for this")


def test_attack_changed_signed_request_is_refused() -> None:
    envelope = json.loads(trusting.request({}, [KEYS.operator]))
    envelope["payload"] = json.loads(trusting.request({"serial": 9}, [KEYS.maker]))["payload"]
    refused(json.dumps(envelope).encode(), "is wrong")


def test_attack_replayed_request_for_another_pipeline_is_refused() -> None:
    refused(trusting.request({"pipeline": "door"}, [KEYS.operator]), "for another pipeline, 'door'")
    refused(trusting.request({"pipeline": ""}, [KEYS.operator]), "names no pipeline")


def test_attack_replayed_request_for_another_device_is_refused() -> None:
    refused(trusting.request({"devices": ["press-08"]}, [KEYS.operator]), "for other devices")
    assert read(trusting.request({"devices": ["press-08", "press-07"]})).request.devices


def test_attack_request_after_its_expiry_is_refused() -> None:
    refused(trusting.request({"expires": "2026-12-31T00:00:00Z"}, [KEYS.operator]), "expired on 2026-12-31")
    refused(trusting.request({"expires": "2027-12-31T00:00:00"}), "has no time zone")
    assert read(trusting.request({"expires": "2027-01-02T00:00:00Z"})).request.expires is not None


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[" * 60_000,
        b'{"model": "a"}',
        b'{"payloadType": 7}',
        b"\xff",
        b" " * (1 << 17),
        trusting.request({"model": "../../etc/passwd"}),
        trusting.request({"sources": [{"url": "x"}] * 9}),
        trusting.request({"length": -1}),
    ],
)
def test_what_is_no_request_is_refused(payload: bytes) -> None:
    refused(payload, "request|bytes")


def answer(
    folder: Path, payload: bytes, *, local: bool = False, rooted: bool = True, signed: bool = False
) -> RequestRead:
    """Return what the reader answers. ``signed``: whether the configuration takes signed requests alone."""
    (folder / "root.json").write_bytes(trusting.root(KEYS))
    trust = Trust(anchor=folder / "root.json", chain=folder / "trust", signed_requests=signed) if rooted else None
    return reader.answer(ReadRequest("press-07", "p", payload, local=local, trust=trust, latest=NOW.timestamp()))


def test_a_device_without_a_root_takes_requests_from_itself_alone(tmp_path: Path) -> None:
    assert "no root of trust" in answer(tmp_path, trusting.request({"id": "r1"}), rooted=False).reason
    found = answer(tmp_path, trusting.request({}), rooted=False, local=True)
    assert found.request is not None
    assert not found.signed


def test_attack_request_without_a_signature_is_refused_where_they_must_have_one(tmp_path: Path) -> None:
    plain = trusting.request({"id": "r1"})
    assert answer(tmp_path, plain).request is not None
    found = answer(tmp_path, plain, signed=True)
    assert (found.request, found.request_id) == (None, "r1")
    assert "takes signed ones alone" in found.reason
    assert answer(tmp_path, trusting.request({}, [KEYS.operator]), signed=True).request is not None
    assert answer(tmp_path, plain, signed=True, local=True).request is not None


@pytest.mark.parametrize("signers", [(), (KEYS.maker,)])
def test_a_refusal_names_the_request(tmp_path: Path, signers: Any) -> None:
    found = answer(tmp_path, trusting.request({"id": "rollout-8", "pipeline": "other"}, signers))
    assert found.request is None
    assert found.request_id == "rollout-8"
    assert found.reason


def test_a_signed_request_without_a_root_is_refused() -> None:
    with pytest.raises(TrustError, match="no root of trust"):
        requests.read(trusting.request({}, [KEYS.operator]), TO, None)
