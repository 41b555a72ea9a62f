"""What a process may still open once it is in its sandbox."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    from limpet.contracts.needs import Endpoint


class Permissions(NamedTuple):
    """Paths to read, folders to change, devices to use, servers to connect to.

    ``devices``: device nodes, folders in ``/dev`` or patterns, as plugins declare them. ``network``: any
    connection. ``scratch``: its own folders, in which it may also rename from one folder to another. With one,
    it may take the rights of others to an open file away, as libraries do that copy files. ``accepts``:
    connections on sockets that listen already. ``listens``: TCP ports that it may listen at. ``shared_memory``:
    files of other programs in ``/dev/shm``, to read and write.
    """

    read: frozenset[Path] = frozenset()
    change: frozenset[Path] = frozenset()
    devices: frozenset[str] = frozenset()
    endpoints: frozenset[Endpoint] = frozenset()
    network: bool = False
    scratch: frozenset[Path] = frozenset()
    accepts: bool = False
    listens: frozenset[int] = frozenset()
    shared_memory: bool = False

    @property
    def connects(self) -> bool:
        """Whether it may connect to anything."""
        return self.network or bool(self.endpoints)

    @property
    def resolves(self) -> bool:
        """Whether it has to find the addresses of names, which takes datagrams."""
        return self.network or not all(_is_address(endpoint.host) for endpoint in self.endpoints)

    def covers(self, other: Permissions) -> bool:
        """Whether a process in a sandbox with these permissions can do what ``other`` permits."""
        return (
            all(self.reads(path) for path in other.read)
            and other.change <= self.change
            and other.scratch <= self.scratch
            and other.devices <= self.devices
            and (self.network or (other.endpoints <= self.endpoints and not other.network))
            and other.accepts <= self.accepts
            and other.listens <= self.listens
            and other.shared_memory <= self.shared_memory
        )

    def joined(self, other: Permissions) -> Permissions:
        """Return the permissions of a process that does the work of both."""
        return Permissions(
            self.read | other.read,
            self.change | other.change,
            self.devices | other.devices,
            self.endpoints | other.endpoints,
            self.network or other.network,
            self.scratch | other.scratch,
            self.accepts or other.accepts,
            self.listens | other.listens,
            self.shared_memory or other.shared_memory,
        )

    def reads(self, path: Path) -> bool:
        """Whether a path, or a folder above it, may be read."""
        return not self.read.isdisjoint({path, *path.parents})


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
