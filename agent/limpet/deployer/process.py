"""A deployer: a process that fetches one bundle for one pipeline, and ends.

It has the network, and neither a sensor nor the broker's password. What it fetches is examined by another process.
"""

from __future__ import annotations

import fcntl
import os
import resource
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from limpet.contracts.chunks import LARGEST_LIST
from limpet.deployer import confinement
from limpet.deployer.fetching import BUNDLE, PATCH, Fetching, Opened
from limpet.deployer.part import open_files
from limpet.device import state_files
from limpet.device.host import Host
from limpet.device.system_files import MB
from limpet.errors import LimpetError
from limpet.isolation import sandbox
from limpet.untrusted import open_file
from limpet.wire.border import cleaned
from limpet.wire.channel import Channel
from limpet.wire.deploy_records import Chunk, Ended

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from limpet.deployer.web import Web
    from limpet.wire.deploy_records import Deploy

PATIENCE = 5.0
"""Seconds to wait for a deployer of an earlier daemon that is about to end."""


def run(end: socket.socket, task: Deploy) -> None:
    """Fetch the bundle, and send how that ended."""
    supervisor: Channel[Chunk] = Channel(end, Chunk, largest=LARGEST_LIST + 4096)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        supervisor.send(_fetch(supervisor, task))


def _fetch(supervisor: Channel[Chunk], task: Deploy) -> Ended:
    try:
        opened = open_all(task)
    except (OSError, LimpetError, ValueError) as error:
        return Ended("failed", cleaned(f"the deployer cannot start: {error}"))
    memory = int((Host().address_space_mb() or 1024) * MB)
    base = max((os.fstat(descriptor).st_size for descriptor in opened.bases.values()), default=0)
    for which, most in confinement.limits(task, memory, base).items():
        hard = resource.getrlimit(which)[1]
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(which, (least, least))
    sandbox.enter(confinement.permissions(task))
    return Fetching(task, opened, supervisor).run()


def open_all(task: Deploy) -> Opened:
    """Open all that the deployer needs. Afterwards it can open nothing else. ``OSError``, ``LimpetError``."""
    request = task.request
    _make(task.folder)
    stems = [BUNDLE, *([PATCH] if any(source.patch_of for source in request.sources) else [])]
    files = {stem: open_files(task.folder, stem) for stem in stems}
    state_files.sync(task.folder)
    _lock(files[BUNDLE].part, task.folder)
    wanted = {source.patch_of for source in request.sources}
    bases = {sha256: found for sha256, path in task.bases.items() if sha256 in wanted and (found := _base(path))}
    web, no_web = _web(task) if any(source.url for source in request.sources) else (None, "")
    return Opened(files, bases, web, no_web)


def _web(task: Deploy) -> tuple[Web | None, str]:
    try:
        from limpet.deployer.web import Web
    except ImportError:
        return None, "downloads need limpet[updates]; run: pip install 'limpet[updates]'"
    try:
        return Web(task.links), ""
    except (OSError, ValueError) as error:
        name = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
        return None, f"[updates]: certificates, key or proxy: {name}{error}"


def _make(folder: Path) -> None:
    """Make the folder. A link in its place, or in that of the folder above, could lead anywhere."""
    for each in (folder.parent, folder):
        if state_files.is_irregular_folder(each):
            state_files.set_aside(each)
        each.mkdir(mode=0o700, exist_ok=True)


def _lock(descriptor: int, folder: Path) -> None:
    """Keep other deployers from this file for as long as this process lives."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise OSError(0, f"another process has a lock on {folder}") from None
            time.sleep(0.05)
        else:
            return


def _base(path: Path) -> int | None:
    """Return a descriptor of a deployed bundle, ``None`` if it cannot be opened: then there is no patch for it."""
    with suppress(OSError, LimpetError), open_file(path) as file:
        return os.dup(file.fileno())
    return None
