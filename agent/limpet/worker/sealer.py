"""A sealer: a short-lived process that encrypts one bundle. The supervisor has no cryptography in its memory."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

from limpet.device import state_files
from limpet.errors import LimpetError
from limpet.isolation import confined, sandbox
from limpet.isolation.permissions import Permissions
from limpet.models import sealed
from limpet.wire.border import cleaned
from limpet.wire.channel import Channel
from limpet.wire.fork_records import Sealed

if TYPE_CHECKING:
    import socket

    from limpet.wire.fork_records import Seal

TIME_LIMIT = 120
"""Seconds after which the kernel ends it. The supervisor gives up before that."""


def run(end: socket.socket, task: Seal) -> None:
    """Encrypt the file, and report that it is on the disk."""
    signal.alarm(TIME_LIMIT)
    supervisor: Channel[Any] = Channel(end, Sealed)
    confined.limit_memory()
    read, change = frozenset({task.source.resolve()}), frozenset({task.target.parent.resolve()})
    sandbox.enter(Permissions(read=read, change=change))
    try:
        problem = _seal(task)
    except LimpetError as error:
        problem = str(error)
    except OSError as error:
        problem = f"{error.filename or task.target}: {error.strerror}"
    supervisor.send(Sealed(cleaned(problem)))


def _seal(task: Seal) -> str:
    """Write the encrypted file. Return what was wrong with its content, empty if nothing was."""
    with task.source.open("rb") as content, os.fdopen(state_files.create(task.target), "wb") as target:
        found = sealed.seal(content, task.length, target, task.key)
        target.flush()
        os.fsync(target.fileno())
    return "" if found == task.sha256 else f"{task.source}: changed since it was verified"
