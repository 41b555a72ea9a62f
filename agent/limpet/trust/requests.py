"""Requests for a model: plain JSON, or signed by the operators in a DSSE envelope."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from limpet.contracts.updates import LARGEST_DESIRED, DesiredModel, RequestId
from limpet.errors import TrustError, UnreadableError
from limpet.untrusted import reading

if TYPE_CHECKING:
    from datetime import datetime

    from limpet.trust.chain import Roots

ROLE = "timestamp"
NO_ROOT = "this device has no root of trust. Run: limpet trust enrol FILE"


class Addressed(NamedTuple):
    """For whom a request is read, and when."""

    device: str
    pipeline: str
    now: datetime


class _Named(msgspec.Struct):
    id: RequestId = ""
    payload: str = ""


class Request(NamedTuple):
    """A request, and the ids of the keys that signed it: none if it is not signed."""

    request: DesiredModel
    signed_by: tuple[str, ...]


def read(payload: bytes, to: Addressed, roots: Roots | None) -> Request:
    """Read a request. ``TrustError`` or ``UnreadableError`` says why it is refused.

    ``roots`` is ``None`` for a device without a root: it takes plain requests that come from the device itself.
    """
    if len(payload) > LARGEST_DESIRED:
        raise TrustError(f"the request has {len(payload)} bytes; at most {LARGEST_DESIRED}")
    content, signers = _opened(payload, roots)
    request = _request(content)
    _refuse_address(request, to, signed=bool(signers))
    if request.expires is not None:
        if request.expires.tzinfo is None:
            raise TrustError('the request\'s "expires" has no time zone. Write it as 2026-12-31T00:00:00Z')
        if request.expires <= to.now:
            raise TrustError(f"the request has expired on {request.expires:%Y-%m-%d %H:%M} UTC")
    return Request(request, signers)


def id_of(payload: bytes) -> str:
    """Return the operator's name for a request that was refused, which proves nothing; empty without one."""
    try:
        with reading("the name of a request"):
            found = msgspec.json.decode(payload[:LARGEST_DESIRED], type=_Named)
            inner = base64.b64decode(found.payload)
            return (msgspec.json.decode(inner, type=_Named) if inner else found).id
    except UnreadableError:
        return ""


def _opened(payload: bytes, roots: Roots | None) -> tuple[bytes, tuple[str, ...]]:
    """Return a request's own bytes, and who signed them."""
    with reading("the request"):
        found = json.loads(payload)
    if not (isinstance(found, dict) and "payloadType" in found):
        return payload, ()
    if roots is None:
        raise TrustError(f"the request is signed, but {NO_ROOT}")
    from limpet.trust import documents  # needed for signed requests only

    envelope = documents.envelope(payload)
    signers = roots.signers(ROLE, envelope.signatures, envelope.pae())
    roots.refuse_too_few(ROLE, envelope.signatures, signers)
    return envelope.payload, signers


def _request(content: bytes) -> DesiredModel:
    with reading("the request"):
        return msgspec.json.decode(content, type=DesiredModel)


def _refuse_address(request: DesiredModel, to: Addressed, *, signed: bool) -> None:
    if signed and not request.pipeline:
        raise TrustError('the signed request names no pipeline. Add "pipeline", and sign it again')
    if request.pipeline and request.pipeline != to.pipeline:
        raise TrustError(f"the request is for another pipeline, {request.pipeline[:64]!r}")
    if request.devices and to.device not in request.devices:
        raise TrustError("the request is for other devices")
