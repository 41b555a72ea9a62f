"""An examiner: a short-lived process that reads one model file, and finds out which model it is.

Someone else wrote that file, so it is read in a sandbox that leaves open nothing else but the roots of trust.
Each file has its own examiner: what a file does to its examiner changes nothing that is known of others.
"""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING, Any

from limpet.deployment.local import examined
from limpet.isolation import confined, sandbox
from limpet.isolation.permissions import Permissions
from limpet.models import bundle
from limpet.models.bundle import Terms
from limpet.models.store import leads_to_model
from limpet.wire.border import cleaned
from limpet.wire.channel import Channel
from limpet.wire.fork_records import RUNTIME, Examined
from limpet.worker.reader import permissions

if TYPE_CHECKING:
    import socket

    from limpet.wire.fork_records import Examine

TIME_LIMIT = 60
"""Seconds after which the kernel ends an examination that hangs. The supervisor gives up before that."""


def run(end: socket.socket, task: Examine) -> None:
    """Examine the file, and send what was found."""
    signal.alarm(TIME_LIMIT)
    supervisor: Channel[Any] = Channel(end, Examined)
    confined.limit_memory()
    model = Permissions(frozenset({task.path.resolve()} if leads_to_model(task.path) else ()))
    sandbox.enter(model.joined(permissions(task.trust)))
    found = examined(task.path, Terms(trust=task.trust, delegates=task.delegates, new=task.new, key=task.key))
    answer = Examined(
        found.name,
        found.version,
        found.sha256,
        cleaned(found.problem),
        _kind(found.runtime),
        _kind(found.decoder),
        signed_by=found.signed_by,
        in_date=found.in_date,
        untrusted=found.untrusted,
    )
    if task.whole and not found.problem:
        answer.file_sha256, answer.length = bundle.digest(task.path), task.path.stat().st_size
    supervisor.send(answer)


def _kind(name: str) -> str:
    """Return the kind that a model names, empty if no plugin can have such a name: that fails its pipeline."""
    return name if re.fullmatch(RUNTIME, name) else ""
