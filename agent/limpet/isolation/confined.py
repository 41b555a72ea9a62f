"""A piece of work in a child process that cannot harm its parent: in a sandbox, with limits on time and memory."""

from __future__ import annotations

import faulthandler
import os
import resource
import signal
from select import select
from time import monotonic
from typing import TYPE_CHECKING, NoReturn

from limpet.device.host import Host
from limpet.device.system_files import MB
from limpet.isolation import sandbox
from limpet.isolation.child import describe, die_before_parent, die_with_parent

if TYPE_CHECKING:
    from collections.abc import Callable

    from limpet.isolation.permissions import Permissions

LARGEST_ANSWER = 1 << 16
"""Bytes that are read of an answer."""
LARGEST_MEMORY = 1 << 31
"""Bytes that a child may allocate if the system does not say how many are available."""


class LostError(Exception):
    """The child gave no answer. The text says how it ended."""


def run(work: Callable[[], str], wanted: Permissions, seconds: float) -> str:
    """Return what ``work`` returns in a child process. ``LostError`` if it crashes, hangs or takes all memory.

    The child is forked, so no other thread of the parent may hold a lock. What the child prints is dropped.
    """
    parent = os.getpid()
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        _work(work, wanted, parent, writer)
    os.close(writer)
    try:
        answer = _read(reader, monotonic() + seconds)
    finally:
        os.close(reader)
        os.kill(child, signal.SIGKILL)  # It has answered, or is not going to.
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if answer is None:
        raise LostError(f"not finished after {seconds:g} s")
    if not answer.endswith(b"\0"):
        raise LostError(describe(status))
    return answer[:-1].decode("utf-8", "replace")


def _read(reader: int, until: float) -> bytes | None:
    """Return what comes until a NUL or the end; ``None`` if that takes too long."""
    answer = b""
    while not answer.endswith(b"\0") and len(answer) < LARGEST_ANSWER:
        if not select([reader], [], [], max(0.0, until - monotonic()))[0]:
            return None
        if not (part := os.read(reader, LARGEST_ANSWER)):
            break
        answer += part
    return answer


def _work(work: Callable[[], str], wanted: Permissions, parent: int, writer: int) -> NoReturn:
    """Do the work and end. Nothing returns to the parent's code, whatever is raised."""
    status = 1
    try:
        _silence()
        die_with_parent(parent)
        die_before_parent()
        limit_memory()
        sandbox.enter(wanted)
        try:
            answer = work()
        except MemoryError:
            answer = "it takes more memory than is available"
        except Exception as error:  # noqa: BLE001 - whatever it is, the parent reports it
            answer = f"{type(error).__name__}: {error}"
        os.write(writer, answer.replace("\0", "").encode("utf-8", "replace")[: LARGEST_ANSWER - 1] + b"\0")
        status = 0
    finally:
        os._exit(status)


def _silence() -> None:
    """Drop what runtimes and drivers print, and traces of crashes: the parent says how the child ended."""
    faulthandler.disable()
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)


def limit_memory() -> None:
    """Refuse allocations beyond what is available now, so that the child fails before the system is short."""
    host = Host()
    used, available = host.address_space_mb(), host.memory_available_mb()
    most = LARGEST_MEMORY if used is None or available is None else int((used + available) * MB)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
