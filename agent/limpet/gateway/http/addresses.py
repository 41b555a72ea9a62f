"""Sockets that accept connections, opened before the gateway enters its sandbox."""

from __future__ import annotations

import os
import socket
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from limpet.device import state_files
from limpet.device.unix_path import reachable
from limpet.errors import LimpetError
from limpet.tables import listen_address

if TYPE_CHECKING:
    from pathlib import Path

SOCKET_MODE = 0o660
"""Owner and group, which is the service's."""
_WAITING = 128
"""Connections that wait to be accepted."""


class ListenError(LimpetError):
    """An address cannot be listened at. The text says which one and why."""


def listen(address: str) -> socket.socket:
    """Listen at an address and port. ``ListenError``."""
    host, port = listen_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=_WAITING)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)  # Python's own text has the address again
        raise ListenError(f"{address}: {reason}") from error
    # Connections inherit it. Without it, the second part of each answer waits 40 ms for an acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def listen_at_path(path: Path) -> socket.socket:
    """Listen at a Unix socket, in place of one that an earlier process left. ``ListenError``.

    Anything else of this name is set aside.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with suppress(FileNotFoundError):
            if stat.S_ISSOCK(path.lstat().st_mode):
                path.unlink()
            else:
                state_files.set_aside(path)
        with reachable(path) as short:
            listener.bind(short)
        path.chmod(SOCKET_MODE)
        listener.listen(_WAITING)
    except OSError as error:
        listener.close()
        raise ListenError(f"{path}: {error.strerror}") from error
    return listener


def shown(listener: socket.socket) -> str:
    """Return where a socket listens, as a configuration has it."""
    name = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return str(name)
    return f"[{name[0]}]:{name[1]}" if listener.family == socket.AF_INET6 else f"{name[0]}:{name[1]}"
