"""Who is at the other end of a connection: its address, and the user id that the kernel knows."""

from __future__ import annotations

import ipaddress
import socket
import struct
import sys
from functools import cache
from pathlib import Path
from typing import Literal

_CREDENTIALS = struct.Struct("3i")
_TABLES = ((Path("/proc/self/net/tcp"), ""), (Path("/proc/self/net/tcp6"), "::ffff:"))
_TABLES_6 = ((Path("/proc/self/net/tcp6"), ""),)
"""Where the kernel lists connections, and what IPv4 addresses begin with there."""
_ESTABLISHED = "01"
_NO_FILE = "0"
"""The inode of a socket that its program closed. The kernel then shows 0 as its user, too."""
_OVERFLOW, _USUAL_OVERFLOW = Path("/proc/sys/kernel/overflowuid"), 65534


class Connection:
    """An accepted connection.

    ``transport``: how it came. ``address``: of the client, ``local``: of this end; both empty for a Unix
    socket. ``certificate``: the name in the client's certificate, after it was verified. ``key``: what limits for
    one client are counted by.
    """

    __slots__ = (
        "_looked",
        "_owner",
        "_socket",
        "address",
        "certificate",
        "key",
        "local",
        "loopback",
        "secure",
        "transport",
    )

    def __init__(self, accepted: socket.socket, *, secure: bool = False) -> None:
        self._socket = accepted
        self.secure = secure
        self.certificate = ""
        self.transport: Literal["unix", "tcp"] = "unix" if accepted.family == socket.AF_UNIX else "tcp"
        self._owner: int | None = None
        self._looked = self.transport == "unix"
        if self.transport == "unix":
            self.address = self.local = ""
            self.loopback = True
            self._owner = user_of(accepted)
            self.key = f"uid {self._owner}"
        else:
            self.address = _plain(accepted.getpeername()[0])
            self.local = _plain(accepted.getsockname()[0])
            self.loopback = ipaddress.ip_address(self.address).is_loopback
            self.key = key_of(self.address)

    @property
    def uid(self) -> int | None:
        """User id of the client, if it is on this device. ``None`` if the kernel does not say."""
        if self.loopback and not self._looked:
            self._owner, self._looked = owner_of(self._socket), True
        return self._owner


def key_of(address: str) -> str:
    """Return what limits for a client over TCP are counted by: its address, or its IPv6 network of 64 bits.

    A program on this device has any address of the loopback that it likes. They count as one.
    """
    found = ipaddress.ip_address(address)
    if found.is_loopback:
        return "loopback"
    if isinstance(found, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((found, 64), strict=False))
    return address


def known(uid: int) -> int | None:
    """Return a user id. ``None`` if it only says that the user is of another namespace.

    A service with ``PrivateUsers=`` sees all other users so. They must not be taken for one and the same.
    """
    return None if uid == _overflow() else uid


@cache
def _overflow() -> int:
    try:
        return int(_OVERFLOW.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return _USUAL_OVERFLOW


def user_of(accepted: socket.socket) -> int | None:
    """Return the user id of a Unix socket's client, from the kernel."""
    if sys.platform != "linux":
        return None
    raw = accepted.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return known(_CREDENTIALS.unpack(raw)[1])


def owner_of(accepted: socket.socket) -> int | None:
    """Return the user id of a TCP client on this device, from the kernel's table. ``None`` if it is gone."""
    try:
        client, ours = accepted.getpeername(), accepted.getsockname()
    except OSError:
        return None
    return owner_between((client[0], client[1]), (ours[0], ours[1]))


def owner_between(client: tuple[str, int], ours: tuple[str, int]) -> int | None:
    """Return the user id of the client's socket. A program may connect to IPv4 by a socket for IPv6."""
    for path, prefix in _TABLES if ":" not in client[0] else _TABLES_6:
        try:
            table = path.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError):
            continue
        found = find_owner(table, (prefix + client[0], client[1]), (prefix + ours[0], ours[1]))
        if found is not None:
            return known(found)
    return None


def find_owner(table: str, client: tuple[str, int], ours: tuple[str, int]) -> int | None:
    """Return the user id of the socket from ``client`` to ``ours`` in a table of ``/proc/net``, see proc(5)."""
    wanted = [_entry(*client), _entry(*ours)]
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 9 and fields[1:3] == wanted:
            found = fields[3] == _ESTABLISHED and fields[9] != _NO_FILE
            return int(fields[7]) if found else None
    return None


def _entry(address: str, port: int) -> str:
    packed = ipaddress.ip_address(address).packed
    words = (packed[at : at + 4] for at in range(0, len(packed), 4))
    return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words) + f":{port:04X}"


def _plain(address: str) -> str:
    """Return an address without the name of its interface."""
    return address.partition("%")[0]
