"""Where the daemon's Unix socket is."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from limpet.client.errors import UnavailableError
from limpet.device import directories
from limpet.device.unix_path import reachable

if TYPE_CHECKING:
    from collections.abc import Sequence

PAUSE = 0.02
"""Seconds between two attempts to connect to a daemon that has not accepted others yet."""


def candidates(path: str | os.PathLike[str] | None) -> list[Path]:
    """Return where the socket may be. Default: where the service has it."""
    if path is not None:
        return [Path(path)]
    return [directories.RUNTIME / "limpet" / directories.API, directories.api(directories.state())]


def attempt(paths: Sequence[Path]) -> socket.socket | None:
    """Return a connection that does not block; ``None`` if others still wait to be accepted.

    ``UnavailableError`` says why there is none.
    """
    errors = []
    for path in paths:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            with reachable(path) as address:
                code = connection.connect_ex(address)
        except OSError as error:  # its folder is missing
            code = error.errno or errno.ENOENT
        if code == 0:
            return connection
        connection.close()
        if code == errno.EAGAIN:
            return None
        errors.append((path, code))
    raise _unavailable(errors)


def group(paths: Sequence[Path]) -> int:
    """Return the group that can open the socket: the daemon's. ``OSError`` if there is no socket."""
    for path in paths[:-1]:
        if path.exists():
            return path.stat().st_gid
    return paths[-1].stat().st_gid


def _unavailable(errors: Sequence[tuple[Path, int]]) -> UnavailableError:
    for path, code in errors:
        if code == errno.EACCES:
            return UnavailableError(
                f"{path}: you may not open it. Join the group of the service: sudo usermod -aG limpet $USER, and "
                "log in again"
            )
    reasons = ", ".join(f"{path}: {os.strerror(code)}" for path, code in errors)
    return UnavailableError(
        f"no daemon can be reached ({reasons}). Run one with the table [api]: limpet run. "
        'If its socket is elsewhere, name it: Client("FOLDER/api.sock")'
    )
