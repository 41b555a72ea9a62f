"""A reader: a short-lived process that reads a request, or new roots, that came over the network.

It has the sandbox of an examiner: the root of trust is all that it may read, and it has no network.
"""

from __future__ import annotations

import signal
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from limpet.contracts.trust import TrustReport
from limpet.errors import LimpetError, TrustError
from limpet.isolation import confined, sandbox
from limpet.isolation.permissions import Permissions
from limpet.trust import library, requests
from limpet.wire.border import cleaned
from limpet.wire.channel import Channel
from limpet.wire.fork_records import NewRoot, ReadRequest, RequestRead, RootsRead

if TYPE_CHECKING:
    import socket

    from limpet.trust.chain import Roots
    from limpet.trust.settings import Trust
    from limpet.wire.fork_records import ReadRoots

TIME_LIMIT = 30
"""Seconds after which the kernel ends a reader that hangs. The supervisor gives up before that."""


def run(end: socket.socket, task: ReadRequest | ReadRoots) -> None:
    """Read, and send what was found."""
    signal.alarm(TIME_LIMIT)
    supervisor: Channel[Any] = Channel(end, RequestRead | RootsRead)
    confined.limit_memory()
    sandbox.enter(permissions(task.trust))
    supervisor.send(answer(task) if isinstance(task, ReadRequest) else report(task))


def permissions(trust: Trust | None) -> Permissions:
    """Return what a process may read that verifies something."""
    return Permissions() if trust is None else Permissions(frozenset({trust.anchor.resolve(), trust.chain}))


def answer(task: ReadRequest) -> RequestRead:
    """Return what a request wants, or why it is refused."""
    try:
        if task.trust is None and not task.local:
            raise TrustError(f"{requests.NO_ROOT}. Until then, it takes models from local files alone")
        read = requests.read(
            task.payload, requests.Addressed(task.device, task.pipeline, _now(task)), _roots(task)
        )
        if task.trust is not None and task.trust.signed_requests and not (task.local or read.signed_by):
            raise TrustError(
                "the request is not signed, and this device takes signed ones alone (trust.signed_requests). On a "
                "workstation, run: limpet-convert desired BUNDLE --key KEY"
            )
    except LimpetError as error:
        return RequestRead(reason=cleaned(str(error)), request_id=requests.id_of(task.payload))
    return RequestRead(read.request, read.signed_by, request_id=read.request.id)


def _now(task: ReadRequest) -> datetime:
    return datetime.fromtimestamp(min(max(time.time(), task.latest), 1e11), timezone.utc)


def _roots(task: ReadRequest) -> Roots | None:
    if task.trust is None:
        return None
    library.require()
    from limpet.trust import files  # loads cryptography

    return files.read(task.trust)


def report(task: ReadRoots) -> RootsRead:
    """Return what is trusted, and the new roots of the payload that follow on it."""
    now = task.trust.now()
    try:
        library.require()
        from limpet.trust import chain, documents, files  # they load cryptography

        roots = files.read(task.trust)
    except LimpetError as error:
        return RootsRead(TrustReport(models="signed", problem=cleaned(str(error))[:1000]))
    if not task.payload:
        return RootsRead(chain.report_of(roots, now))
    try:
        after = chain.updated(roots, documents.roots(task.payload))
    except LimpetError as error:
        return RootsRead(chain.report_of(roots, now), refused=cleaned(str(error)))
    new = [NewRoot(one.signed.version, one.to_bytes()) for one in after.added]
    return RootsRead(chain.report_of(after.roots, now), new)
