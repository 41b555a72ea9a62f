"""What a deployer's sandbox leaves open: TCP to the servers that the configuration names, and nothing on the disk.

Its files, certificates and keys are opened before. Decides, without I/O.
"""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from limpet.contracts.chunks import LARGEST_LIST
from limpet.contracts.needs import Endpoint
from limpet.contracts.updates import LARGEST_PATCHED
from limpet.deployer.part import LARGEST_INDEX
from limpet.isolation.permissions import Permissions
from limpet.updates import address

if TYPE_CHECKING:
    from limpet.wire.deploy_records import Deploy, Links

MEMORY = 96 << 20
"""Bytes that a deployer may allocate beyond what it has at its start."""
CPU_SECONDS, CPU_PER_MB = 60, 2
"""Seconds of CPU time: at least, and for each MB that may come. A slow board with TLS needs a tenth of that."""


def permissions(task: Deploy) -> Permissions:
    """Return what the sandbox leaves open."""
    if not any(source.url for source in task.request.sources):
        return Permissions()
    return Permissions(endpoints=frozenset(_endpoints(task.links)))


def limits(task: Deploy, memory: int, base: int) -> dict[int, int]:
    """Return the resource limits.

    ``memory``: bytes of address space that the process has. ``base``: bytes of the largest file that a patch is
    for. It is in memory twice for a moment; the new file's window and the patch are there too.
    """
    request = task.request
    length = request.length + sum(source.length for source in request.sources if source.patch_of)
    patched = 2 * min(base, LARGEST_PATCHED) + 2 * min(length, LARGEST_PATCHED) if base else 0
    largest = max([request.length, LARGEST_LIST, 2 * LARGEST_INDEX])
    seconds = CPU_SECONDS + CPU_PER_MB * (min(task.most_bytes, 4 * length) >> 20)
    return {
        resource.RLIMIT_FSIZE: largest,
        resource.RLIMIT_AS: memory + MEMORY + patched,
        resource.RLIMIT_CPU: seconds,
    }


def _endpoints(links: Links) -> set[Endpoint]:
    if links.proxy:
        proxy = urlsplit(links.proxy)
        return {Endpoint(proxy.hostname or "", proxy.port or 80)}
    found = set()
    for entry in links.allow:
        try:
            parsed = address.parse(entry)
        except ValueError:  # It allows nothing.
            continue
        found.add(Endpoint(parsed.host.strip("[]"), parsed.port))
    return found
