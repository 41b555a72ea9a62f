"""What a plugin needs of the system. The sandbox of its process gives exactly that."""

from __future__ import annotations

from pathlib import Path

import msgspec


class Endpoint(msgspec.Struct, frozen=True):
    """A TCP server. ``host``: name or address. ``port``: 1 to 65535."""

    host: str
    port: int


class Needs(msgspec.Struct, frozen=True, kw_only=True):
    """What a plugin opens besides the files and folders that its ``Config`` has as ``Path``.

    ``devices``: device nodes, folders in ``/dev``, or patterns such as ``/dev/video*``. Symbolic links are
    followed. ``endpoints``: TCP servers to connect to. The kernel limits connections to their ports, from
    Landlock 4 on. ``network``: any connection, for a plugin that cannot name its endpoints. ``read``: files and
    folders to read. ``write``: folders in which it makes, changes and deletes files.
    """

    devices: tuple[str, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    network: bool = False
    read: tuple[Path, ...] = ()
    write: tuple[Path, ...] = ()
